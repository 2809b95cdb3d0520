"""Candles that have closed, a fixed count of them: who asks for the same count has the same reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from exchange.port import Candle, Exchange

__all__ = ["begins", "closed_candles"]

_CANDLES_A_CALL = 300
_FURTHER = 4
"""How much further back is looked where the venue has no candle of times without a trade."""


def begins(moment: datetime, seconds: int) -> datetime:
    """When the candle of this moment began."""
    return datetime.fromtimestamp(int(moment.timestamp()) // seconds * seconds, UTC)


async def closed_candles(exchange: Exchange, symbol: str, seconds: int, before: datetime, count: int) -> list[Candle]:
    """The newest `count` candles that began before `before`, oldest first; fewer only where the venue has no more.

    Raises Unavailable.
    """
    span = timedelta(seconds=seconds * max(count, _CANDLES_A_CALL))
    found = await exchange.candles(symbol, seconds, before - span, before)
    if len(found) < count:
        found = await exchange.candles(symbol, seconds, before - _FURTHER * span, before)
    return list(found)[-count:]
