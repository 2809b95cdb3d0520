"""Leases: one holder of a name at a time, and an epoch sent with every write of the holder (INGEST-2).

A heartbeat timeout does not stop a stalled process. So a holder measures its lease with its own monotonic clock, from
before the request, and stops when it expires; and each of its statements contains `HELD`, so that statements of a
stalled predecessor write nothing. Every acquisition has a new, greater epoch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import structlog

from activities.database import Pool
from domain.errors import BotTraderError

__all__ = ["DATABASE_TROUBLE", "HELD", "Lease", "LeaseLostError", "LeaseTerms", "acquire", "hold"]

log = structlog.get_logger(__name__)

HELD = "EXISTS (SELECT 1 FROM leases WHERE name = $1 AND epoch = $2 AND expires_at > now())"
"""SQL: the writer still holds its lease. Statements that carry it have the lease's name as $1, its epoch as $2."""

DATABASE_TROUBLE = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a statement on a connection whose end has been announced but not noticed yet
    OSError,
    TimeoutError,
)
"""The exceptions of an unreachable database or an interrupted statement."""

_ACQUIRE = """
INSERT INTO leases (name, holder, epoch, expires_at, acquired_at, renewed_at)
VALUES ($1, $2, 1, now() + make_interval(secs => $3), now(), now())
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, epoch = leases.epoch + 1, expires_at = excluded.expires_at, acquired_at = now(),
       renewed_at = now(), vacant_since = leases.renewed_at
 WHERE leases.expires_at <= now()
RETURNING epoch
"""
_RENEW = """
UPDATE leases SET expires_at = now() + make_interval(secs => $3), renewed_at = now()
 WHERE name = $1 AND epoch = $2 AND expires_at > now()
"""
_RELEASE = (
    "UPDATE leases SET expires_at = now(), renewed_at = now() WHERE name = $1 AND epoch = $2 AND expires_at > now()"
)


class LeaseLostError(BotTraderError):
    """The lease ran out or another holder has it: whoever held it must stop at once and write nothing more."""

    code = "LEASE_LOST"


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long a lease lasts and how often it is renewed, in wall seconds."""

    seconds: float = 6.0
    renew_seconds: float = 1.5
    wait_seconds: float = 0.25
    """How often a waiting process tries again."""

    def __post_init__(self) -> None:
        if not 0 < self.renew_seconds * 2 <= self.seconds:
            raise ValueError(
                f"a lease of {self.seconds} s must be renewed at least twice within it, not each {self.renew_seconds} s"
            )


class Lease:
    """An acquired lease. `held` uses our own clock and is never true for longer than in the database."""

    def __init__(self, pool: Pool, name: str, epoch: int, deadline: float, terms: LeaseTerms) -> None:
        self.name = name
        self.epoch = epoch
        self._pool = pool
        self._deadline = deadline
        self._terms = terms
        self._given_up = False

    @property
    def held(self) -> bool:
        """Whether we still hold the name."""
        return not self._given_up and time.monotonic() < self._deadline

    def require(self) -> None:
        """Raise LeaseLostError unless it is still held."""
        if not self.held:
            raise LeaseLostError(f"the lease {self.name} (epoch {self.epoch}) has expired")

    async def renew(self) -> None:
        """Extend it from now. Raises LeaseLostError if it is no longer ours, and the database's errors."""
        asked = time.monotonic()
        left = max(0.05, self._deadline - asked)
        status = await self._pool.execute(_RENEW, self.name, self.epoch, self._terms.seconds, timeout=left)
        if status != "UPDATE 1":
            self._given_up = True
            raise LeaseLostError(f"the lease {self.name} (epoch {self.epoch}) is another holder's by now")
        self._deadline = asked + self._terms.seconds

    async def keep(self) -> None:
        """Renew it as long as possible; raises LeaseLostError when it has expired, whatever state the database is
        in."""
        pause = self._terms.renew_seconds
        while True:
            await asyncio.sleep(max(0.0, min(pause, self._deadline - time.monotonic())))
            self.require()
            try:
                await self.renew()
                pause = self._terms.renew_seconds
            except DATABASE_TROUBLE as problem:
                log.warning("lease not renewed", lease=self.name, epoch=self.epoch, problem=repr(problem))
                pause = self._terms.renew_seconds / 4

    async def release(self) -> None:
        """Release it, so that another process can take it at once. If the database fails, it expires."""
        if self._given_up:
            return
        self._given_up = True
        try:
            await self._pool.execute(_RELEASE, self.name, self.epoch, timeout=2.0)
        except DATABASE_TROUBLE as problem:
            log.warning("lease not released, it will expire", lease=self.name, problem=repr(problem))


async def acquire(pool: Pool, name: str, holder: str, terms: LeaseTerms) -> Lease | None:
    """The lease with a new epoch if it is free, else None. Raises the database's errors."""
    asked = time.monotonic()
    epoch = await pool.fetchval(_ACQUIRE, name, holder, terms.seconds, timeout=terms.seconds)
    return None if epoch is None else Lease(pool, name, epoch, asked + terms.seconds, terms)


@asynccontextmanager
async def hold(
    pool: Pool, name: str, holder: str, terms: LeaseTerms, *, waiting: Callable[[], None] = lambda: None
) -> AsyncIterator[Lease]:
    """Wait for the lease, renew it while the body runs, and release it at the end in every case.

    `waiting` is called each time the lease is taken by another. If the lease is lost, the body is cancelled and
    LeaseLostError raised. Raises the database's errors if it can't be reached.
    """
    while (lease := await acquire(pool, name, holder, terms)) is None:
        waiting()
        await asyncio.sleep(terms.wait_seconds)
    log.info("lease acquired", lease=name, epoch=lease.epoch)
    body = asyncio.current_task()
    if body is None:
        raise RuntimeError("a lease is held by a task")
    lost: list[LeaseLostError] = []

    async def keeper() -> None:
        try:
            await lease.keep()
        except LeaseLostError as reason:
            lost.append(reason)
            body.cancel()

    task = asyncio.create_task(keeper(), name=f"lease {name}")
    try:
        yield lease
    except asyncio.CancelledError:
        if lost and body.uncancel() == 0:
            raise lost[0] from None
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Shielded: a cancelled activity still gives its lease up, so that the next one needn't wait for its end.
        await asyncio.shield(lease.release())
