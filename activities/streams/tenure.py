"""A tenure: what every long-running stream activity has while it holds its lease.

The user stream, the price watchers and the market data each are one long activity under a lease with an epoch. A tenure
is the time from acquiring the lease until it is released or lost; the common state and work are here, the handling of
the stream is in each activity.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from activities.database import Pool
from activities.incidents import OpenIncident, Severity
from activities.leases import Lease, LeaseTerms, hold
from activities.long_running import BackgroundTasks, holder_name
from activities.streams.positions import StreamPosition
from domain.incidents import IncidentKind
from exchange.port import Exchange

__all__ = ["Tenure", "tenure_of"]


@dataclass(frozen=True, slots=True)
class Tenure:
    """The state of the holder of a stream's lease.

    `position` is the stream's row, continued from the previous holder. `heartbeat` is the activity's. `background` is
    stopped before the lease is given up, so nothing started there outlives it.
    """

    pool: Pool
    exchange: Exchange
    account: str
    lease: Lease
    position: StreamPosition
    heartbeat: Callable[..., None]
    background: BackgroundTasks = field(default_factory=BackgroundTasks)

    def open_incident(self, kind: IncidentKind, severity: Severity, *, repeat_seconds: float) -> OpenIncident:
        """A condition of this account that may last; repeated each `repeat_seconds` (wall)."""
        return OpenIncident(self.pool, self.account, kind, severity, repeat_seconds=repeat_seconds)

    async def beat(self, counts: Callable[[], Mapping[str, Any]], seconds: float = 1.0) -> None:
        """Heartbeat for ever, every `seconds` (wall), with the position and the current `counts`."""
        while True:
            self.heartbeat({**self.position.document(self.lease.epoch), **counts()})
            await asyncio.sleep(seconds)

    async def save_position(self) -> None:
        """Write the position if it changed, under the lease. Raises the database's errors."""
        await self.position.save(self.pool, self.lease)


@asynccontextmanager
async def tenure_of(
    name: str, pool: Pool, exchange: Exchange, account: str, terms: LeaseTerms, heartbeat: Callable[..., None]
) -> AsyncIterator[Tenure]:
    """Wait for the lease `name` and hold it while the body runs; heartbeats are sent meanwhile.

    Raises:
        LeaseLostError: Another holder took over; the body was cancelled.
        asyncpg.PostgresError, OSError: The database couldn't be reached at the start.
    """

    def waiting() -> None:
        heartbeat({"waiting_for": name})

    async with hold(pool, name, holder_name(), terms, waiting=waiting) as lease:
        position = await StreamPosition.load(pool, name)
        tenure = Tenure(pool, exchange, account, lease, position, heartbeat)
        try:
            yield tenure
        finally:
            await tenure.background.stop()
