"""Warnings about an order or a setting that is valid but may be a mistake: on stderr, before it is carried out."""

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


def warn(sentences: Iterable[str]) -> None:
    """Print each on its own line."""
    for sentence in sentences:
        note(f"warning: {sentence}")


async def known_costs(ledger: Any, settings: "Settings") -> "RoundTrip":
    """The cost of a round trip at the account's own fee rates, else at assumed ones. Raises the database's errors."""
    from web.views.costs import taker_rate
    from workers.settings.near_costs import assumed_round_trip

    return _with_rate(assumed_round_trip(settings), await taker_rate(ledger, settings.account))


async def market_costs(
    ledger: Any, settings: "Settings", symbol: str
) -> "tuple[RoundTrip, Decimal | None, Decimal | None]":
    """The same with a symbol's stored spread, and its bid and ask (None: not known now)."""
    from domain.round_trip import spread_of
    from web.views.costs import read_costs
    from workers.settings.near_costs import assumed_round_trip

    found = await read_costs(ledger, settings.account, symbol, float(settings.risk.market_stale_after_s))
    trip, spread = _with_rate(assumed_round_trip(settings), found.taker), spread_of(found.bid, found.ask)
    return (trip, None, None) if spread is None else (replace(trip, spread=spread), found.bid, found.ask)


def _with_rate(trip: "RoundTrip", taker: "Decimal | None") -> "RoundTrip":
    return trip if taker is None else replace(trip, taker=taker, known=True)


async def of_order(ledger: Any, settings: "Settings", intent: "OrderIntent") -> list[str]:
    """Warnings about an order. Raises the database's errors."""
    from domain.round_trip import of_order

    return of_order(intent, *await market_costs(ledger, settings, intent.symbol))
