"""Singletons of each account: its user stream, its price watchers and its schedules. Any process may start them.

Each start is idempotent: running workflows are not changed, and schedules are updated to the description here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool
from activities.exits.price_watcher import watcher_lease
from activities.interfaces.ledger import ValidateInput
from activities.interfaces.reconcile import ReconcileInput
from activities.interfaces.streams import SweepInput, UserStreamInput, WatcherInput
from activities.streams.user_stream import user_stream_lease
from workers.settings import Settings
from workflows.maintenance import LedgerCheckWorkflow, ledger_check_id
from workflows.reconcile import ReconcileWorkflow, reconcile_id
from workflows.streams import (
    PriceWatcherWorkflow,
    SweepWorkflow,
    UserStreamWorkflow,
    price_watcher_workflow_id,
    user_stream_workflow_id,
)

__all__ = [
    "Singleton",
    "check_ledger_once",
    "ensure_schedule",
    "ensure_schedules",
    "ensure_singletons",
    "reconcile_soon",
    "schedules",
    "singletons",
    "sweep_schedule_id",
]

log = structlog.get_logger(__name__)

_SWEEP_EVERY = timedelta(seconds=60)
_CHECKED_SECONDS = 60.0


def sweep_schedule_id(account: str) -> str:
    """The id of the account's sweep schedule."""
    return f"sweep-{account}"


@dataclass(frozen=True, slots=True)
class Singleton:
    """A workflow that runs once for the account, with the names of its lease and of its role."""

    run: Any
    request: Any
    workflow_id: str
    queue: str
    role: str
    lease: str
    summary: str
    resize: int | None = None
    """The number of shards passed at its start."""

    async def ensure(self, client: Client) -> None:
        """Start it, or signal the number of shards to the running one. Raises RPCError."""
        signal: dict[str, Any] = {}
        if self.resize is not None:
            signal = {"start_signal": "resize", "start_signal_args": [self.resize]}
        await self._start(client, WorkflowIDConflictPolicy.USE_EXISTING, **signal)

    async def start(self, client: Client) -> None:
        """Start it. Raises WorkflowAlreadyStartedError if it is running, and RPCError."""
        await self._start(client, WorkflowIDConflictPolicy.FAIL)

    async def _start(self, client: Client, if_running: WorkflowIDConflictPolicy, **signal: Any) -> None:
        await client.start_workflow(
            self.run,
            self.request,
            id=self.workflow_id,
            task_queue=self.queue,
            id_conflict_policy=if_running,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=self.summary,
            **signal,
        )


def singletons(settings: Settings) -> list[Singleton]:
    """The account's user stream and price watchers."""
    account, shards = settings.account, settings.watcher.shards
    found = [
        Singleton(
            UserStreamWorkflow.run,
            UserStreamInput(account=account),
            user_stream_workflow_id(account),
            settings.temporal.streams_queue,
            "streams",
            user_stream_lease(account),
            f"Orders and fills of {account}",
        )
    ]
    found += [
        Singleton(
            PriceWatcherWorkflow.run,
            WatcherInput(account=account, shard=shard, shards=shards),
            price_watcher_workflow_id(account, shard),
            settings.temporal.watchers_queue,
            "watchers",
            watcher_lease(account, shard),
            f"Prices for {account}, part {shard + 1} of {shards}",
            resize=shards,
        )
        for shard in range(shards)
    ]
    return found


async def ensure_singletons(client: Client, settings: Settings) -> None:
    """Start the account's user stream and price watchers, or leave the running ones. Raises RPCError.

    Running watchers with another number of shards take the new one.
    """
    for singleton in singletons(settings):
        await singleton.ensure(client)
    shard = shards = settings.watcher.shards
    while await _resize(client, price_watcher_workflow_id(settings.account, shard), shards):
        shard += 1


async def _resize(client: Client, workflow_id: str, shards: int) -> bool:
    try:
        await client.get_workflow_handle(workflow_id).signal(PriceWatcherWorkflow.resize, shards)
    except RPCError as problem:
        if problem.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


def schedules(settings: Settings) -> dict[str, Schedule]:
    """The schedules of sweep, reconcile and ledger check by id, with the configured intervals."""
    account, every = settings.account, timedelta(seconds=float(settings.reconcile.interval_s))
    sweep = Schedule(
        action=ScheduleActionStartWorkflow(
            SweepWorkflow.run,
            SweepInput(account=account),
            id=sweep_schedule_id(account),
            task_queue=settings.temporal.orders_queue,
            execution_timeout=timedelta(seconds=55),
            static_summary=f"Open trades and orders of {account} without a workflow",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=_SWEEP_EVERY)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=60)),
    )
    reconcile = Schedule(
        action=ScheduleActionStartWorkflow(
            ReconcileWorkflow.run,
            ReconcileInput(account=account),
            id=reconcile_id(account),
            task_queue=settings.temporal.streams_queue,
            execution_timeout=max(every - timedelta(seconds=5), timedelta(minutes=4)),
            static_summary=f"The books of {account} against the exchange's records",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        # One that is asked for while another runs is not skipped: it runs next.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=timedelta(seconds=60)),
    )
    return {
        sweep_schedule_id(account): sweep,
        reconcile_id(account): reconcile,
        ledger_check_id(account): _ledger_check(settings),
    }


async def ensure_schedules(client: Client, settings: Settings) -> None:
    """Create or update the schedules of sweep, reconcile and ledger check from the settings. Raises RPCError."""
    for name, schedule in schedules(settings).items():
        await ensure_schedule(client, name, schedule)


def _ledger_check(settings: Settings) -> Schedule:
    """The check covers everything, so missed or duplicate runs are skipped."""
    account, every = settings.account, timedelta(seconds=float(settings.ledger.check_interval_s))
    return Schedule(
        action=ScheduleActionStartWorkflow(
            LedgerCheckWorkflow.run,
            ValidateInput(account=account),
            id=ledger_check_id(account),
            task_queue=settings.temporal.streams_queue,
            execution_timeout=max(every - timedelta(seconds=5), timedelta(minutes=15)),
            static_summary=f"The books of {account} against each other and the exchange",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=60)),
    )


async def ensure_schedule(client: Client, name: str, schedule: Schedule, *, at_once: bool = True) -> None:
    """Create or update the schedule; a new one also runs `at_once`. Raises RPCError."""
    try:
        await client.create_schedule(name, schedule, trigger_immediately=at_once)
    except ScheduleAlreadyRunningError:

        def renew(current: ScheduleUpdateInput) -> ScheduleUpdate:
            # A person who paused it has it paused.
            schedule.state = current.description.schedule.state
            return ScheduleUpdate(schedule=schedule)

        await client.get_schedule_handle(name).update(renew)


async def check_ledger_once(client: Client, pool: Pool, account: str) -> None:
    """Request a ledger check now, unless one ran within the last minute or is running: done at each start of a system,
    by any number of its workers. Raises RPCError and the database's errors.
    """
    fresh = await pool.fetchval(
        "SELECT true FROM ledger_checks WHERE account = $1 AND at > now() - make_interval(secs => $2) LIMIT 1",
        account,
        _CHECKED_SECONDS,
    )
    if fresh:
        return
    try:
        await client.get_schedule_handle(ledger_check_id(account)).trigger(overlap=ScheduleOverlapPolicy.SKIP)
    except RPCError as problem:
        # Nobody has set the schedule up yet; whoever does has it run at once.
        if problem.status is not RPCStatusCode.NOT_FOUND:
            raise


async def reconcile_soon(client: Client, account: str) -> None:
    """Request a reconcile of the account now, or after a running one; retries until Temporal has accepted it.

    For streams after a gap: what they caught up with is checked again with everything else.
    """
    pause = 0.5
    while True:
        try:
            handle = client.get_schedule_handle(reconcile_id(account))
            await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)
        except RPCError as problem:
            if problem.status is RPCStatusCode.NOT_FOUND:
                # Nobody has set the schedule up yet; whoever does has it run at once.
                return
            log.warning("reconcile not requested yet", account=account, problem=repr(problem))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)
        else:
            return
