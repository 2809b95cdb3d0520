"""The watcher's bids of open trades, stored for the processes that sell them, whose own reads of the book may fail.

A stop's re-priced limit order, and one that replaces a MARKET order, follow the market by them (EXIT-10).
"""

from __future__ import annotations

import time
from datetime import datetime
from decimal import Decimal

from activities.database import Pool
from activities.leases import HELD, Lease, LeaseLostError
from domain.watch import Watch

__all__ = ["ExitBids"]

_AT_REST_SECONDS = 5.0
"""Seconds between two writes of a bid while no exit is due or working: a person may close the trade at any time."""

# Losing an unsynced write is harmless: the next one follows soon. Only the lease's holder writes, one write after
# another, so the last one counts, even if a clock was set back in between.
_SAVE = (
    """
WITH held AS (SELECT """
    + HELD
    + """ AS so, set_config('synchronous_commit', 'off', true) AS quick), saved AS (
    INSERT INTO exit_bids (account, symbol, bid, at)
    SELECT $3, n.symbol, n.bid, n.at
      FROM unnest($4::text[], $5::numeric[], $6::timestamptz[]) AS n (symbol, bid, at), held WHERE held.so
    ON CONFLICT (account, symbol) DO UPDATE SET bid = excluded.bid, at = excluded.at)
SELECT so FROM held WHERE quick = 'off'
"""
)


class ExitBids:
    """Writes the bids during one tenure of a watcher."""

    def __init__(self, pool: Pool, account: str, lease: Lease, watch: Watch) -> None:
        self._pool = pool
        self._account = account
        self._lease = lease
        self._watch = watch
        self._saved: dict[str, tuple[datetime, float]] = {}
        """Of each symbol's last written bid: when it was received and when it was written (monotonic seconds)."""

    async def save(self) -> None:
        """Write the bids received since the last write; less often while no exit is due or working.

        Raises LeaseLostError if the lease has another holder, and the database's errors.
        """
        now, watch, lease = time.monotonic(), self._watch, self._lease
        at_work = {plan.symbol for plan in watch.plans.values() if plan.exiting or plan.due is not None}
        news: list[tuple[str, Decimal, datetime]] = []
        for symbol, state in watch.symbols.items():
            if not state.plans or state.bid is None or state.bid_at is None:
                continue
            saved_at, written = self._saved.get(symbol, (None, -_AT_REST_SECONDS))
            if saved_at != state.bid_at and (symbol in at_work or now - written >= _AT_REST_SECONDS):
                news.append((symbol, state.bid, state.bid_at))
        if not news:
            return
        symbols, bids, times = ([item[place] for item in news] for place in range(3))
        if not await self._pool.fetchval(_SAVE, lease.name, lease.epoch, self._account, symbols, bids, times):
            raise LeaseLostError(f"the lease {lease.name} is another holder's by now")
        self._saved |= {symbol: (at, now) for symbol, _, at in news}
