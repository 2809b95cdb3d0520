"""An entry as it waits to be decided, and what the gates are told of it: one read of the ledger, as `Facts`.

The statement is `activities.orders.admission_sql.ENTRY_FACTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from activities.database import Record
from activities.orders.group_limits import EntryLimits
from activities.orders.limits import results_of
from activities.orders.touches import is_fresh, says_something
from activities.policy import Policy
from domain.drafting import Draft
from domain.gate_facts import AHEAD_SECONDS, Facts, GateResult, Limits, MarketFacts
from domain.identity import Standing
from domain.market import Product
from domain.messages import OrderIntent
from domain.money import ZERO
from domain.pool import Coin, payable

__all__ = ["Entry", "disabled_why", "facts_of", "limits_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that waits to be decided: the first attempt, what one base unit is worth, what it needs and may pay."""

    intent: OrderIntent
    product: Product | None
    draft: Draft
    price: Decimal | None
    needed: Decimal
    rate: Decimal
    taker: Decimal | None
    """What an exit will cost at most, as a fraction; None: not known."""
    market: MarketFacts | None
    """The touch if it was asked for; None: the one that is kept for all."""
    needs_touch: bool
    """The exchange is to be asked if the touch that is kept is too old."""
    drafted_by_touch: bool = False
    """Size or price of the first attempt follow from that touch."""
    patient: bool = True
    """What isn't known is asked for, and not refused yet."""
    since: datetime | None = None
    """The balance was asked for, for this entry, at this time."""
    undecided: Sequence[GateResult] = ()
    """What the gates said when it last had to wait: why it is refused if its decision is over by then."""


def limits_of(policy: Policy) -> Limits:
    """What entries are held to, as the gates want it."""
    return Limits(
        max_open_buys=policy.max_open_buys,
        max_open_trades=policy.max_open_trades,
        max_spread=policy.max_spread,
        buy_on_red_day=policy.buy_on_red_day,
        max_position=policy.max_position,
        daily_loss=policy.daily_loss_limit,
        losing_streak=policy.losing_streak,
        stale_seconds=policy.market_stale_seconds,
        balance_stale_seconds=policy.balance_stale_seconds,
    )


def disabled_why(symbol: str, policy: Policy) -> str:
    """Why a symbol may not be bought at all; empty if it may."""
    if symbol in policy.disabled:
        return "it is switched off (symbols.disabled)"
    if policy.allowed and symbol not in policy.allowed:
        return "it is not among the symbols that may be bought (symbols.allow)"
    return ""


def facts_of(
    entry: Entry,
    market: MarketFacts,
    row: Record,
    policy: Policy,
    standing: Standing,
    prices: Mapping[str, Decimal],
    coin: Coin | None,
    own: EntryLimits,
) -> Facts:
    """The facts as they were read; `prices` of what is held, where none is kept, `coin` of what the entry pays with,
    `own` limits of strategies and triggers.
    """
    intent, total, age = entry.intent, row["total"], row["balance_age"]
    if age is None or not -AHEAD_SECONDS <= age <= policy.balance_stale_seconds:
        total = None
    held, others, unpriced = _worth_of(intent.symbol, market, row, policy, prices)
    available = None if total is None else total - row["promised"] - row["held_elsewhere"]
    why = ""
    if coin is not None and entry.product is not None and (available is not None or coin.books is None):
        unclaimed = payable(coin, available, entry.product.quote)
        available, why = unclaimed.size, unclaimed.why
    return Facts(
        intent=intent,
        now=datetime.now(UTC),
        product=entry.product,
        price=entry.price,
        size=entry.draft.base_size,
        standing=standing,
        dry_run=policy.dry_run,
        halted=row["halted"],
        halted_by=_halted_by(row),
        blocked=intent.symbol in policy.blocked,
        disabled=disabled_why(intent.symbol, policy),
        limits=limits_of(policy),
        market=_with_change(market, row, entry.product, policy),
        open_trades=own.open_trades,
        groups=own.of(intent.linkage.trigger),
        own_rate=own.own_rate,
        own_currency=policy.currency,
        open_buys=row["open_buys"],
        open_buys_value=row["open_buys_value"],
        held_value=held,
        account_worth=None if total is None or held is None or unpriced else total + others + held,
        unpriced=unpriced,
        results=results_of(row),
        available_quote=available,
        balance_age=age,
        held_elsewhere=row["held_elsewhere"],
        quote_why=why,
        needed_quote=entry.needed,
    )


def _worth_of(
    symbol: str, market: MarketFacts, row: Record, policy: Policy, prices: Mapping[str, Decimal]
) -> tuple[Decimal | None, Decimal, tuple[str, ...]]:
    """What open trades of the symbol are worth, what those of others, and the symbols of which no price is known."""
    unpriced: list[str] = []
    held = row["held_value"] if row["held_size"] else ZERO
    if row["held_size"]:
        newest = market.bid if market.bid and says_something(market, policy) else None
        newest = prices.get(symbol) if newest is None and held is None else newest
        held = held if newest is None else row["held_size"] * newest
        if held is None:
            unpriced.append(symbol)
    others: Decimal = row["others_value"] or ZERO
    for other, size in zip(row["unpriced"], row["unpriced_sizes"], strict=True):
        if other in prices:
            others += size * prices[other]
        else:
            unpriced.append(other)
    return held, others, tuple(unpriced)


def _halted_by(row: Record) -> str:
    """By whom entries are halted, and why if that was said."""
    return ": ".join(part for part in (row["halted_by"] or "an unknown person", row["halted_why"]) if part)


def _with_change(market: MarketFacts, row: Record, product: Product | None, policy: Policy) -> MarketFacts:
    """The 24-hour change as it is kept for all, if that is fresh; else as the product's rules had it a minute ago."""
    kept = row["change_24h"]
    of_product = product.change_24h if product else None
    if kept is None or (of_product is not None and not is_fresh(row["seen_at"], policy)):
        kept = of_product
    return replace(market, change_24h=kept)
