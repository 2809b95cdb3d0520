"""Turns a decision into the entry that carries it out: one function for each entry point.

Automatic decisions use the trigger table (`[triggers.<name>]`) for size, order style, expiry, exits and protection. A
decision is too old after `valid_seconds` of wall time at any speed of the paper market, as for stale prices (PAPER);
the order's expiry is in market time. A trigger without rules is refused. A person states all of this themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from domain.errors import BotTraderError
from domain.exits import ExitRules
from domain.ids import intent_key
from domain.messages import Linkage, OrderIntent
from domain.money import EXACT, plain, round_down
from domain.orders import EntryPoint, OrderRole, OrderType, Side, TimeInForce
from domain.protection import Protection

__all__ = [
    "QUOTE_VALID_SECONDS",
    "AccountWorth",
    "EntryError",
    "EntryStyle",
    "TriggerRules",
    "Triggers",
    "alert_entry",
    "buy_key",
    "entry",
    "quote_bid",
    "rules_of",
    "strategy_entry",
    "triggered_entry",
]

QUOTE_VALID_SECONDS = 15
"""Wall seconds after which an unsent quote is dropped."""
_SMALLEST = Decimal("0.00000001")
"""A share of the account is rounded down to this; a product's own increment may be larger."""


class EntryError(BotTraderError):
    """No entry can be made as asked. `code` is for programs, `sentence` a clause for people without a full stop."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class EntryStyle(StrEnum):
    """How an entry is placed, in the words of the settings."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    """Rests until it fills or expires."""
    LIMIT_IOC = "LIMIT_IOC"
    """Fills at once at its price or better; the rest is cancelled."""
    LIMIT_POST_ONLY = "LIMIT_POST_ONLY"
    """Rests and only trades as maker."""


_PLACED: Mapping[EntryStyle, tuple[OrderType, TimeInForce, bool]] = {
    # style → order type, time in force, post-only
    EntryStyle.MARKET: (OrderType.MARKET, TimeInForce.IOC, False),
    EntryStyle.LIMIT: (OrderType.LIMIT, TimeInForce.GTC, False),
    EntryStyle.LIMIT_IOC: (OrderType.LIMIT, TimeInForce.IOC, False),
    EntryStyle.LIMIT_POST_ONLY: (OrderType.LIMIT, TimeInForce.GTC, True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRules:
    """How a trigger's entries are made: its row of the trigger table. One of the three sizes is given."""

    size_quote: Decimal | None = None
    """Amount to spend, quote currency."""
    size_base: Decimal | None = None
    """Amount to buy, base currency."""
    size_share: Decimal | None = None
    """Share of the account's value to spend, a fraction."""
    style: EntryStyle = EntryStyle.LIMIT_POST_ONLY
    expiry: Decimal = Decimal(300)
    """Market seconds after which a resting entry is cancelled."""
    valid_seconds: float = 60.0
    """Wall seconds after which an unsent decision is dropped."""
    source: str = "sighook"
    exits: ExitRules = field(default_factory=ExitRules)
    protection: Protection | None = None
    """What rests at the exchange; None: only monitored exits."""


@dataclass(frozen=True, slots=True)
class AccountWorth:
    """What an account is worth in a quote currency; None while that isn't known, and then why, as a clause."""

    amount: Decimal | None = None
    why: str = "nobody has asked for it"


Triggers = Mapping[str, TriggerRules]
"""The trigger table: rules by the trigger's name."""


def rules_of(triggers: Triggers, name: str) -> TriggerRules:
    """A trigger's row of the table. Raises EntryError UNKNOWN_TRIGGER."""
    rules = triggers.get(name)
    if rules is None:
        raise EntryError(
            "UNKNOWN_TRIGGER",
            f"there are no settings for the trigger {name} (there are for {', '.join(sorted(triggers))}); "
            f"add a section [triggers.{name}]",
        )
    return rules


def buy_key(entry_point: EntryPoint, account: str, request_id: str, symbol: str) -> str:
    """The order key of an entry: one request buys a product once."""
    return intent_key(entry_point, request_id, account, symbol, Side.BUY)


def entry(
    *,
    entry_point: EntryPoint,
    account: str,
    request_id: str,
    symbol: str,
    linkage: Linkage,
    source: str,
    order_type: OrderType,
    time_in_force: TimeInForce,
    rules: ExitRules,
    post_only: bool = False,
    base_size: Decimal | None = None,
    quote_size: Decimal | None = None,
    limit_price: Decimal | None = None,
    expires_after: Decimal | None = None,
    valid_until: datetime | None = None,
    protection: Protection | None = None,
    signal_exit: bool = False,
    dry_run: bool = False,
    asked_by: str = "",
) -> OrderIntent:
    """The intent to buy as given. Its key is derived from entry point, request, account and symbol: the same request is
    the same order. A MARKET order has no price. Fields: `OrderIntent`.
    """
    return OrderIntent(
        order_key=buy_key(entry_point, account, request_id, symbol),
        account=account,
        symbol=symbol,
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=order_type,
        base_size=base_size,
        quote_size=quote_size,
        limit_price=None if order_type is OrderType.MARKET else limit_price,
        time_in_force=time_in_force,
        post_only=post_only,
        expires_after=expires_after,
        valid_until=valid_until,
        source=source,
        entry_point=entry_point,
        request_id=request_id,
        linkage=linkage,
        rules=rules,
        signal_exit=signal_exit,
        protection=protection,
        dry_run=dry_run,
        asked_by=asked_by,
    )


def triggered_entry(
    rules: TriggerRules,
    *,
    entry_point: EntryPoint,
    account: str,
    request_id: str,
    symbol: str,
    linkage: Linkage,
    now: datetime,
    asked_by: str = "",
    size_quote: Decimal | None = None,
    size_base: Decimal | None = None,
    limit_price: Decimal | None = None,
    style: EntryStyle | None = None,
    source: str | None = None,
    dry_run: bool = False,
    worth: AccountWorth | None = None,
) -> OrderIntent:
    """The buy of a trigger by its rules; arguments that are given replace them.

    Args:
        now: when it was decided (zoned).
        size_quote: amount to spend, quote currency; `size_base`: amount to buy, base currency; else the rules' size.
        limit_price: quote per base; LIMIT orders need one, MARKET orders ignore it.
        worth: what the account is worth in the product's quote currency, for rules whose size is a share of it.

    Raises EntryError BAD_SIZE where both sizes are given, WORTH_NOT_KNOWN where `worth` is wanted and not known.
    """
    if size_quote is not None and size_base is not None:
        raise EntryError("BAD_SIZE", "give a size in quote or in base currency, not both")
    if size_quote is None and size_base is None:
        size_quote, size_base = rules.size_quote, rules.size_base
        if rules.size_share is not None:
            size_quote = _share(rules.size_share, linkage.trigger, worth or AccountWorth())
    order_type, in_force, post_only = _PLACED[style or rules.style]
    return entry(
        entry_point=entry_point,
        account=account,
        request_id=request_id,
        symbol=symbol,
        linkage=linkage,
        source=source or rules.source,
        order_type=order_type,
        time_in_force=in_force,
        rules=rules.exits,
        post_only=post_only,
        base_size=size_base,
        quote_size=size_quote,
        limit_price=limit_price,
        # An order that can't rest ends by itself.
        expires_after=rules.expiry if in_force is TimeInForce.GTC else None,
        valid_until=now + timedelta(seconds=rules.valid_seconds),
        protection=rules.protection,
        dry_run=dry_run,
        asked_by=asked_by,
    )


def _share(share: Decimal, trigger: str, worth: AccountWorth) -> Decimal:
    """The amount that is this share of the account, rounded down. Raises EntryError WORTH_NOT_KNOWN."""
    if worth.amount is None:
        raise EntryError(
            "WORTH_NOT_KNOWN",
            f"{trigger} buys for {plain(100 * share)} % of the account's value, which is not known: {worth.why}",
        )
    return round_down(EXACT.multiply(worth.amount, share), _SMALLEST)


def strategy_entry(
    triggers: Triggers,
    *,
    account: str,
    request_id: str,
    symbol: str,
    linkage: Linkage,
    now: datetime,
    bid: Decimal,
    ask: Decimal,
    asked_by: str,
    worth: AccountWorth | None = None,
) -> OrderIntent:
    """The buy that a strategy decided on, by the rules of `linkage.trigger`. Raises EntryError UNKNOWN_TRIGGER,
    WORTH_NOT_KNOWN.
    """
    rules = rules_of(triggers, linkage.trigger)
    return triggered_entry(
        rules,
        entry_point=EntryPoint.STRATEGY,
        account=account,
        request_id=request_id,
        symbol=symbol,
        linkage=linkage,
        now=now,
        # What rests is offered at the bid; what is to be filled takes the ask.
        limit_price=bid if rules.style is EntryStyle.LIMIT_POST_ONLY else ask,
        asked_by=asked_by,
        worth=worth,
    )


def alert_entry(
    triggers: Triggers,
    *,
    account: str,
    request_id: str,
    symbol: str,
    linkage: Linkage,
    now: datetime,
    source: str,
    asked_by: str,
    size_quote: Decimal | None = None,
    size_base: Decimal | None = None,
    limit_price: Decimal | None = None,
    style: EntryStyle | None = None,
    dry_run: bool = False,
    worth: AccountWorth | None = None,
) -> OrderIntent:
    """The buy that an alert requests, by the rules of `linkage.trigger`. A price caps what a trigger that buys at
    MARKET pays. Raises EntryError UNKNOWN_TRIGGER, BAD_SIZE, WORTH_NOT_KNOWN.
    """
    rules = rules_of(triggers, linkage.trigger)
    if style is None and limit_price is not None and rules.style is EntryStyle.MARKET:
        style = EntryStyle.LIMIT_IOC
    return triggered_entry(
        rules,
        entry_point=EntryPoint.WEBHOOK,
        account=account,
        request_id=request_id,
        symbol=symbol,
        linkage=linkage,
        now=now,
        asked_by=asked_by,
        size_quote=size_quote,
        size_base=size_base,
        limit_price=limit_price,
        style=style,
        source=source,
        dry_run=dry_run,
        worth=worth,
    )


def quote_bid(
    rules: TriggerRules,
    *,
    account: str,
    request_id: str,
    symbol: str,
    linkage: Linkage,
    now: datetime,
    price: Decimal,
    size: Decimal,
) -> OrderIntent:
    """The market maker's bid for `size` (base): post-only regardless of the rules, and with an expiry at the exchange
    in case no process is running to cancel it.
    """
    bid = triggered_entry(
        rules,
        entry_point=EntryPoint.MARKET_MAKER,
        account=account,
        request_id=request_id,
        symbol=symbol,
        linkage=linkage,
        now=now,
        size_base=size,
        limit_price=price,
        style=EntryStyle.LIMIT_POST_ONLY,
    )
    until = now + timedelta(seconds=min(QUOTE_VALID_SECONDS, rules.valid_seconds))
    return bid.model_copy(update={"time_in_force": TimeInForce.GTD, "valid_until": until})
