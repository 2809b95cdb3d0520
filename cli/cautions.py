"""Warnings about an order or a setting that can be used and may not be meant: on stderr, before it is done."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli.output import note

if TYPE_CHECKING:
    from decimal import Decimal

    from domain.messages import OrderIntent
    from domain.round_trip import RoundTrip
    from workers.settings import Settings

__all__ = ["known_costs", "market_costs", "of_order", "warn"]

_RATE = "SELECT taker FROM fee_rates WHERE account = $1"
_MARKET = """
SELECT bid, ask FROM market_prices WHERE account = $1 AND symbol = $2 AND at > now() - make_interval(secs => $3)
"""


def warn(sentences: Iterable[str]) -> None:
    """Each as a line of its own."""
    for sentence in sentences:
        note(f"warning: {sentence}")


async def known_costs(ledger: Any, settings: "Settings") -> "RoundTrip":
    """What a round trip costs by the account's own rates, else by assumed ones. Raises the database's errors."""
    from workers.near_costs import assumed_round_trip

    trip, taker = assumed_round_trip(settings), await ledger.fetchval(_RATE, settings.account)
    return trip if taker is None else replace(trip, taker=taker, known=True)


async def market_costs(
    ledger: Any, settings: "Settings", symbol: str
) -> "tuple[RoundTrip, Decimal | None, Decimal | None]":
    """The same with the spread that is kept of a symbol, and its bid and ask (None: not known now)."""
    from domain.money import divide

    trip = await known_costs(ledger, settings)
    row = await ledger.fetchrow(_MARKET, settings.account, symbol, float(settings.risk.market_stale_after_s))
    if row is None or not row["bid"] or not row["ask"] or row["bid"] >= row["ask"]:
        return trip, None, None
    return replace(trip, spread=divide(row["ask"], row["bid"]) - 1), row["bid"], row["ask"]


async def of_order(ledger: Any, settings: "Settings", intent: "OrderIntent") -> list[str]:
    """What may not be meant of an order: stops and target of an entry, a limit. Raises the database's errors."""
    from domain.orders import OrderRole
    from domain.round_trip import far_limit, near_levels

    trip, bid, ask = await market_costs(ledger, settings, intent.symbol)
    found = [*near_levels(intent.rules, trip).values()] if intent.role is OrderRole.ENTRY else []
    if intent.limit_price is not None and (far := far_limit(intent.side, intent.limit_price, bid, ask)):
        found.append(far)
    return found
