"""Work that runs once for the account is kept running by any live process, with real servers and real workers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest_asyncio
from temporalio.client import Client, WorkflowExecutionStatus

from activities.database import Pool, create_pool
from activities.incidents import report_incident
from domain.exits import ExitReason
from tests.support.harness import trading_system
from tests.support.intents import market_buy
from tests.support.waiting import eventually
from workers.keeper import ENDED, MISSING, Keeper, KeeperOptions, check_at_start, needed_roles
from workers.schedules import ensure_schedules, ensure_singletons, sweep_schedule_id
from workers.settings import Settings, TemporalSettings, WatcherSettings
from workers.settings.strategy import StrategySettings
from workers.stack.dev_server import DevServer
from workflows.maintenance import ledger_check_id
from workflows.streams import price_watcher_workflow_id, user_stream_workflow_id


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


def quiet_settings(client: Client, **changes: object) -> Settings:
    """Settings of the test's own account, whose queues nobody polls."""
    name = f"k{uuid.uuid4().hex[:12]}"
    queues = {f"{role}_queue": f"{name}-{role}" for role in ("orders", "streams", "watchers", "strategy")}
    address = client.service_client.config.target_host
    return Settings(account=name, temporal=TemporalSettings(address=address, **queues), **changes)  # type: ignore[arg-type]


async def status(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """A workflow's status."""
    return (await client.get_workflow_handle(workflow_id).describe()).status


async def paused(client: Client, schedule_id: str) -> bool:
    """Whether a schedule exists and is paused."""
    return (await client.get_schedule_handle(schedule_id).describe()).schedule.state.paused


async def forget(client: Client, settings: Settings, *ids: str) -> None:
    """End workflows and schedules that a test left."""
    for workflow_id in ids:
        await client.get_workflow_handle(workflow_id).terminate("the test is over")
    for name in [item.id async for item in await client.list_schedules() if settings.account in item.id]:
        await client.get_schedule_handle(name).delete()


async def test_an_ended_watcher_and_user_stream_run_again_and_a_stop_is_still_sold(
    database: str, temporal_server: DevServer
) -> None:
    """Terminated by hand while a trade is open, both are started again by a process with neither role; that is an
    incident until their leases are held, and a stop that is due afterwards is sold.
    """
    async with trading_system(database, temporal_server.address) as system:
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")
        keeper = Keeper(system.client, system.pool, frozenset({"orders"}), lambda: system.settings)
        await keeper.look()
        assert await system.value("SELECT count(*) FROM incidents WHERE kind = $1", ENDED) == 0
        ids = [user_stream_workflow_id(system.account), price_watcher_workflow_id(system.account, 0)]
        for workflow_id in ids:
            await system.client.get_workflow_handle(workflow_id).terminate("by hand")
        await keeper.look()
        for workflow_id in ids:
            assert await status(system.client, workflow_id) is WorkflowExecutionStatus.RUNNING
        told = await system.rows("SELECT subject, severity FROM incidents WHERE kind = $1 ORDER BY subject", ENDED)
        assert [(row["subject"], row["severity"]) for row in told] == [(name, "WARNING") for name in sorted(ids)]

        async def over() -> bool:
            await keeper.look()
            return not await system.value(
                "SELECT count(*) FROM incidents WHERE kind = $1 AND resolved_at IS NULL", ENDED
            )

        await eventually(over, within=30, what="the incidents are over", every=0.2)
        await system.until_streams_are_up()
        await system.price("47000")
        outcome = await trade.closed(within=60)
        assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.01"))
        assert await system.value("SELECT count(*) FROM incidents WHERE kind = $1", ENDED) == len(ids)
        await forget(system.client, system.settings)


async def test_a_deleted_schedule_is_set_up_again_and_a_paused_one_stays_paused(
    pool: Pool, temporal_client: Client
) -> None:
    """A deleted sweep runs again, which is reported once; a check paused by a person stays paused."""
    settings = quiet_settings(temporal_client)
    keeper = Keeper(temporal_client, pool, frozenset({"watchers"}), lambda: settings)
    account = settings.account
    try:
        await ensure_schedules(temporal_client, settings)
        await keeper.look()
        assert await pool.fetchval("SELECT count(*) FROM incidents WHERE kind = $1", ENDED) == 0
        await temporal_client.get_schedule_handle(sweep_schedule_id(account)).delete()
        await temporal_client.get_schedule_handle(ledger_check_id(account)).pause()
        await keeper.look()
        await keeper.look()
        assert not (
            await temporal_client.get_schedule_handle(sweep_schedule_id(account)).describe()
        ).schedule.state.paused
        assert (await temporal_client.get_schedule_handle(ledger_check_id(account)).describe()).schedule.state.paused
        rows = await pool.fetch("SELECT subject, resolved_at IS NOT NULL AS over FROM incidents WHERE kind = $1", ENDED)
        assert [tuple(row) for row in rows] == [(sweep_schedule_id(account), True)]
    finally:
        ids = (user_stream_workflow_id(account), price_watcher_workflow_id(account, 0))
        await forget(temporal_client, settings, *ids)


async def test_a_part_that_ended_because_there_are_fewer_stays_ended(database: str, temporal_server: DevServer) -> None:
    """A process that still has two watcher shards in its settings doesn't restart the second one."""
    async with trading_system(database, temporal_server.address) as system:
        two = system.settings.model_copy(update={"watcher": WatcherSettings(shards=2)})
        second = price_watcher_workflow_id(system.account, 1)
        keeper = Keeper(system.client, system.pool, frozenset({"orders"}), lambda: two)
        await keeper.look()
        await ensure_singletons(system.client, system.settings)

        async def ended() -> bool:
            return await status(system.client, second) is WorkflowExecutionStatus.COMPLETED

        await eventually(ended, within=30, what="the second part has ended")
        await keeper.look()
        assert await ended()
        await forget(system.client, system.settings)


async def test_a_role_that_nobody_takes_is_told_until_somebody_does(
    database: str, temporal_server: DevServer, pool: Pool, temporal_client: Client
) -> None:
    """Queues without a worker are incidents that name the role to start; with workers there are none."""
    settings = quiet_settings(temporal_client, strategy=StrategySettings(enabled=True))
    account, at_once = settings.account, KeeperOptions(missing_after_seconds=0.0)
    try:
        keeper = Keeper(temporal_client, pool, frozenset(), lambda: settings, at_once)
        await keeper.look()
        await keeper.look()
        rows = await pool.fetch("SELECT subject, severity, sentence FROM incidents WHERE kind = $1 ORDER BY 1", MISSING)
        assert [(row["subject"], row["severity"]) for row in rows] == [
            ("orders", "CRITICAL"),
            ("strategy", "WARNING"),
            ("streams", "CRITICAL"),
            ("watchers", "CRITICAL"),
        ]
        assert "bottrader worker --role orders" in rows[0]["sentence"]
    finally:
        ids = (user_stream_workflow_id(account), price_watcher_workflow_id(account, 0))
        await forget(temporal_client, settings, *ids, f"market-data-{account}")
    unwanted = StrategySettings(enabled=False)  # no worker of this system has that role
    async with trading_system(database, temporal_server.address, others={"strategy": unwanted}) as system:
        await report_incident(system.pool, system.account, MISSING, "CRITICAL", "orders", "nobody")
        keeper = Keeper(system.client, system.pool, system.roles, lambda: system.settings, at_once)

        async def over() -> bool:
            await keeper.look()
            query = "SELECT count(*) FROM incidents WHERE account = $1 AND kind = $2 AND resolved_at IS NULL"
            return not await system.value(query, system.account, MISSING)

        await eventually(over, within=60, what="each role is taken", every=0.2)
        await forget(system.client, system.settings)


async def test_each_start_has_the_ledger_checked_once_by_all_its_workers(
    database: str, temporal_server: DevServer
) -> None:
    """Two workers that start at once request one check, which is stored with its result; a later start requests
    another."""
    async with trading_system(database, temporal_server.address) as system:
        await ensure_schedules(system.client, system.settings)

        async def checks() -> int:
            found: int = await system.value("SELECT count(*) FROM ledger_checks WHERE account = $1", system.account)
            return found

        handle = system.client.get_schedule_handle(ledger_check_id(system.account))

        async def first() -> bool:
            # A check that the schedule still sees running would be the requested one.
            return await checks() == 1 and not (await handle.describe()).info.running_actions

        await eventually(first, within=30, what="a new schedule has the ledger checked")
        await system.pool.execute("UPDATE ledger_checks SET at = at - interval '1 hour'")
        caught_up = system.parts.caught_up
        start = (check_at_start(system.client, system.pool, system.account, caught_up) for _ in range(2))
        await asyncio.gather(*start)

        async def second() -> bool:
            return await checks() == 2

        await eventually(second, within=30, what="the start has it checked")
        await check_at_start(system.client, system.pool, system.account, caught_up)
        assert (await handle.describe()).info.num_actions == 2
        await forget(system.client, system.settings)


def test_what_the_settings_need_says_which_roles_are_missed() -> None:
    """With entry points that only execute, or the strategy switched off, no strategy role is missed."""
    on = StrategySettings(enabled=True)
    execute = {"orders", "streams", "watchers"}
    assert needed_roles(Settings()) == execute
    assert needed_roles(Settings(strategy=on)) == {*execute, "strategy"}
    assert needed_roles(Settings(strategy=on, entry_points="webhook")) == execute
