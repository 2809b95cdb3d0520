"""Every worker process, with any role, restores what must run once for the account (SAFE-7).

A user stream, price watcher or market data workflow that was ended, and a schedule that was deleted, are restored
within a minute by any running worker; this is reported as an incident, which is resolved when the work is done again. A
schedule that a person paused stays paused. A role without a worker is also an incident, because processes can't be
started from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from temporalio.client import Client, Schedule, ScheduleAlreadyRunningError, WorkflowExecutionStatus
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool
from activities.incidents import Severity, report_once, report_past, resolve_incidents
from activities.leases import DATABASE_TROUBLE
from domain.incidents import IncidentKind
from workers.polling import polled_since, queue_of
from workers.roles.quotes import quotes_schedule
from workers.roles.strategy import market_data_singleton, strategy_schedule
from workers.schedules import Singleton, check_ledger_once, schedules, singletons
from workers.settings import Settings
from workflows.quoting import quotes_id
from workflows.strategy import strategy_schedule_id

__all__ = ["ENDED", "MISSING", "Keeper", "KeeperOptions", "check_at_start", "needed_roles"]

_log = structlog.get_logger(__name__)

ENDED = IncidentKind.ENDED_BY_SOMEBODY
MISSING = IncidentKind.ROLE_MISSING


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperOptions:
    """Wall seconds."""

    every_seconds: float = 20.0
    polled_seconds: float = 65.0
    """A running worker has polled its queue within the last minute, the maximum duration of a poll."""
    missing_after_seconds: float = 40.0
    """A role without a worker for this much longer is reported."""


def needed_roles(settings: Settings) -> frozenset[str]:
    """The roles that the settings require."""
    decides = settings.entry_points != "webhook" and (settings.strategy.enabled or settings.quoting.enabled)
    return frozenset({"orders", "streams", "watchers"} | ({"strategy"} if decides else set()))


class Keeper:
    """Restores the account's singletons and schedules; any number of processes may do so, without a leader.

    Args:
        roles: the roles of this process.
        current: the settings in force.
    """

    def __init__(
        self,
        client: Client,
        pool: Pool,
        roles: frozenset[str],
        current: Callable[[], Settings],
        options: KeeperOptions | None = None,
    ) -> None:
        self._client = client
        self._pool = pool
        self._roles = roles
        self._current = current
        self._options = options or KeeperOptions()
        self._seen: set[str] = set()
        """What this process has seen running, to distinguish what was ended from what never existed."""
        self._missing_since: dict[str, float] = {}

    async def run(self) -> None:
        """Run until cancelled; wait while Temporal or the database is unreachable."""
        while True:
            try:
                await self.look()
            except (RPCError, *DATABASE_TROUBLE) as problem:
                _log.warning("singletons not checked", problem=repr(problem))
            await asyncio.sleep(self._options.every_seconds)

    async def look(self) -> None:
        """Start what is missing, and report that and roles without a worker.

        Raises RPCError and the database's errors.
        """
        settings = self._current()
        needed = needed_roles(settings)
        roles = needed | self._roles
        kept = [item for item in (*singletons(settings), market_data_singleton(settings)) if item.role in roles]
        await self._over_where_done_again(settings.account, kept)
        for singleton in kept:
            await self._keep_running(settings.account, singleton)
        for name, schedule in _schedules(settings, roles).items():
            await self._keep_scheduled(settings.account, name, schedule)
        await self._roles_taken(settings, needed)

    async def _keep_running(self, account: str, singleton: Singleton) -> None:
        name = singleton.workflow_id
        status = await self._status(name)
        if status is WorkflowExecutionStatus.RUNNING:
            self._seen.add(name)
            return
        if status is WorkflowExecutionStatus.COMPLETED and singleton.resize is not None:
            return  # a part that is no longer watched by itself: somebody was started with fewer of them
        try:
            await singleton.start(self._client)
        except WorkflowAlreadyStartedError:
            return  # another worker saw it as well, and tells of it
        _log.warning("started again", workflow=name, status=None if status is None else status.name)
        if name in self._seen or status is not None:
            sentence = (
                f"{name} had been ended, for example terminated or cancelled by hand; it was restarted. It continues "
                f"as soon as a worker with the role {singleton.role} takes it."
            )
            await report_once(self._pool, account, ENDED, "WARNING", name, sentence)
        self._seen.add(name)

    async def _status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        try:
            return (await self._client.get_workflow_handle(workflow_id).describe()).status
        except RPCError as problem:
            if problem.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def _keep_scheduled(self, account: str, name: str, schedule: Schedule) -> None:
        """An existing schedule is not changed, paused or not."""
        try:
            await self._client.get_schedule_handle(name).describe()
        except RPCError as problem:
            if problem.status is not RPCStatusCode.NOT_FOUND:
                raise
        else:
            self._seen.add(name)
            return
        try:
            await self._client.create_schedule(name, schedule)
        except ScheduleAlreadyRunningError:
            return
        _log.warning("set up again", schedule=name)
        if name in self._seen:
            sentence = f"The schedule {name} had been deleted; it was created again."
            await report_past(self._pool, account, ENDED, "WARNING", name, sentence)
        self._seen.add(name)

    async def _over_where_done_again(self, account: str, kept: list[Singleton]) -> None:
        """Resolve the incident of a restarted workflow once its lease is held."""
        await self._pool.execute(
            """
            UPDATE incidents SET resolved_at = now()
              FROM unnest($3::text[], $4::text[]) AS k (workflow_id, lease) JOIN leases l ON l.name = k.lease
             WHERE account = $1 AND kind = $2 AND subject = k.workflow_id AND resolved_at IS NULL
               AND l.expires_at > now()
            """,
            account,
            ENDED,
            [item.workflow_id for item in kept],
            [item.lease for item in kept],
        )

    async def _roles_taken(self, settings: Settings, needed: frozenset[str]) -> None:
        for role in sorted(needed):
            since = time.time() - self._options.polled_seconds
            if await polled_since(self._client, queue_of(settings, role), since):
                self._missing_since.pop(role, None)
                await resolve_incidents(self._pool, settings.account, MISSING, role)
                continue
            began = self._missing_since.setdefault(role, time.monotonic())
            if time.monotonic() - began >= self._options.missing_after_seconds:
                sentence = (
                    f"No worker does the work of the role {role}, so {_LEFT[role]}: start `bottrader worker --role "
                    f"{role}`, or find out why the previous one has stopped."
                )
                await report_once(self._pool, settings.account, MISSING, _HOW_BAD[role], role, sentence)


_LEFT = {
    "orders": "no orders or exits are decided or sent",
    "streams": "the exchange's streams are not read, and the books are not compared",
    "watchers": "stops of open positions are not watched",
    "strategy": "the strategy makes no decisions",
}
_HOW_BAD: dict[str, Severity] = {
    "orders": "CRITICAL",
    "streams": "CRITICAL",
    "watchers": "CRITICAL",
    "strategy": "WARNING",
}


def _schedules(settings: Settings, roles: frozenset[str]) -> dict[str, Schedule]:
    found = schedules(settings)
    if "strategy" in roles:
        found[strategy_schedule_id(settings.account)] = strategy_schedule(settings)
        found[quotes_id(settings.account)] = quotes_schedule(settings)
    return found


async def check_at_start(client: Client, pool: Pool, account: str, caught_up: asyncio.Event) -> None:
    """Request a ledger check once the user stream has caught up, or after a time limit."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CATCH_UP_SECONDS):
            await caught_up.wait()
    pause = 1.0
    while True:
        try:
            await check_ledger_once(client, pool, account)
        except (RPCError, *DATABASE_TROUBLE) as problem:
            _log.warning("the ledger's check at the start waits", problem=repr(problem))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)
        else:
            return


_CATCH_UP_SECONDS = 20.0
"""Wall time; a stream held by another process catches up there."""
