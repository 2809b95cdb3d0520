"""A worker process: its roles, and its life from connect to drain.

`orders` runs the workflows of orders and trades with their activities, `streams` holds the account's user stream,
`watchers` watch prices. Any number of processes may take any role; leases ensure that a stream or a shard has one
holder at a time.

Workflows run without the SDK's sandbox: it checks only modules that it re-imports for each workflow, and ours were
passed through because that is slow; so it protected little and cost 6 ms of CPU for each workflow, a tenth of a round
trip. Determinism is ensured by a test that reads the workflows' code, and by replaying saved histories.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.worker import Interceptor, PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker

from activities.database import Pool, create_pool
from activities.exits.price_watcher import PriceWatcher
from activities.leases import DATABASE_TROUBLE
from activities.ledger.validator import Validator
from activities.market.keeper import MarketKeeper
from activities.measures import SILENT, Measures
from activities.orders.trading import TradingActivities
from activities.product_rules import ProductRules
from activities.quotes.rounds import Quoting
from activities.quotes.withdrawal import QuoteWithdrawal
from activities.reconcile.adoption import Adoption
from activities.reconcile.run import Reconciler
from activities.reconcile.sweep import Sweep
from activities.starting import Starter
from activities.strategy.runs import StrategyRuns
from activities.streams.user_stream import UserStream
from activities.venue import Venue
from activities.venue_standing import VenueStanding
from domain.exits import ExitRules
from domain.identity import IdentityError
from workers.background import FaultIncidents, watch_background
from workers.keeper import Keeper, check_at_start, needed_roles
from workers.ledger_identity import begin_on_ledger, brought_by, in_sentences
from workers.local_results import hold_local_results
from workers.log_lines import logs_without_secrets, one_line_for_servers_away
from workers.memory import keep_what_is_loaded
from workers.once_at_start import until_taken
from workers.own_account import OwnAccount
from workers.roles.notices import beside, beside_others, beside_streams
from workers.roles.quotes import last_quotes_leave, quotes_schedule, quoting_options
from workers.roles.strategy import ensure_market_data, ensure_strategy_schedule, market_data_options, strategy_options
from workers.roles.streams import reconcile_options, user_stream_options, watcher_options
from workers.schedules import ensure_schedule, ensure_schedules, ensure_singletons, reconcile_soon
from workers.settings import Settings
from workers.settings.live import LiveSettings
from workers.settings.sources import SettingSources
from workers.settings.values import exchange_of, exit_rules
from workers.telemetry import Telemetry, telemetry
from workers.temporal_connection import connect
from workers.temporal_metrics import runtime_with_metrics
from workflows.changes import UNREPLAYABLE
from workflows.exit_monitor import ExitMonitorWorkflow
from workflows.external import ExternalOrderWorkflow
from workflows.maintenance import LedgerCheckWorkflow
from workflows.market_data import MarketDataWorkflow
from workflows.order import OrderWorkflow
from workflows.quoting import QuoteRoundWorkflow, quotes_id
from workflows.reconcile import ReconcileWorkflow
from workflows.strategy import StrategyRunWorkflow
from workflows.streams import PriceWatcherWorkflow, SweepWorkflow, UserStreamWorkflow

__all__ = ["ROLES", "WorkerParts", "run_worker", "worker_parts", "workers_for"]

ROLES = frozenset({"orders", "streams", "watchers", "strategy"})
_DRAIN = timedelta(seconds=10)
_STICKY = timedelta(seconds=6)
"""How long a task waits for the worker that has the workflow in memory: as long as a killed worker's leases last. With
half of it, half the workflows of 150 simultaneous stops had a task that timed out and was dispatched again.
"""
_POLLS = PollerBehaviorAutoscaling(initial=1, maximum=20)
"""One open poll on quiet queues: each open poll of a stalled worker loses one try of a task, and with four of them a
new exit order's first task was lost four times, 5 s each.
"""
_ASK_SECONDS = 2.0
_log = structlog.get_logger()


class WorkerParts:
    """What the roles of one process share: the database pool, the exchange, the clients."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        pool: Pool,
        exchange: Any,
        interceptors: Sequence[Interceptor] = (),
        sources: SettingSources | None = None,
        standing: VenueStanding | None = None,
    ) -> None:
        trouble = standing.trouble if standing is not None else lambda: ""
        self.interceptors = interceptors
        self.own = OwnAccount(pool, settings.account)
        self.settings = settings
        self.client = client
        self.pool = pool
        self.live = LiveSettings(settings, pool, sources)
        self.exchange = exchange
        self.venue = Venue(exchange, ProductRules(pool, settings.account))
        self.starter = Starter(
            pool, client, task_queue=settings.temporal.orders_queue, market_speed=Decimal(str(settings.speed))
        )
        self.withdrawal = QuoteWithdrawal(pool, client, self.starter.resume)
        self.quoting = Quoting(
            pool,
            self.venue,
            lambda: quoting_options(self.live.current, self.live.policy),
            trouble,
        )
        self.trading = TradingActivities(pool, self.venue, lambda: self.live.policy, client, trouble)
        self.standing = standing
        self.adoption = Adoption(
            pool,
            self.trading.ledger,
            client,
            self.starter,
            settings.account,
            available=self.venue.available,
            protect=self._adopted_rules,
        )
        self.trading.ledger.oversold = self.adoption.cover_soon
        self.caught_up = asyncio.Event()
        """The user stream of this process has caught up with what it missed."""
        self.reconciler = Reconciler(pool, exchange, client, self.adoption, self.starter, reconcile_options(settings))

    def _adopted_rules(self) -> ExitRules | None:
        settings = self.live.current
        return exit_rules(settings.exits, by_hand=True) if settings.adoption.protect else None


@contextlib.asynccontextmanager
async def worker_parts(settings: Settings, sources: SettingSources | None = None) -> AsyncIterator[WorkerParts]:
    """Open everything a worker needs, and close it in reverse order.

    Raises UnreachableError for missing services, and UserError for another account's ledger.
    """
    pool = await create_pool(
        settings.database.dsn,
        size=settings.database.pool_size + 1,  # one listens for changes of settings
        statement_seconds=float(settings.database.statement_timeout_s),
    )
    try:
        exchange = exchange_of(settings)
        try:
            settings, sources = await begin_on_ledger(settings, sources, pool, exchange)
            standing = VenueStanding(
                pool, exchange, brought_by(settings, sources), dry_run=lambda: parts.live.current.dry_run
            )
            with in_sentences():
                await standing.begin()
            client = await connect(settings, runtime_with_metrics(settings.telemetry))
            async with telemetry(settings, pool) as interceptors:
                parts = WorkerParts(settings, client, pool, exchange, interceptors, sources, standing)
                async with parts.live.following():
                    yield parts
        finally:
            await exchange.close()
    finally:
        async with asyncio.timeout(5):
            await pool.close()


def workers_for(parts: WorkerParts, roles: set[str]) -> Sequence[Worker]:
    """The workers of these roles, not yet running."""
    temporal = parts.settings.temporal
    measures: Measures = SILENT
    for told in parts.interceptors:
        if isinstance(told, Telemetry):
            # Fills are counted where they are recorded, be it for a workflow or straight from the stream.
            parts.trading.ledger.recorded = told.recorded
            told.run_roles(roles, needed_roles(parts.settings))
            told.policy = lambda: parts.live.policy
            measures = told
    parts.trading.listen(measures)
    parts.reconciler.measures = measures
    found: list[Worker] = []
    if "orders" in roles:
        trading = parts.trading
        sweep = Sweep(parts.pool, parts.client, parts.starter)
        orders = hold_local_results(
            Worker(
                parts.client,
                task_queue=temporal.orders_queue,
                workflows=[OrderWorkflow, ExitMonitorWorkflow, ExternalOrderWorkflow, SweepWorkflow],
                activities=[
                    trading.admit,
                    trading.next_attempt,
                    trading.place,
                    trading.look_up,
                    trading.cancel,
                    trading.record,
                    trading.end_order,
                    trading.position,
                    trading.protection,
                    trading.protection_trouble,
                    trading.move_stops,
                    trading.rearm,
                    trading.keep_command,
                    trading.close_trade,
                    sweep.sweep,
                    parts.withdrawal.withdraw_quotes,
                ],
                interceptors=[*parts.interceptors, parts.own],
                workflow_runner=UnsandboxedWorkflowRunner(),
                workflow_failure_exception_types=UNREPLAYABLE,
                max_concurrent_workflow_tasks=100,
                max_concurrent_activities=100,
                max_concurrent_local_activities=100,
                max_cached_workflows=5_000,
                workflow_task_poller_behavior=_POLLS,
                activity_task_poller_behavior=_POLLS,
                sticky_queue_schedule_to_start_timeout=_STICKY,
                max_heartbeat_throttle_interval=timedelta(seconds=3),
                graceful_shutdown_timeout=_DRAIN,
            )
        )
        found.append(orders)
    if "streams" in roles:
        account = parts.settings.account

        async def caught_up() -> None:
            parts.caught_up.set()
            await reconcile_soon(parts.client, account)

        stream = UserStream(
            parts.pool,
            parts.exchange,
            parts.client,
            parts.adoption,
            parts.starter,
            user_stream_options(parts.settings),
            caught_up=caught_up,
            measures=measures,
        )
        found.append(
            _long_worker(
                parts,
                temporal.streams_queue,
                [UserStreamWorkflow, ReconcileWorkflow, LedgerCheckWorkflow],
                [
                    stream.run_user_stream,
                    parts.reconciler.reconcile,
                    Validator(
                        parts.pool, parts.exchange, patience_seconds=parts.settings.reconcile.patience_s
                    ).validate_ledger,
                ],
            )
        )
    if "watchers" in roles:
        options = replace(watcher_options(lambda: parts.live.current), measures=measures)
        watcher = PriceWatcher(parts.pool, parts.exchange, parts.client, parts.starter, options)
        found.append(_long_worker(parts, temporal.watchers_queue, [PriceWatcherWorkflow], [watcher.watch_prices]))
    if "strategy" in roles:
        keeper = MarketKeeper(parts.pool, parts.exchange, lambda: market_data_options(parts.live.current))
        runs = StrategyRuns(parts.pool, parts.starter, lambda: strategy_options(parts.live.current, parts.live.policy))
        found.append(
            _long_worker(
                parts,
                temporal.strategy_queue,
                [MarketDataWorkflow, StrategyRunWorkflow, QuoteRoundWorkflow],
                [
                    keeper.keep_market_data,
                    runs.run_strategy,
                    parts.quoting.plan_quotes,
                    parts.quoting.settle_quotes,
                    parts.withdrawal.withdraw_quotes,
                ],
            )
        )
    return found


def _long_worker(parts: WorkerParts, queue: str, workflows: list[type], activities: list[Any]) -> Worker:
    """A worker for few, long-running activities: they are notified of a shutdown at once, and release their leases."""
    return Worker(
        parts.client,
        task_queue=queue,
        workflows=workflows,
        activities=activities,
        interceptors=[*parts.interceptors, parts.own],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=64,
        # One open poll: a worker that stands still must not take more than one try of an activity with it.
        max_concurrent_activity_task_polls=1,
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        default_heartbeat_throttle_interval=timedelta(seconds=1),
        sticky_queue_schedule_to_start_timeout=_STICKY,
        graceful_shutdown_timeout=_DRAIN,
    )


async def _decide_on_schedule(client: Client, settings: Settings) -> None:
    """Keep the schedules of runs and quotes as configured; their intervals may change while workers run."""
    await ensure_strategy_schedule(client, settings)
    await ensure_schedule(client, quotes_id(settings.account), quotes_schedule(settings))


async def _set_up(parts: WorkerParts, roles: set[str]) -> None:
    """Start what runs once for the account, unless it is running.

    Raises UnreachableError(NO_TEMPORAL) if Temporal does not accept it after several tries.
    """
    client, settings = parts.client, parts.settings
    if roles & {"streams", "watchers"}:
        await until_taken("the user stream and the watchers", lambda: ensure_singletons(client, settings))
    if "orders" in roles:
        await until_taken("the schedules of sweep, reconcile and check", lambda: ensure_schedules(client, settings))
    if "strategy" in roles:
        await until_taken("the market data", lambda: ensure_market_data(client, settings))
        await until_taken(
            "the schedules of strategy and quotes", lambda: _decide_on_schedule(client, parts.live.current)
        )
        parts.live.on_change(lambda current: _decide_on_schedule(client, current))


async def _unless_told(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work`, or abandon it when `stop` is set; returns whether it was done. Raises its exceptions."""
    doing, told = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        doing.cancel()
        told.cancel()
        await asyncio.gather(doing, told, return_exceptions=True)


@contextlib.asynccontextmanager
async def _beside(parts: WorkerParts, roles: set[str]) -> AsyncIterator[None]:
    """Background services beside the roles: notices in every process, and the keeper of singletons."""
    settings, pool, client = parts.settings, parts.pool, parts.client
    keeper = Keeper(client, pool, frozenset(roles), lambda: parts.live.current)
    async with contextlib.AsyncExitStack() as stack:
        if "streams" in roles:
            await stack.enter_async_context(beside_streams(settings, pool, client, parts.exchange))
            await stack.enter_async_context(
                beside(lambda: check_at_start(client, pool, settings.account, parts.caught_up))
            )
        else:
            await stack.enter_async_context(beside_others(settings, pool))
        await stack.enter_async_context(beside(keeper.run))
        yield


async def _open_trades(parts: WorkerParts) -> int | None:
    """The number of open trades this worker leaves; None if the database doesn't answer at once."""
    query = "SELECT count(*) FROM trades WHERE account = $1 AND state <> 'CLOSED'"
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            found: int = await parts.pool.fetchval(query, parts.settings.account)
    except DATABASE_TROUBLE:
        return None
    return found


async def run_worker(settings: Settings, roles: set[str], sources: SettingSources | None = None) -> None:
    """Run the roles until SIGINT or SIGTERM, then drain: running tasks end, no new ones are taken.

    With `sources`, from which the settings were built, changes of their file are followed.
    """
    logs_without_secrets()
    one_line_for_servers_away()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    background = watch_background()
    async with worker_parts(settings, sources) as parts, contextlib.AsyncExitStack() as running:
        settings = parts.settings
        keep_what_is_loaded()
        wrong = asyncio.create_task(_watch_standing(parts.standing, stop))
        running.push_async_callback(_end, wrong)
        background.tell.append(FaultIncidents(parts.pool, settings.account, "the worker"))
        background.tell += [told.background for told in parts.interceptors if isinstance(told, Telemetry)]
        for worker in workers_for(parts, roles):
            await running.enter_async_context(worker)
        if await _unless_told(stop, _set_up(parts, roles)):
            await running.enter_async_context(_beside(parts, roles))
            _log.info("worker_ready", roles=sorted(roles), account=settings.account)
            await stop.wait()
        _log.info("worker_draining", open_trades=await _open_trades(parts))
        if wrong.done():
            with in_sentences():
                wrong.result()
        if "strategy" in roles:
            await last_quotes_leave(parts.client, parts.pool, settings)


async def _watch_standing(standing: VenueStanding | None, stop: asyncio.Event) -> None:
    """Runs until cancelled; an API key of another account stops the process. Raises IdentityError."""
    if standing is None:
        return
    try:
        await standing.run()
    except IdentityError:
        stop.set()
        raise


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
