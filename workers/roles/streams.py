"""Starting what runs once per account: user stream, watchers, sweep, reconcile. Any process, any number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
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
from activities.exits.price_watcher import WatcherOptions, watcher_lease
from activities.interfaces.ledger import ValidateInput
from activities.interfaces.reconcile import ReconcileInput
from activities.interfaces.search_attributes import of_external, of_monitor, of_order
from activities.interfaces.streams import SweepInput, UserStreamInput, WatcherInput
from activities.leases import LeaseTerms
from activities.reconcile.run import ReconcileOptions
from activities.starting import Appearance, Starter
from activities.streams.user_stream import UserStreamOptions, user_stream_lease
from domain.messages import ExternalOrder, MonitorStart, OrderIntent
from workers.settings import Settings
from workflows.durable import TASK_TIMEOUT
from workflows.external import external_summary
from workflows.maintenance import LedgerCheckWorkflow, ledger_check_id
from workflows.narrative import money, order_summary, rules_sentence
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
    "lease_terms",
    "reconcile_options",
    "reconcile_soon",
    "schedules",
    "singletons",
    "starter_of",
    "sweep_schedule_id",
    "user_stream_options",
    "watcher_options",
]

log = structlog.get_logger(__name__)

_SWEEP_EVERY = timedelta(seconds=60)


def sweep_schedule_id(account: str) -> str:
    """The id of the account's sweep schedule."""
    return f"sweep-{account}"


def lease_terms(settings: Settings) -> LeaseTerms:
    """Leases of streams and watchers."""
    seconds = float(settings.streams.lease_s)
    return LeaseTerms(seconds=seconds, renew_seconds=seconds / 4)


def user_stream_options(settings: Settings) -> UserStreamOptions:
    """How the user stream is read."""
    return UserStreamOptions(
        lease=lease_terms(settings),
        call_timeout=float(settings.exchange.timeout_s) * 3,
        alert_after_failures=settings.streams.alert_after_failures,
    )


def reconcile_options(settings: Settings) -> ReconcileOptions:
    """How the books are kept level."""
    return ReconcileOptions(first_look_back_seconds=settings.reconcile.first_look_back_days * 86_400.0)


class AllowedSymbols:
    """The products that may be bought, as the settings have them whenever somebody looks."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings().symbols.allow)


def watcher_options(current: Callable[[], Settings]) -> WatcherOptions:
    """How prices are watched. `current` gives the settings in force."""
    settings = current()
    exits = settings.exits
    return WatcherOptions(
        symbols=AllowedSymbols(current),
        lease=lease_terms(settings),
        market_speed=settings.speed,
        poll_seconds=float(settings.watcher.poll_s),
        signals_sell=lambda: current().strategy.enabled,
        hodl=lambda: current().symbols.hodl,
        signal_max_age=float(exits.signal_max_age_s),
        atr_period=exits.atr_period,
        atr_candle_seconds=exits.atr_candle_minutes * 60,
        quote_timeout=float(settings.exchange.timeout_s),
        unprotected_after_seconds=float(settings.notices.unprotected_after_s),
        alert_after_failures=settings.streams.alert_after_failures,
    )


def starter_of(settings: Settings, pool: Pool, client: Client) -> Starter:
    """Starts orders and monitors so that they appear as when a workflow or an entry point starts them."""

    def order_look(intent: OrderIntent) -> Appearance:
        return Appearance(order_summary(intent), rules_sentence(intent.rules, intent.limit_price), of_order(intent))

    def monitor_look(start: MonitorStart) -> Appearance:
        return Appearance(monitor_summary(start), rules_sentence(start.rules, start.entry_price), of_monitor(start))

    def external_look(order: ExternalOrder) -> Appearance:
        return Appearance(external_summary(order), search_attributes=of_external(order))

    return Starter(
        pool,
        client,
        task_queue=settings.temporal.orders_queue,
        market_speed=Decimal(str(settings.speed)),
        order_look=order_look,
        monitor_look=monitor_look,
        external_look=external_look,
        task_timeout=TASK_TIMEOUT,
    )


def monitor_summary(start: MonitorStart) -> str:
    """One line: what is guarded."""
    bought = f" bought at {money(start.entry_price)}" if start.entry_price is not None else ""
    return f"guards {money(start.size)} {start.symbol}{bought}"


@dataclass(frozen=True, slots=True)
class Singleton:
    """A workflow that runs once for the account; the names of its lease and of the role that does its work."""

    run: Any
    request: Any
    workflow_id: str
    queue: str
    role: str
    lease: str
    summary: str
    resize: int | None = None
    """The number of shards that it is told when it is started."""

    async def ensure(self, client: Client) -> None:
        """Start it, or leave the one that runs, which is told the number of shards. Raises RPCError."""
        signal: dict[str, Any] = {}
        if self.resize is not None:
            signal = {"start_signal": "resize", "start_signal_args": [self.resize]}
        await self._start(client, WorkflowIDConflictPolicy.USE_EXISTING, **signal)

    async def start(self, client: Client) -> None:
        """Start it. Raises WorkflowAlreadyStartedError where it runs, and RPCError."""
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
    """Start the account's user stream and price watchers, or leave those that run. Raises RPCError.

    Watchers that run with another number of shards take the new one.
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
    """Sweep, reconcile and ledger check by their ids, as often as is set."""
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
    """Have sweep, reconcile and ledger check run as often as is set, as described here and now. Raises RPCError."""
    for name, schedule in schedules(settings).items():
        await ensure_schedule(client, name, schedule)


def _ledger_check(settings: Settings) -> Schedule:
    """The check looks back at everything, so one that is late or asked for twice need not run twice."""
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
    """Have the schedule as it is described here; a new one runs `at_once`, too. Raises RPCError."""
    try:
        await client.create_schedule(name, schedule, trigger_immediately=at_once)
    except ScheduleAlreadyRunningError:

        def renew(current: ScheduleUpdateInput) -> ScheduleUpdate:
            # A person who paused it has it paused.
            schedule.state = current.description.schedule.state
            return ScheduleUpdate(schedule=schedule)

        await client.get_schedule_handle(name).update(renew)


_CHECKED_SECONDS = 60.0


async def check_ledger_once(client: Client, pool: Pool, account: str) -> None:
    """Have the ledger checked now, unless it was within the last minute or is being checked: what each start of a
    system asks for, by any number of its workers. Raises RPCError and the database's errors.
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
    """Have the account reconciled now, or next if that is going on; until Temporal has taken the wish.

    For streams after a gap: what they caught up with by themselves is looked at again with everything else.
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
            log.warning("reconcile not asked for yet", account=account, problem=repr(problem))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)
        else:
            return
