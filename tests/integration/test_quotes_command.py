"""Stopping the market maker, in every way: no quote is left."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest_asyncio

from cli.asking import user
from domain.exits import ExitReason
from domain.ids import order_workflow_id
from domain.messages import OrderOutcome
from tests.support.harness import ALL_ROLES, TradingSystem, trading_system
from tests.support.waiting import SLACK, eventually
from workers.roles.quotes import last_quotes_leave, quotes_schedule
from workers.settings import SymbolSettings
from workers.settings.changes import set_override
from workers.settings.quoting import QuotingSettings
from workers.settings.sources import SettingSources
from workers.stack.dev_server import DevServer
from workers.stack.processes import python_environment
from workflows.quoting import quotes_id

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A system that quotes BTC-USD each second, in a profitable market, by its own schedule."""
    quoting = QuotingSettings(
        enabled=True,
        interval_s=Decimal(1),
        min_quote_volume=Decimal(0),
        max_inventory_quote=Decimal(60),
        lean_pct=Decimal(0),
    )
    symbols = SymbolSettings(allow=("BTC-USD",))
    roles = ALL_ROLES | {"strategy"}
    async with trading_system(
        database, temporal_server.address, roles=roles, symbols=symbols, quoting=quoting
    ) as running:
        await running.price("49500", "50500", size="1")
        name = quotes_id(running.account)
        schedule = await running.client.create_schedule(
            name, quotes_schedule(running.settings), trigger_immediately=True
        )
        try:
            yield running
        finally:
            await schedule.delete()


async def resting(system: TradingSystem) -> list[dict[str, Any]]:
    """Our open orders at the exchange."""
    return [item for item in await system.control.orders() if item["status"] == "OPEN"]


async def until_resting(system: TradingSystem, side: str) -> dict[str, Any]:
    """Wait until one order of a side rests."""

    async def so() -> dict[str, Any] | None:
        return next((item for item in await resting(system) if item["side"] == side), None)

    return await eventually(so, within=20, what=f"a {side} rests")


async def until_nothing_rests(system: TradingSystem) -> None:
    """Wait until the exchange has none of our orders and the ledger knows."""

    async def so() -> bool:
        open_orders = await system.value("SELECT count(*) FROM orders WHERE NOT finished")
        return not await resting(system) and open_orders == 0

    await eventually(so, within=20, what="nothing rests")


async def command(system: TradingSystem, *arguments: str) -> tuple[int, str, str]:
    """Run `bottrader` in its own process. Returns exit code, output, errors."""
    temporal = system.settings.temporal
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli.main",
        *arguments,
        cwd=ROOT,
        env=python_environment(
            {
                "DATABASE_URL": system.settings.database.dsn,
                "TEMPORAL_ADDRESS": temporal.address,
                "BOTTRADER_ACCOUNT": system.account,
                "BOTTRADER_QUOTING__ENABLED": "true",
                "COLUMNS": "200",
            }
        ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), SLACK * 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_stop_answers_when_nothing_rests_and_start_goes_on(system: TradingSystem) -> None:
    """Rounds run meanwhile; after the answer nothing rests and nothing follows, until somebody starts them again."""
    await until_resting(system, "BUY")
    code, out, _ = await command(system, "quotes", "show")
    assert (code, "BTC-USD" in out, "ask NOTHING_TO_SELL" in out) == (0, True, True)
    code, out, err = await command(system, "quotes", "stop", "--by", "ada", "--note", "lunch", "--json")
    assert (code, json.loads(out)["stopped"]) == (0, True), err
    assert await resting(system) == []
    assert await system.value("SELECT count(*) FROM orders WHERE NOT finished") == 0
    schedule = system.client.get_schedule_handle(quotes_id(system.account))
    state = (await schedule.describe()).schedule.state
    assert (state.paused, state.note) == (True, f"stopped by {user('ada')}: lunch")
    placed = await system.value("SELECT count(*) FROM orders")
    assert (await command(system, "quotes", "start"))[0] == 0
    await until_resting(system, "BUY")
    assert await system.value("SELECT count(*) FROM orders") > placed
    assert (await command(system, "quotes", "stop"))[0] == 0


async def test_switched_off_by_a_setting(system: TradingSystem) -> None:
    """`quoting.enabled = false` while workers run: the next round cancels everything and says why."""
    await until_resting(system, "BUY")
    async with system.pool.acquire() as connection:
        sources = SettingSources(from_file=system.settings.model_dump())
        await set_override(connection, sources, "quoting.enabled", ["false"], by="ada")
    await until_nothing_rests(system)

    async def told() -> bool:
        code = await system.value("SELECT bid_code FROM quote_rounds ORDER BY at DESC LIMIT 1")
        return bool(code == "DISABLED")

    await eventually(told, within=10, what="the round says why")


async def test_a_halt_cancels_at_once_and_no_quote_follows(system: TradingSystem) -> None:
    """`bottrader halt` cancels resting quotes before it answers; rounds continue and place nothing."""
    await until_resting(system, "BUY")
    code, _, err = await command(system, "halt", "--reason", "the news")
    # A round in between may have cancelled it first; then the command has nothing to report.
    assert (code, "could not be cancelled" in err) == (0, False), err
    await until_nothing_rests(system)
    await system.client.get_schedule_handle(quotes_id(system.account)).trigger()

    async def told() -> bool:
        code = await system.value("SELECT bid_code FROM quote_rounds ORDER BY at DESC LIMIT 1")
        return bool(code == "HALTED")

    await eventually(told, within=10, what="the round says why")
    await until_nothing_rests(system)


async def test_the_last_worker_takes_the_quotes_away(system: TradingSystem) -> None:
    """If no other worker polls the queue, a worker that ends leaves nothing at the exchange."""
    await until_resting(system, "BUY")
    await system.client.get_schedule_handle(quotes_id(system.account)).pause()
    await last_quotes_leave(system.client, system.pool, system.settings)
    assert await resting(system) == []


async def test_a_bid_filled_in_part_is_asked_for_and_its_trade_ends_with_it(system: TradingSystem) -> None:
    """A part of the bid fills and the ask sells that part while the rest of the bid still rests; when the rest ends,
    the trade is closed.
    """
    bid = await until_resting(system, "BUY")
    key = str(bid["client_order_id"]).rpartition("-")[0]
    await system.control.fill(bid["order_id"], "0.0005")
    ask = await until_resting(system, "SELL")
    assert Decimal(ask["order_configuration"]["limit_limit_gtd"]["base_size"]) == Decimal("0.0005")
    await system.control.fill(ask["order_id"], "0.0005")

    async def sold() -> bool:
        return bool(await system.value("SELECT remaining = 0 FROM trades WHERE entry_key = $1", key))

    await eventually(sold, within=10, what="the part is sold")
    assert [item["order_id"] for item in await resting(system)] == [bid["order_id"]]
    assert (await command(system, "quotes", "stop"))[0] == 0
    handle = system.client.get_workflow_handle(order_workflow_id(key), result_type=OrderOutcome)
    async with asyncio.timeout(SLACK * 20):
        result: OrderOutcome = await handle.result()
    assert result.trade is not None
    assert (result.trade.exit_reason, result.trade.exit_size) == (ExitReason.TP, Decimal("0.0005"))
    await system.assert_books_agree()
