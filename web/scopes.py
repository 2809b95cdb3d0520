"""A sender's scope: its products, triggers and actions, its largest order, its orders per day, and the pool.

Pure rules. A sender's token is stored in another company's service, so its use is limited here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal

from domain.money import plain
from domain.orders import Side

__all__ = ["Refusal", "Scope", "order_worth", "outside", "too_large", "too_many_today", "without_trade"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Empty: no limit. Amounts in the product's quote currency, days in UTC."""

    symbols: Collection[str] = ()
    triggers: Collection[str] = ()
    actions: Collection[str] = ("buy", "sell", "close")
    max_order_quote: Decimal | None = None
    orders_per_day: int | None = None
    pool: bool = False


Refusal = Mapping[str, str]
"""`gate`, the code, and `sentence` without a full stop."""


def outside(scope: Scope, sender: str, *, action: str, symbol: str, trigger: str | None) -> Refusal | None:
    """Why an alert is outside this sender's scope; None if it isn't. `trigger` is that of a buy."""
    of = f"webhook.senders.{sender}"
    if action not in scope.actions:
        return _refusal("SENDER_ACTION", f"{sender} may only {_or(scope.actions)}, not {action} ({of}.actions)")
    if scope.symbols and symbol not in scope.symbols:
        return _refusal("SENDER_SYMBOL", f"{sender} may only trade {_or(scope.symbols)}, not {symbol} ({of}.symbols)")
    if scope.triggers and trigger is not None and trigger not in scope.triggers:
        return _refusal(
            "SENDER_TRIGGER", f"{sender} may only use the trigger {_or(scope.triggers)}, not {trigger} ({of}.triggers)"
        )
    return None


def order_worth(
    side: Side, *, quote_size: Decimal | None, base_size: Decimal | None, limit: Decimal | None, price: Decimal | None
) -> Decimal | None:
    """The maximum value of an order, in quote currency; None if it isn't known.

    A buy costs at most its limit, a sell yields its limit or more. `price` is the fresh ask of a buy, bid of a sell.
    """
    if quote_size is not None:
        return quote_size
    if side is Side.BUY:
        each = price if limit is None else limit
    else:
        each = price if limit is None or price is None else max(limit, price)
    return None if base_size is None or each is None else base_size * each


def too_large(scope: Scope, sender: str, worth: Decimal | None) -> Refusal | None:
    """Why an order of this value in quote currency (None: not known) is too large for its sender; None if it isn't."""
    if scope.max_order_quote is None:
        return None
    of = f"(webhook.senders.{sender}.max_order_quote)"
    if worth is None:
        return _refusal(
            "SENDER_ORDER_SIZE",
            f"the largest order of {sender} is {plain(scope.max_order_quote)}, and the value of this one isn't known "
            f"without a fresh price: give size_quote or a price {of}",
        )
    if worth > scope.max_order_quote:
        return _refusal(
            "SENDER_ORDER_SIZE",
            f"the largest order of {sender} is {plain(scope.max_order_quote)}, and the value of this one is "
            f"{plain(round(worth, 2))} {of}",
        )
    return None


def without_trade(scope: Scope, sender: str, symbol: str, size: Decimal) -> Refusal | None:
    """Why a sell that no open trade holds is outside this sender's scope; None if it may sell from the pool."""
    if scope.pool:
        return None
    return _refusal(
        "SENDER_POOL",
        f"no single open trade in {symbol} holds {plain(size)}, and {sender} may not sell what no trade owns "
        f"(webhook.senders.{sender}.pool)",
    )


def too_many_today(scope: Scope, sender: str) -> Refusal:
    """Why another order on this UTC day is too many."""
    return _refusal(
        "SENDER_ORDERS_PER_DAY",
        f"{sender} has had its {scope.orders_per_day} orders of this UTC day "
        f"(webhook.senders.{sender}.orders_per_day); a close is not counted",
    )


def _refusal(gate: str, sentence: str) -> Refusal:
    return {"gate": gate, "sentence": sentence}


def _or(names: Collection[str]) -> str:
    return " or ".join(names) if len(names) < 6 else f"{len(names)} others"
