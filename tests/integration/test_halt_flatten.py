"""A person's switches, by the real command on the whole system; and a worker's shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest_asyncio
from temporalio.service import RPCError

from cli.asking import user
from domain.exits import ExitReason
from domain.orders import OrderState
from tests.support.command import environment
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import SLACK, eventually
from workers.schedules import schedules
from workers.stack.dev_server import DevServer
from workers.stack.processes import Child, Command, python_module

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """The whole system."""
    async with trading_system(database, temporal_server.address) as running:
        yield running


@dataclass(frozen=True)
class Answer:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


async def command(system: TradingSystem, *arguments: str, timeout: float = 60) -> Answer:
    """Run `bottrader` in its own process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli.main",
        *arguments,
        cwd=ROOT,
        env=environment(system),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), SLACK * timeout)
    return Answer(process.returncode or 0, out.decode(), err.decode())


async def test_a_halt_refuses_entries_and_lets_exits_go_on(system: TradingSystem) -> None:
    """The person, time and reason of a halt are stored and shown; stops still sell; after a resume entries pass
    again."""
    held = await system.start(market_buy(system.account))
    await held.until_protected()
    halted = await command(system, "halt", "--reason", "the news", "--by", "ada", "--json")
    assert (halted.code, halted.json["changed"], halted.json["changed_by"]) == (0, True, user("ada"))
    refused = await system.start(market_buy(system.account))
    outcome = await refused.result()
    assert (outcome.state, outcome.gate) == (OrderState.REJECTED, "SKIP_TRADING_HALTED")
    assert "the news" in outcome.sentence
    again = await command(system, "halt")
    assert (again.code, "already" in again.out) == (1, True)
    await system.price("47000")
    assert (await held.closed()).exit_reason is ExitReason.HARD_STOP
    resumed = await command(system, "resume", "--by", "ada")
    assert resumed.code == 0
    assert (await command(system, "resume")).code == 1
    passed = await system.start(market_buy(system.account))
    await passed.until_protected()
    kinds = await system.rows("SELECT kind, resolved_at FROM incidents WHERE kind LIKE 'TRADING%' ORDER BY id")
    assert [row["kind"] for row in kinds] == ["TRADING_HALTED", "TRADING_RESUMED"]
    assert all(row["resolved_at"] is not None for row in kinds)


async def test_flatten_closes_trades_and_cancels_entries(system: TradingSystem) -> None:
    """Protected trades are sold, resting and partly filled entries are cancelled, and each is reported with its end."""
    first = await system.start(market_buy(system.account, "0.01"))
    second = await system.start(market_buy(system.account, "0.02", symbol="ETH-USD"))
    resting = await system.start(limit_buy(system.account, "0.01", "48000"))
    partial = await system.start(limit_buy(system.account, "0.02", "49000"))
    await first.until_protected("0.01")
    await second.until_protected("0.02")
    await resting.exchange_id()
    await system.control.fill(await partial.exchange_id(), "0.005")
    await partial.until_protected("0.005")
    unsure = await command(system, "flatten")
    assert unsure.code == 2
    assert "--yes" in unsure.err
    flat = await command(system, "flatten", "--yes", "--halt", "--json")
    assert (flat.code, flat.json["flat"], flat.json["left"]) == (0, True, 0), flat.err
    items = {item["key"]: item for item in flat.json["items"]}
    assert {key: items[key]["told"] for key in (first.key, second.key, partial.key)} == dict.fromkeys(
        (first.key, second.key, partial.key), "MANUAL"
    )
    assert items[resting.key]["state"] == "CANCELLED"
    for trade in (first, second, partial):
        assert (await trade.closed()).exit_reason is ExitReason.MANUAL
    assert (await resting.result()).state is OrderState.CANCELLED
    assert await system.value("SELECT halted FROM account_controls")
    await eventually(lambda: settled(system), what="the exchange's own fills are in")
    await system.assert_books_agree()
    nothing = await command(system, "flatten", "--yes")
    assert (nothing.code, "nothing to close" in nothing.out) == (0, True)


async def test_flatten_of_one_product_leaves_the_others(system: TradingSystem) -> None:
    """Only the named product's trades and orders are sold or cancelled, and the exit code is for them alone."""
    gone = await system.start(market_buy(system.account, "0.01"))
    stays = await system.start(market_buy(system.account, "0.02", symbol="ETH-USD"))
    await gone.until_protected("0.01")
    await stays.until_protected("0.02")
    unsure = await command(system, "flatten", "btc-usd")
    assert (unsure.code, "in BTC-USD?" in unsure.err) == (2, True)
    flat = await command(system, "flatten", "btc-usd", "--yes", "--json")
    assert (flat.code, flat.json["flat"], [item["key"] for item in flat.json["items"]]) == (0, True, [gone.key])
    assert (await gone.closed()).exit_reason is ExitReason.MANUAL
    assert await system.value("SELECT state FROM trades WHERE entry_key = $1", stays.key) == "PROTECTED"
    nothing = await command(system, "flatten", "BTC-USD", "--yes")
    assert (nothing.code, "nothing to close in BTC-USD" in nothing.out) == (0, True)


async def settled(system: TradingSystem) -> bool:
    """Whether all fills are the exchange's own."""
    return not await system.rows("SELECT id FROM fills WHERE origin = 'derived'")


async def test_flatten_says_what_it_could_not_close(system: TradingSystem) -> None:
    """A trade that the exchange refuses to sell is left, with the exchange's reason and exit code 1."""
    trade = await system.start(market_buy(system.account))
    await trade.until_protected()
    await system.control.product("BTC-USD", cancel_only=True)
    left = await command(system, "flatten", "--yes", "--json", "--timeout", "6")
    assert (left.code, left.json["flat"], left.json["left"]) == (1, False, 1)
    item = left.json["items"][0]
    assert item["key"] == trade.key
    assert not item["closed"]
    assert item["told"]
    await system.control.product("BTC-USD", cancel_only=False)
    assert (await trade.closed(within=70)).exit_reason is ExitReason.MANUAL


async def test_flatten_leaves_the_close_of_a_trade_without_a_workflow_in_the_ledger(system: TradingSystem) -> None:
    """Without a running workflow the command doesn't wait: the trade's next monitor sells it, in the user's name."""
    held = await system.start(market_buy(system.account))
    await held.until_protected()
    for handle in (held.handle, held.monitor):
        await handle.terminate("a person's mistake")
    left = await command(system, "flatten", "--yes", "--no-wait", "--note", "enough", "--json")
    (row,) = left.json["items"]
    assert (left.code, "the close is stored" in row["told"]) == (1, True), left
    assert await system.parts.starter.monitor(held.key)

    async def closed() -> bool:
        return bool(await system.value("SELECT exit_reason = 'MANUAL' FROM trades WHERE state = 'CLOSED'"))

    await eventually(closed, what="the trade is closed")
    assert await system.value("SELECT intent ->> 'asked_by' FROM orders WHERE role = 'EXIT'") == user("")


async def test_reconcile_is_a_command(system: TradingSystem) -> None:
    """The dry run reports differences and changes nothing; the run corrects them; both have JSON and a table."""
    assert (await command(system, "reconcile", "--json")).json["balances"].startswith("opening of")
    await system.control.deposit("ETH", "2")
    dry = await command(system, "reconcile", "--dry-run", "--json")
    assert (dry.code, dry.json["dry_run"], dry.json["transfers"][0]["amount"]) == (0, True, "2")
    assert dry.json["balances"] == "no fill explains 2 ETH of the balances"
    done = await command(system, "reconcile")
    assert done.code == 0
    assert "Journal and exchange agree." in done.out
    assert "deposit" in done.out
    for again in ((), ("--dry-run",)):
        assert (await command(system, "reconcile", "--json", *again)).json["balances"] == "balances agree"


# --- drain -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def worker(system: TradingSystem, folder: Path, name: str) -> AsyncIterator[Child]:
    """A worker process with every role."""
    child = await Child.start(
        Command(
            name=name,
            argv=python_module("cli.main", "worker"),
            log=folder / f"{name}.log",
            env=environment(system),
            grace_s=30 * SLACK,
        )
    )
    try:
        try:
            # From the start of the process: loading modules takes most of that on a busy machine.
            await system.until_streams_are_up(within=45)
        except AssertionError as late:
            raise AssertionError(f"{late}; the worker's log:\n{child.log_tail(30)}") from None
        yield child
    finally:
        await child.stop()


async def test_a_draining_worker_loses_nothing(database: str, temporal_server: DevServer, tmp_path: Path) -> None:
    """SIGTERM in the middle of entries and exits: it ends by itself, the next worker continues, and the books agree."""
    async with trading_system(database, temporal_server.address, roles=frozenset()) as system:
        try:
            async with worker(system, tmp_path, "first") as first:
                held = [await system.start(market_buy(system.account)) for _ in range(4)]
                for trade in held:
                    await trade.until_protected()
                # Exits and more entries are under way at the shutdown.
                await system.control.latency(accept=0.5)
                await system.price("47000")
                late = [await system.start(market_buy(system.account, symbol="ETH-USD")) for _ in range(8)]
                await eventually(lambda: sent(system, 6), what="orders are under way")
                os.kill(first.pid, signal.SIGTERM)
                assert await asyncio.wait_for(first.wait(), SLACK * 30) == 0
            await system.control.latency(accept=0.0)
            async with worker(system, tmp_path, "second"):
                for trade in held:
                    assert (await trade.closed(within=60)).exit_reason is ExitReason.HARD_STOP
                for trade in late:
                    await trade.until_protected(within=60)
                await system.price("2800", symbol="ETH-USD")
                for trade in late:
                    assert (await trade.closed(within=60)).entry_size == Decimal("0.01")
                await eventually(lambda: settled(system), within=60, what="the exchange's own fills are in")
            await system.assert_books_agree()
        finally:
            for name in schedules(system.settings):
                # A worker that never started has set up none, and the reason must be shown.
                with contextlib.suppress(RPCError):
                    await system.client.get_schedule_handle(name).delete()


async def sent(system: TradingSystem, wanted: int) -> bool:
    """Wait until this many orders have arrived at the exchange."""
    return len(await system.control.journal()) >= wanted
