"""How long each position had no watcher (EXIT-9): since its first fill at the exchange, and between tenures.

A watcher notes when it first holds a position's plan. What lies between the fill and that moment, and between the last
sign of life of an earlier watcher and the present one's beginning, is added to the trade. One statement for all plans
that came within a second, so it costs a trade one small write. A fill carries the exchange's time, so how far its clock
is from ours is looked at now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import structlog

from activities.database import Pool
from activities.incidents import report_past
from activities.leases import HELD, Lease
from activities.measures import SILENT, Measures
from domain.incidents import IncidentKind
from exchange.port import ExchangeError

__all__ = ["UNPROTECTED", "UnprotectedTime"]

_log = structlog.get_logger(__name__)

UNPROTECTED = IncidentKind.POSITION_UNPROTECTED
_ASK_SECONDS = 3.0
_FIRST_LOOKS = 5

# Rows that a transaction of the ledger holds are left for the next time: no waiting, no deadlock.
_MEASURE = (
    """
WITH seen AS (
    SELECT * FROM unnest($3::text[], $4::timestamptz[]) AS s (entry_key, held_at)
), spans AS (
    SELECT t.entry_key, t.symbol, s.held_at, t.watched_at IS NULL OR $5 AS counts,
           CASE WHEN t.watched_at IS NULL
                THEN greatest(extract(epoch FROM s.held_at - t.opened_at) + $6::float8::numeric, 0)
                WHEN l.vacant_since IS NULL THEN 0
                ELSE greatest(extract(epoch FROM s.held_at - greatest(t.watched_at, l.vacant_since)), 0) END AS span
      FROM trades t JOIN seen s USING (entry_key) JOIN leases l ON l.name = $1
     WHERE """
    + HELD
    + """
       FOR UPDATE OF t SKIP LOCKED
), counted AS (
    UPDATE trades t SET watched_at = s.held_at, unprotected_seconds = t.unprotected_seconds + s.span
      FROM spans s WHERE t.entry_key = s.entry_key AND s.counts
)
SELECT entry_key, symbol, CASE WHEN counts THEN span ELSE 0 END::float8 AS span FROM spans
"""
)


class UnprotectedTime:
    """Measures for one tenure of a watcher's lease.

    Args:
        after_seconds: a longer span is an incident (wall).
        server_time: asks for the exchange's time.
        measures: is told each span.
    """

    def __init__(
        self,
        pool: Pool,
        account: str,
        lease: Lease,
        *,
        after_seconds: float,
        server_time: Callable[[], Awaitable[datetime]],
        measures: Measures = SILENT,
    ) -> None:
        self._pool = pool
        self._account = account
        self._lease = lease
        self._after_seconds = after_seconds
        self._server_time = server_time
        self._measures = measures
        self._ahead = 0.0
        """Seconds by which the exchange's clock is ahead of ours."""
        self._looks = _FIRST_LOOKS
        """How often the exchange is still asked for its time before anything is measured without."""
        self._held: dict[str, datetime] = {}
        self._taken_over: dict[str, datetime] = {}

    def held(self, entry_key: str, now: datetime, *, from_the_start: bool = False) -> None:
        """The watcher holds this plan since `now`; `from_the_start` of its tenure: an earlier one may have, too."""
        (self._taken_over if from_the_start else self._held).setdefault(entry_key, now)

    async def look_at_the_clock(self) -> None:
        """Ask for the exchange's time; while it does not answer, what was known before counts."""
        asked = datetime.now(UTC)
        with contextlib.suppress(ExchangeError, TimeoutError):
            async with asyncio.timeout(_ASK_SECONDS):
                theirs = await self._server_time()
            self._ahead = (theirs - asked - (datetime.now(UTC) - asked) / 2).total_seconds()
            self._looks = 0

    async def measure(self) -> None:
        """Write what was noted since the last time. Raises the database's errors; then it is written next time."""
        if self._looks:
            self._looks -= 1
            await self.look_at_the_clock()
            if self._looks:
                return
        for noted, taken_over in ((self._taken_over, True), (self._held, False)):
            if noted:
                await self._write(noted, taken_over=taken_over)

    async def _write(self, noted: dict[str, datetime], *, taken_over: bool) -> None:
        asked = dict(noted)
        rows = await self._pool.fetch(
            _MEASURE, self._lease.name, self._lease.epoch, list(asked), list(asked.values()), taken_over, self._ahead
        )
        for row in rows:
            noted.pop(row["entry_key"], None)
            if row["span"] > 0:
                self._measures.unprotected(row["span"])
        long = {row["entry_key"]: row["span"] for row in rows if row["span"] >= self._after_seconds}
        if long:
            await self._tell(long)

    async def _tell(self, long: Mapping[str, float]) -> None:
        worst = max(long, key=lambda key: long[key])
        others = f" and {len(long) - 1} more" if len(long) > 1 else ""
        # It is over as it is told: what lasts is the look-out's `watchers_away`.
        await report_past(
            self._pool,
            self._account,
            UNPROTECTED,
            "WARNING",
            self._lease.name,
            f"Trade {worst}{others} had nobody watching its price for {long[worst]:.0f} s; it is watched again.",
            {"seconds": {key: round(value, 1) for key, value in long.items()}},
        )
