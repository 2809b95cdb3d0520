"""The sweep and the start of streams, with real PostgreSQL and Temporal."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest_asyncio
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.commands import keep, note_commands
from activities.database import Pool, create_pool
from activities.interfaces.search_attributes import ROLE, STATUS, SYMBOL
from activities.interfaces.streams import StreamEnd, SweepInput, SweepReport, WatcherInput
from activities.reconcile.sweep import Sweep, SweepOptions
from activities.starting import Starter
from domain.commands import CommandKind
from domain.ids import exit_workflow_id
from domain.messages import CloseRequest, MonitorStart
from domain.orders import OrderRole, Side
from tests.support.ledger_rows import ACCOUNT, add_order, add_trade, intent, until
from tests.support.recording_workflows import RecordingMonitor, RecordingOrder
from workers.schedules import ensure_schedules, ensure_singletons, sweep_schedule_id
from workers.settings import Settings, TemporalSettings, WatcherSettings
from workflows.streams import (
    PriceWatcherWorkflow,
    SweepWorkflow,
    price_watcher_workflow_id,
    user_stream_workflow_id,
)


@dataclass
class World:
    """A database, a client, and the queue of recording workflows."""

    pool: Pool
    client: Client
    queue: str

    async def sweep(self) -> SweepReport:
        """One sweep, without grace."""
        starter = Starter(self.pool, self.client, task_queue=self.queue)
        options = SweepOptions(trade_grace_seconds=0, order_grace_seconds=0)
        swept = Sweep(self.pool, self.client, starter, options)
        return await ActivityEnvironment().run(swept.sweep, SweepInput(account=ACCOUNT))


@pytest_asyncio.fixture
async def world(database: str, temporal_client: Client) -> AsyncIterator[World]:
    """A database and a worker with recording workflows."""
    pool = await create_pool(database)
    queue = f"orders-{uuid.uuid4().hex[:8]}"
    async with Worker(temporal_client, task_queue=queue, workflows=[RecordingOrder, RecordingMonitor]):
        yield World(pool, temporal_client, queue)
    await pool.close()


async def test_an_open_position_without_a_monitor_gets_one_once(world: World) -> None:
    """A trade whose monitor was terminated is protected again, by one workflow however often it is swept."""
    key = await add_trade(world.pool, "a")
    first = await world.sweep()
    assert first.monitors_started == (key,)
    assert (await world.sweep()).monitors_started == ()
    handle = world.client.get_workflow_handle(exit_workflow_id(key))
    await handle.terminate()
    assert (await world.sweep()).monitors_started == (key,)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_an_unfinished_order_without_a_workflow_is_started_from_its_intent(world: World) -> None:
    """An unfinished order continues from its stored intent; one that has ended, or isn't ours, does not."""
    live, done, external = intent("live"), intent("done"), intent("external", role=OrderRole.EXTERNAL, side=Side.SELL)
    for wanted in (live, done, external):
        await add_order(world.pool, wanted)
    await world.pool.execute(
        "UPDATE orders SET state = 'CANCELLED', finished = true WHERE order_key = $1", done.order_key
    )
    ended = intent("attempt ended, reservation not released")
    await add_order(world.pool, ended)
    await world.pool.execute("UPDATE orders SET state = 'CANCELLED' WHERE order_key = $1", ended.order_key)
    report = await world.sweep()
    assert set(report.orders_started) == {live.order_key, ended.order_key}
    assert (await world.sweep()).orders_started == ()


async def test_an_entry_runs_until_its_trade_is_closed(world: World) -> None:
    """A filled entry of an open trade is among the running ones; after the close it is not."""
    key = await add_trade(world.pool, "a")
    assert (await world.sweep()).orders_started == (key,)
    await world.client.get_workflow_handle(f"order-{key}").terminate()
    await world.pool.execute("UPDATE trades SET state = 'CLOSED', sold_size = 1")
    report = await world.sweep()
    assert (report.orders_started, report.monitors_started, report.open_trades) == ((), (), 0)


async def test_what_the_sweep_starts_is_found_like_any_other(world: World) -> None:
    """Orders and monitors that are started again have the search attributes and the summary of the first start."""
    key = await add_trade(world.pool, "a")
    await world.sweep()
    order = await world.client.get_workflow_handle(f"order-{key}").describe()
    monitor = await world.client.get_workflow_handle(exit_workflow_id(key)).describe()
    found = [
        tuple(item.typed_search_attributes.get(name) for name in (SYMBOL, ROLE, STATUS)) for item in (order, monitor)
    ]
    assert found == [("BTC-USD", "ENTRY", "OPENING"), ("BTC-USD", "MONITOR", "PROTECTED")]
    assert await monitor.static_summary() == "guards 1 BTC-USD bought at 100"


async def test_what_was_promised_is_told_to_whoever_runs(world: World) -> None:
    """A close of an open trade and a cancel of a working order reach the running workflow, in the name in the ledger;
    those that are done, not accepted, or another account's are not sent.
    """
    trade, closed = await add_trade(world.pool, "open"), await add_trade(world.pool, "closed")
    order = intent("works")
    await add_order(world.pool, order)
    await world.pool.execute("UPDATE trades SET state = 'CLOSED', sold_size = 1 WHERE entry_key = $1", closed)
    await world.sweep()
    monitor = world.client.get_workflow_handle(exit_workflow_id(trade))
    working = world.client.get_workflow_handle(f"order-{order.order_key}")
    filled = world.client.get_workflow_handle(f"order-{trade}")
    (unheard,) = await note_commands(world.pool, ACCOUNT, CommandKind.CLOSE, [trade], "bob")
    assert (await world.sweep()).wishes_told == ()
    for kind, key in ((CommandKind.CLOSE, trade), (CommandKind.CLOSE, closed), (CommandKind.CANCEL, order.order_key)):
        (command,) = await note_commands(world.pool, ACCOUNT, kind, [key], "ann")
        await keep(world.pool, ACCOUNT, kind, key, CloseRequest(by="says ann", command=command))
    await keep(world.pool, ACCOUNT, CommandKind.CANCEL, trade, CloseRequest(by="its order has ended"))
    await keep(world.pool, "another", CommandKind.CANCEL, order.order_key, CloseRequest(by="eve"))
    report = await world.sweep()
    assert set(report.wishes_told) == {f"close/{trade}", f"cancel/{order.order_key}"}
    for handle in (monitor, working):
        (asked,) = await handle.query("asked", result_type=list[CloseRequest])
        assert (asked.by, asked.command != unheard, asked.own) == ("ann", True, False)
    assert await filled.query("asked", result_type=list[CloseRequest]) == []
    await monitor.terminate()

    async def swept() -> bool:
        return (await world.sweep()).monitors_started == (trade,)  # the list of running workflows lags a little

    await until(swept)
    started = await monitor.query("start", result_type=MonitorStart)
    assert started.close is not None
    assert started.close.by == "ann"


async def test_a_new_monitor_goes_on_with_the_pauses_of_the_one_before(world: World) -> None:
    """Stops that sold nothing since the last successful one are counted from the ledger: after a termination the pause
    before the next attempt is as long as before. A profit exit's attempt, which returns to monitoring, doesn't count.
    """
    refused, never, profit = [await add_trade(world.pool, name) for name in ("refused", "never", "profit")]
    for key, reason, sold in (
        (refused, "HARD_STOP", 0),
        (refused, "HARD_STOP", "0.4"),
        (refused, "HARD_STOP", 0),
        (refused, "MANUAL", 0),
        (profit, "HARD_STOP", 0),
        (profit, "TP", 0),
    ):
        leg = intent(reason, side=Side.SELL, role=OrderRole.EXIT, entry_key=key)
        await add_order(world.pool, leg)
        await world.pool.execute(
            "UPDATE orders SET finished = true, state = 'CANCELLED', entry_point = 'exit', exit_reason = $2, "
            "filled_size = $3::text::numeric WHERE order_key = $1",
            leg.order_key,
            reason,
            str(sold),
        )
    await world.sweep()
    for key, failures in ((refused, 2), (never, 0), (profit, 0)):
        started = await world.client.get_workflow_handle(exit_workflow_id(key)).query("start", result_type=MonitorStart)
        assert started.failures == failures


class Watchers:
    """A replacement for the long-running activity that only reports its arguments."""

    def __init__(self) -> None:
        self.running: list[WatcherInput] = []

    @activity.defn(name="watch_prices")
    async def watch_prices(self, request: WatcherInput) -> StreamEnd:
        """Run until cancelled."""
        self.running.append(request)
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.05)
        finally:
            self.running.remove(request)


async def test_streams_are_started_once_and_watchers_take_a_new_number_of_shards(
    world: World,
) -> None:
    """Any number of processes may start them; more or fewer shards reach running watchers."""
    account = f"acc-{uuid.uuid4().hex[:8]}"
    queues = TemporalSettings(streams_queue=f"s-{account}", watchers_queue=f"w-{account}", orders_queue=f"o-{account}")

    def settings(shards: int) -> Settings:
        return Settings(account=account, temporal=queues, watcher=WatcherSettings(shards=shards))

    async def running(shards: int) -> bool:
        return sorted((item.shard, item.shards) for item in watchers.running) == [(n, shards) for n in range(shards)]

    watchers = Watchers()
    async with Worker(
        world.client,
        task_queue=queues.watchers_queue,
        workflows=[PriceWatcherWorkflow],
        activities=[watchers.watch_prices],
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    ):
        for shards in (1, 1, 3, 2):
            await ensure_singletons(world.client, settings(shards))
            await until(lambda: running(shards))  # noqa: B023 - awaited here
        gone = world.client.get_workflow_handle(price_watcher_workflow_id(account, 2))
        await until(lambda: has_status(gone, WorkflowExecutionStatus.COMPLETED))
        first = world.client.get_workflow_handle(price_watcher_workflow_id(account, 0))
        state = await first.query(PriceWatcherWorkflow.state)
        assert (state.what, state.runs) == ("prices, shard 0 of 2", 3)
        for shard in (0, 1):
            await world.client.get_workflow_handle(price_watcher_workflow_id(account, shard)).cancel()
        await until(lambda: has_status(first, WorkflowExecutionStatus.CANCELED))
        await until(lambda: truth(not watchers.running))
    stream = world.client.get_workflow_handle(user_stream_workflow_id(account))
    assert (await stream.describe()).status is WorkflowExecutionStatus.RUNNING
    await stream.terminate()


async def truth(value: object) -> bool:
    """For `until`."""
    return bool(value)


async def has_status(handle: object, status: WorkflowExecutionStatus) -> bool:
    """Whether the workflow has this status by now."""
    return (await handle.describe()).status is status  # type: ignore[attr-defined]


async def test_the_schedule_sweeps_and_is_kept_as_a_person_left_it(world: World) -> None:
    """The sweep runs by its schedule; starting again updates it, but leaves it paused."""
    account = f"acc-{uuid.uuid4().hex[:8]}"
    settings = Settings(account=account, temporal=TemporalSettings(orders_queue=world.queue + "-sweep"))
    starter = Starter(world.pool, world.client, task_queue=world.queue)
    sweep = Sweep(world.pool, world.client, starter)
    async with Worker(
        world.client,
        task_queue=settings.temporal.orders_queue,
        workflows=[SweepWorkflow],
        activities=[sweep.sweep],
    ):
        await ensure_schedules(world.client, settings)
        handle = world.client.get_schedule_handle(sweep_schedule_id(account))
        await until(lambda: swept(world.client, account))
        await handle.pause()
        await ensure_schedules(world.client, settings)
        assert (await handle.describe()).schedule.state.paused
        await handle.delete()


async def swept(client: Client, account: str) -> bool:
    """Whether a sweep of the account has completed."""
    async for found in client.list_workflows(f"WorkflowId STARTS_WITH 'sweep-{account}'"):
        if found.status is WorkflowExecutionStatus.COMPLETED:
            return True
    return False
