"""The tables of candles and of the newest market state.

Each candle is stored once and only ever grows: what says less volume than is known comes late and is left out. Writers
of the stream's news hold a lease, so that a stalled predecessor can't write (INGEST-2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np

from activities.database import Pool
from activities.leases import HELD, Lease, LeaseLostError
from domain.indicators import Block
from exchange.port import Candle

__all__ = ["CANDLE", "CANDLE_SECONDS", "CandleTable", "MarketRow"]

CANDLE_SECONDS: Final = 300
"""The length of the candles that decisions are made on: what the exchange's stream has."""
CANDLE: Final = timedelta(seconds=CANDLE_SECONDS)

_SAVE = (
    """
WITH held AS (SELECT """
    + HELD
    + """ AS so), candle AS (
    INSERT INTO candles (symbol, seconds, start, open, high, low, close, volume)
    SELECT n.symbol, $11, n.start, n.open, n.high, n.low, n.close, n.volume
      FROM unnest($3::text[], $4::timestamptz[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
                  $9::numeric[]) AS n (symbol, start, open, high, low, close, volume), held WHERE held.so
    ON CONFLICT (symbol, seconds, start) DO UPDATE
       SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
           volume = excluded.volume
     WHERE excluded.volume > candles.volume OR (excluded.volume = candles.volume AND excluded.close <> candles.close)
), state AS (
    INSERT INTO market_state (symbol, price, bid, ask, change_24h, quote_volume_24h, at)
    SELECT n.symbol, n.price, n.bid, n.ask, n.change_24h, n.quote_volume_24h, n.at
      FROM jsonb_to_recordset($10::jsonb) AS n (symbol text, price numeric, bid numeric, ask numeric,
           change_24h numeric, quote_volume_24h numeric, at timestamptz), held WHERE held.so
    ON CONFLICT (symbol) DO UPDATE
       SET price = COALESCE(excluded.price, market_state.price), bid = COALESCE(excluded.bid, market_state.bid),
           ask = COALESCE(excluded.ask, market_state.ask),
           change_24h = COALESCE(excluded.change_24h, market_state.change_24h),
           quote_volume_24h = COALESCE(excluded.quote_volume_24h, market_state.quote_volume_24h),
           at = GREATEST(excluded.at, market_state.at)
)
SELECT so FROM held
"""
)
_MISSING = """
SELECT s.symbol, min(g.start) AS first, max(g.start) AS last
  FROM unnest($1::text[]) AS s (symbol)
 CROSS JOIN generate_series($2::timestamptz, $3::timestamptz, make_interval(secs => $4)) AS g (start)
  LEFT JOIN candles c ON c.symbol = s.symbol AND c.seconds = $4 AND c.start = g.start
 WHERE c.symbol IS NULL GROUP BY s.symbol
"""
_NEWEST = """
SELECT max(n.start) FROM unnest($1::text[]) AS s (symbol),
       LATERAL (SELECT start FROM candles WHERE symbol = s.symbol AND seconds = $2 ORDER BY start DESC LIMIT 1) n
"""
_BLOCK = """
SELECT s.place - 1 AS row, c.at, c.open, c.high, c.low, c.close, c.volume
  FROM unnest($1::text[]) WITH ORDINALITY AS s (symbol, place),
       LATERAL (SELECT array_agg(extract(epoch FROM start - $2)::int / $4) AS at, array_agg(open::float8) AS open,
                       array_agg(high::float8) AS high, array_agg(low::float8) AS low,
                       array_agg(close::float8) AS close, array_agg(volume::float8) AS volume
                  FROM candles WHERE symbol = s.symbol AND seconds = $4 AND start >= $2 AND start <= $3) c
 WHERE c.at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class MarketRow:
    """A symbol's newest state. Prices in quote per base; the day's change is a fraction."""

    symbol: str
    price: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    change_24h: Decimal | None = None
    quote_volume_24h: Decimal | None = None
    at: datetime | None = None
    """When the price was received; None: this row says nothing of prices."""


class CandleTable:
    """Candles of five minutes and the market's newest state. Every method raises the database's errors."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def save(self, lease: Lease, candles: Sequence[Candle], states: Sequence[MarketRow] = ()) -> None:
        """Store what is new in one statement. Raises LeaseLostError if the lease is another's."""
        documents = [
            {name: getattr(row, name) for name in MarketRow.__slots__ if getattr(row, name) is not None}
            for row in states
        ]
        held = await self._pool.fetchval(
            _SAVE,
            lease.name,
            lease.epoch,
            [item.symbol for item in candles],
            [item.start for item in candles],
            [item.open for item in candles],
            [item.high for item in candles],
            [item.low for item in candles],
            [item.close for item in candles],
            [item.volume for item in candles],
            documents,
            CANDLE_SECONDS,
        )
        if not held:
            raise LeaseLostError(f"the lease {lease.name} is another holder's by now")

    async def missing(
        self, symbols: Sequence[str], first: datetime, last: datetime
    ) -> dict[str, tuple[datetime, datetime]]:
        """For each symbol without all candles in `first`…`last`: the first and the last start that are not there."""
        rows = await self._pool.fetch(_MISSING, list(symbols), first, last, CANDLE_SECONDS)
        return {row["symbol"]: (row["first"], row["last"]) for row in rows}

    async def newest(self, symbols: Sequence[str]) -> datetime | None:
        """When the newest candle of any of these symbols began."""
        found: datetime | None = await self._pool.fetchval(_NEWEST, list(symbols), CANDLE_SECONDS)
        return found

    async def block(self, symbols: Sequence[str], last: datetime, count: int) -> Block:
        """The `count` candles up to the one that begins at `last`, NaN where there is none."""
        first = last - CANDLE * (count - 1)
        rows = await self._pool.fetch(_BLOCK, list(symbols), first, last, CANDLE_SECONDS)
        columns = {name: np.full((len(symbols), count), np.nan) for name in ("open", "high", "low", "close", "volume")}
        for row in rows:
            at = np.array(row["at"])
            for name, values in columns.items():
                values[row["row"], at] = row[name]
        return Block(tuple(symbols), **columns)

    async def states(self, symbols: Sequence[str]) -> Mapping[str, MarketRow]:
        """The newest state of those symbols that have one."""
        rows = await self._pool.fetch("SELECT * FROM market_state WHERE symbol = ANY($1)", list(symbols))
        return {row["symbol"]: MarketRow(**dict(row)) for row in rows}

    async def forget(self, before: datetime) -> None:
        """Delete candles that began before."""
        await self._pool.execute("DELETE FROM candles WHERE start < $1", before)
