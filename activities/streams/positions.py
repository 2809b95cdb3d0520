"""A stream's position, as one row kept current by the holder of its lease."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from activities.database import Pool
from activities.leases import HELD, Lease

__all__ = ["StreamPosition"]

_SAVE = (
    """
INSERT INTO stream_positions
       (name, epoch, caught_up_to, last_message_at, connections, gaps, malformed, connected, updated_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, now() WHERE """
    + HELD
    + """
ON CONFLICT (name) DO UPDATE
   SET epoch = excluded.epoch, caught_up_to = GREATEST(stream_positions.caught_up_to, excluded.caught_up_to),
       last_message_at = GREATEST(stream_positions.last_message_at, excluded.last_message_at),
       connections = excluded.connections, gaps = excluded.gaps, malformed = excluded.malformed,
       connected = excluded.connected, updated_at = now()
 WHERE stream_positions.epoch <= excluded.epoch
"""
)


@dataclass(slots=True)
class StreamPosition:
    """Counts since the stream was first read, over all holders. `caught_up_to` is in the exchange's time."""

    name: str
    caught_up_to: datetime | None = None
    last_message_at: datetime | None = None
    connections: int = 0
    gaps: int = 0
    malformed: int = 0
    connected: bool = False
    _saved: tuple[Any, ...] = field(default=(), repr=False)

    @classmethod
    async def load(cls, pool: Pool, name: str) -> StreamPosition:
        """The row, or a new position. Raises the database's errors."""
        row = await pool.fetchrow("SELECT * FROM stream_positions WHERE name = $1", name)
        if row is None:
            return cls(name)
        return cls(
            name,
            caught_up_to=row["caught_up_to"],
            last_message_at=row["last_message_at"],
            connections=row["connections"],
            gaps=row["gaps"],
            malformed=row["malformed"],
        )

    async def save(self, pool: Pool, lease: Lease) -> None:
        """Write it if anything changed, under the lease. Raises the database's errors."""
        now = (
            self.caught_up_to,
            self.last_message_at,
            self.connections,
            self.gaps,
            self.malformed,
            self.connected,
        )
        if now != self._saved:
            await pool.execute(_SAVE, lease.name, lease.epoch, *now)
            self._saved = now

    def document(self, epoch: int) -> dict[str, Any]:
        """The details of a heartbeat."""
        return {
            "epoch": epoch,
            "connected": self.connected,
            "connections": self.connections,
            "gaps": self.gaps,
            "malformed": self.malformed,
            "last_message_at": self.last_message_at.isoformat() if self.last_message_at else None,
            "caught_up_to": self.caught_up_to.isoformat() if self.caught_up_to else None,
        }
