"""The tables of candles and of the newest prices, by account: each account has its own venue and mode (RISK-7).

Each candle is stored once; `domain.candles` decides which version holds. Writers hold a lease, so that a stalled
predecessor can't write (INGEST-2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np

from activities.database import Pool
from activities.leases import HELD, Lease, LeaseLostError
from domain.candles import CANDLE, CANDLE_SECONDS, settles
from domain.indicators import Block
from domain.market import Candle

__all__ = ["CandleTable", "MarketRow"]

_SAVE = (
    """
WITH held AS (SELECT """
    + HELD
    + """ AS so), candle AS (
    INSERT INTO candles AS known (account, symbol, seconds, start, open, high, low, close, volume, settled)
    SELECT $12::text, n.symbol, $11, n.start, n.open, n.high, n.low, n.close, n.volume, n.settled
      FROM unnest($3::text[], $4::timestamptz[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
                  $9::numeric[], $13::bool[]) AS n (symbol, start, open, high, low, close, volume, settled), held
     WHERE held.so
    ON CONFLICT (account, symbol, seconds, start) DO UPDATE
       SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
           volume = excluded.volume, settled = excluded.settled
     -- `domain.candles.holds`; what says nothing new isn't written
     WHERE (excluded.settled OR NOT known.settled)
       AND (excluded.volume, excluded.close, excluded.high, excluded.low, excluded.open, excluded.settled)
           IS DISTINCT FROM (known.volume, known.close, known.high, known.low, known.open, known.settled)
), state AS (
    INSERT INTO market_prices AS known (account, symbol, price, bid, ask, change_24h, quote_volume_24h, at)
    SELECT $12::text, n.symbol, n.price, n.bid, n.ask, n.change_24h, n.quote_volume_24h, n.at
      FROM jsonb_to_recordset($10::jsonb) AS n (symbol text, price numeric, bid numeric, ask numeric,
           change_24h numeric, quote_volume_24h numeric, at timestamptz), held WHERE held.so
    ON CONFLICT (account, symbol) DO UPDATE
       SET price = COALESCE(excluded.price, known.price), bid = COALESCE(excluded.bid, known.bid),
           ask = COALESCE(excluded.ask, known.ask), change_24h = COALESCE(excluded.change_24h, known.change_24h),
           quote_volume_24h = COALESCE(excluded.quote_volume_24h, known.quote_volume_24h),
           at = GREATEST(excluded.at, known.at)
)
SELECT so FROM held
"""
)
_MISSING = """
SELECT s.symbol, min(g.start) AS first, max(g.start) AS last
  FROM unnest($1::text[]) AS s (symbol)
 CROSS JOIN generate_series($2::timestamptz, $3::timestamptz, make_interval(secs => $4)) AS g (start)
  LEFT JOIN candles c ON c.account = $5 AND c.symbol = s.symbol AND c.seconds = $4 AND c.start = g.start
 WHERE c.symbol IS NULL GROUP BY s.symbol
"""
_NEWEST = """
SELECT max(n.start) FROM unnest($1::text[]) AS s (symbol),
       LATERAL (SELECT start FROM candles WHERE account = $3 AND symbol = s.symbol AND seconds = $2
                 ORDER BY start DESC LIMIT 1) n
"""
# Floats as their eight bytes end to end: as arrays they take longer to build, to send and to read.
_BLOCK = """
SELECT s.place - 1 AS row, c.*
  FROM unnest($1::text[]) WITH ORDINALITY AS s (symbol, place),
       LATERAL (SELECT array_agg(extract(epoch FROM start - $2)::int / $4) AS at,
                       string_agg(float8send(open::float8), '') AS open,
                       string_agg(float8send(high::float8), '') AS high,
                       string_agg(float8send(low::float8), '') AS low,
                       string_agg(float8send(close::float8), '') AS close,
                       string_agg(float8send(volume::float8), '') AS volume
                  FROM candles WHERE account = $5 AND symbol = s.symbol AND seconds = $4
                   AND start >= $2 AND start <= $3) c
 WHERE c.at IS NOT NULL
"""
_STATES = """
SELECT symbol, price, bid, ask, change_24h, quote_volume_24h, at FROM market_prices
 WHERE account = $1 AND symbol = ANY($2)
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
    """When the price was received; None: this row has no price."""


class CandleTable:
    """An account's candles of five minutes and its market's newest state. Every method raises the database's errors."""

    def __init__(self, pool: Pool, account: str) -> None:
        self._pool = pool
        self._account = account

    async def save(
        self,
        lease: Lease,
        candles: Sequence[Candle],
        states: Sequence[MarketRow] = (),
        *,
        last_closed: datetime | None = None,
    ) -> None:
        """Store what is new in one statement. Raises LeaseLostError if the lease is another's.

        `last_closed` for candles from the venue's records (REST): the opening time of the newest closed one.
        """
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
            self._account,
            [settles(item.start, last_closed) for item in candles],
        )
        if not held:
            raise LeaseLostError(f"the lease {lease.name} is another holder's by now")

    async def missing(
        self, symbols: Sequence[str], first: datetime, last: datetime
    ) -> dict[str, tuple[datetime, datetime]]:
        """For each symbol with missing candles in `first`…`last`: the first and the last missing start."""
        rows = await self._pool.fetch(_MISSING, list(symbols), first, last, CANDLE_SECONDS, self._account)
        return {row["symbol"]: (row["first"], row["last"]) for row in rows}

    async def newest(self, symbols: Sequence[str]) -> datetime | None:
        """The opening time of the newest candle of any of these symbols."""
        found: datetime | None = await self._pool.fetchval(_NEWEST, list(symbols), CANDLE_SECONDS, self._account)
        return found

    async def block(self, symbols: Sequence[str], last: datetime, count: int) -> Block:
        """The `count` candles up to the one that opens at `last`, NaN where there is none."""
        first = last - CANDLE * (count - 1)
        rows = await self._pool.fetch(_BLOCK, list(symbols), first, last, CANDLE_SECONDS, self._account)
        columns = {name: np.full((len(symbols), count), np.nan) for name in ("open", "high", "low", "close", "volume")}
        for row in rows:
            at = np.array(row["at"])
            for name, values in columns.items():
                values[row["row"], at] = np.frombuffer(row[name], ">f8")
        return Block(tuple(symbols), **columns)

    async def states(self, symbols: Sequence[str]) -> Mapping[str, MarketRow]:
        """The newest state of those symbols that have one."""
        rows = await self._pool.fetch(_STATES, self._account, list(symbols))
        return {row["symbol"]: MarketRow(**dict(row)) for row in rows}

    async def forget(self, before: datetime) -> None:
        """Delete the account's candles that opened before this time."""
        await self._pool.execute("DELETE FROM candles WHERE account = $1 AND start < $2", self._account, before)
