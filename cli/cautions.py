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
    from workers.settings.near_costs import assumed_round_trip

    trip, taker = assumed_round_trip(settings), await ledger.fetchval(_RATE, settings.account)
    return trip if taker is None else replace(trip, taker=taker, known=True)


async def market_costs(
    ledger: Any, settings: "Settings", symbol: str
) -> "tuple[RoundTrip, Decimal | None, Decimal | None]":
    """The same with the spread that is kept of a symbol, and its bid and ask (None: not known now)."""
    from domain.round_trip import spread_of

    trip = await known_costs(ledger, settings)
    row = await ledger.fetchrow(_MARKET, settings.account, symbol, float(settings.risk.market_stale_after_s))
    spread = None if row is None else spread_of(row["bid"], row["ask"])
    return (trip, None, None) if spread is None else (replace(trip, spread=spread), row["bid"], row["ask"])


async def of_order(ledger: Any, settings: "Settings", intent: "OrderIntent") -> list[str]:
    """What may not be meant of an order. Raises the database's errors."""
    from domain.round_trip import of_order

    return of_order(intent, *await market_costs(ledger, settings, intent.symbol))
