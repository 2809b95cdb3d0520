"""Trade-strategy linkage: the four cases that broke the old system, each also with a restart of everything (LINK-1).

A restart ends the workers, kills Temporal and PostgreSQL, cuts every stream, and starts everything again on the same
data. The market is in step mode, so that only the test moves it in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from domain.ids import client_order_id
from domain.messages import OrderIntent
from schema import migrate
from tests.support.harness import Trade, TradingSystem, trading_system
from tests.support.intents import limit_buy, linkage, market_buy
from tests.support.waiting import eventually
from workers.stack import temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

restarting = pytest.mark.parametrize("restart", [False, True], ids=["undisturbed", "restarted"])


@dataclass
class World:
    """A system on servers that keep their data."""

    system: TradingSystem
    postgres: EmbeddedPostgres
    temporal: DevServer
    restart: bool

    async def interrupt(self) -> None:
        """Restart everything, if this run has a restart: kill the servers, cut the streams, start again."""
        if not self.restart:
            return
        async with self.down():
            pass

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """All our processes are down during the block."""
        system = self.system
        await system.stop_workers()
        await self.temporal.kill()
        await self.postgres.kill()
        await system.control.sockets("drop")
        yield
        await self.postgres.start()
        await self.temporal.start()
        await system.start_workers()


@pytest_asyncio.fixture(scope="module")
async def own_postgres(
    tmp_path_factory: pytest.TempPathFactory, servers_folder: Path
) -> AsyncIterator[EmbeddedPostgres]:
    """This module's own PostgreSQL, which may be killed."""
    server = EmbeddedPostgres(PostgresConfig(servers_folder / "linkage-postgres"))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module")
async def own_temporal(servers_folder: Path) -> AsyncIterator[DevServer]:
    """This module's own Temporal that keeps its histories in a file."""
    program = await temporal_binary.ensure_async()
    server = DevServer(
        DevServerConfig(
            program=program, log=servers_folder / "linkage.log", database=servers_folder / "linkage.db", ui=False
        )
    )
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def world(
    request: pytest.FixtureRequest, own_postgres: EmbeddedPostgres, own_temporal: DevServer
) -> AsyncIterator[World]:
    """The test's own system on those servers."""
    name = f"linkage_{request.node.name.translate(str.maketrans('[]-', '___'))}"[:60]
    await own_postgres.create_database(name)
    dsn = own_postgres.dsn(name)
    await migrate.upgrade(dsn)
    async with trading_system(dsn, own_temporal.address) as system:
        yield World(system, own_postgres, own_temporal, bool(request.getfixturevalue("restart")))


async def link_of(system: TradingSystem, order_key: str) -> dict[str, Any]:
    """The linkage row of an order."""
    rows = await system.rows("SELECT * FROM trade_strategy_link WHERE order_key = $1", order_key)
    assert len(rows) == 1, f"{len(rows)} linkage rows for {order_key}"
    return dict(rows[0])


async def assert_linked(system: TradingSystem, intent: OrderIntent) -> dict[str, Any]:
    """An entry's row equals its decision, under the exchange's own id."""
    link = await link_of(system, intent.order_key)
    decision = intent.linkage
    assert link["snapshot_id"] == decision.snapshot_id
    assert (link["buy_score"], link["trigger_type"]) == (decision.buy_score, decision.trigger)
    assert link["indicators_fired"] == list(decision.indicators_fired)
    assert Decimal(link["indicator_breakdown"]["rsi"]["contribution"]) == Decimal("1.4")
    assert link["order_id"] == await system.exchange_id(link["client_order_id"])
    return link


async def linkage_rate(system: TradingSystem) -> Decimal:
    """Filled orders of ours that have a linkage row, as a fraction."""
    rate: Decimal = await system.value(
        "SELECT avg((l.order_key IS NOT NULL)::int) FROM orders o LEFT JOIN trade_strategy_link l USING (order_key) "
        "WHERE o.role <> 'EXTERNAL' AND o.filled_size > 0"
    )
    return rate


async def until_filled(system: TradingSystem, trade: Trade, size: str) -> None:
    """Wait until the ledger has this filled size of the entry, and a plan that guards it."""

    async def so() -> bool:
        return bool(
            await system.value(
                "SELECT o.filled_size = $2::numeric AND p.state = 'ARMED' FROM orders o "
                "JOIN exit_plans p ON p.entry_key = o.order_key WHERE o.order_key = $1",
                trade.key,
                Decimal(size),
            )
        )

    await eventually(so, within=40, what=f"{size} filled and guarded")


@restarting
async def test_multiple_orders_same_symbol(world: World, restart: bool) -> None:
    """Two orders on one symbol with different snapshots keep their own decisions, whichever fills first."""
    system = world.system
    first = await system.start(limit_buy(system.account, "0.1", "49999", linkage=linkage("rsi_oversold")))
    second = await system.start(
        limit_buy(system.account, "0.1", "49998", linkage=linkage("macd_cross", buy_score="0.9"))
    )
    one, two = await first.exchange_id(), await second.exchange_id()
    await world.interrupt()
    await system.control.fill(two, "0.1")
    await until_filled(system, second, "0.1")
    await system.control.fill(one, "0.1")
    await until_filled(system, first, "0.1")
    links = [await assert_linked(system, trade.intent) for trade in (first, second)]
    assert links[0]["snapshot_id"] != links[1]["snapshot_id"]
    assert await linkage_rate(system) == 1
    await system.assert_books_agree()


@restarting
async def test_delayed_partial_fill(world: World, restart: bool) -> None:
    """A partial fill long after placement in market time belongs to the decision that placed the order."""
    system = world.system
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    exchange_id = await trade.exchange_id()
    await system.control.fill(exchange_id, "0.02")
    await until_filled(system, trade, "0.02")
    before = await assert_linked(system, trade.intent)
    await system.control.advance(600)
    await world.interrupt()
    await system.control.fill(exchange_id, "0.03")
    await until_filled(system, trade, "0.05")
    after = await assert_linked(system, trade.intent)
    assert after == before
    record = (await system.rows("SELECT * FROM trade_records WHERE order_id = $1", exchange_id))[0]
    assert (record["size"], record["trigger"]["snapshot_id"]) == (Decimal("0.05"), trade.intent.linkage.snapshot_id)
    assert await linkage_rate(system) == 1
    await system.assert_books_agree()


@restarting
async def test_sell_completes_the_buys_linkage(world: World, restart: bool) -> None:
    """The sell has its own link and completes the buy's with score, trigger and reason when the trade closes."""
    system = world.system
    trade = await system.start(market_buy(system.account, "0.01"))
    await until_filled(system, trade, "0.01")
    open_link = await assert_linked(system, trade.intent)
    assert (open_link["exit_reason"], open_link["completed_at"]) == (None, None)
    await system.pool.execute(
        """INSERT INTO market_snapshots (account, snapshot_id, symbol, at, action, sell_score)
           VALUES ($1, gen_random_uuid(), 'BTC-USD', now(), 'hold', 0.4)""",
        system.account,
    )
    await world.interrupt()
    await system.price("47000")
    await trade.closed(within=60)
    sell = await link_of(system, trade.leg_key(1))
    assert (sell["entry_key"], sell["exit_reason"], sell["sell_trigger"]) == (trade.key, "HARD_STOP", "HARD_STOP")
    assert (sell["sell_score"], sell["snapshot_id"]) == (Decimal("0.4"), trade.intent.linkage.snapshot_id)
    assert sell["order_id"] == await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    done = await assert_linked(system, trade.intent)
    assert (done["sell_score"], done["sell_trigger"], done["exit_reason"]) == (
        Decimal("0.4"),
        "HARD_STOP",
        "HARD_STOP",
    )
    assert done["completed_at"] is not None
    assert await linkage_rate(system) == 1
    await system.assert_books_agree()


@restarting
async def test_websocket_disconnect_during_fill(world: World, restart: bool) -> None:
    """A fill while the user stream, or everything, is down is found by REST and linked to its decision.

    The order fills completely, so that the stream's snapshot of open orders doesn't have it either.
    """
    system = world.system
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    exchange_id = await trade.exchange_id()
    if restart:
        async with world.down():
            await system.control.fill(exchange_id, "0.1")
    else:
        refusing = await system.control.fault("refused", "user", count=1000)
        await system.control.sockets("drop", "user")
        await system.control.fill(exchange_id, "0.1")
        await system.control.clear_faults(refusing)
    await until_filled(system, trade, "0.1")
    await assert_linked(system, trade.intent)
    found_by = await system.rows("SELECT ingest_via FROM fills WHERE order_key = $1", trade.key)
    assert [row["ingest_via"] for row in found_by] == ["rest"]
    assert await linkage_rate(system) == 1
    await system.assert_books_agree()
