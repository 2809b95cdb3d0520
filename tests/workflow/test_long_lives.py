"""Trades that outlive workers and histories: both are replaced without any effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest_asyncio
from temporalio.client import WorkflowHandle

from domain.exits import ExitReason, ExitRules
from domain.messages import CloseRequest, ExitDue, OrderUpdate
from domain.orders import AttemptStatus
from tests.support.harness import Trade, TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import SLACK, eventually
from workers.stack import temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig


async def protected_part(system: TradingSystem) -> Trade:
    """An entry that filled in part and was cancelled, so that it and its monitor wait."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await trade.exchange_id(), "0.04")
    await trade.until_protected("0.04")
    await trade.handle.signal("cancel", CloseRequest(by="a person"))
    await trade.until_state("CANCELLED")
    return trade


async def test_a_worker_stops_at_once_with_waiting_trades_and_another_goes_on(system: TradingSystem) -> None:
    """Evicting running workflows from a worker's memory ends them there, and the next worker has them all."""
    trade = await protected_part(system)
    async with asyncio.timeout(SLACK * 15):
        await system.stop_workers()
    await system.start_workers()
    handle = system.client.get_workflow_handle(trade.handle.id)
    assert (await handle.query("state"))["trade_state"] == "PROTECTED"
    await system.price("47000")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.04"))
    await system.assert_books_agree()


class ImpatientServer(DevServer):
    """A Temporal that suggests a new history long before the usual 4,096 events, and ends one that is too long."""

    def _argv(self) -> list[str]:
        argv = super()._argv()
        for name, events in {"suggestContinueAsNew": 80, "warn": 200, "error": 400}.items():
            argv += ["--dynamic-config-value", f"limit.historyCount.{name}={events}"]
        return argv


@pytest_asyncio.fixture
async def impatient(servers_folder: Path) -> AsyncIterator[DevServer]:
    """Such a server."""
    program = await temporal_binary.ensure_async()
    server = ImpatientServer(DevServerConfig(program=program, log=servers_folder / "impatient.log", ui=False))
    await server.start()
    yield server
    await server.stop()


async def until_continued(handle: WorkflowHandle[Any, Any], signal: str | None = None) -> None:
    """Wait until the history is continued in a new one; a given signal is sent now and then."""
    first = await handle.describe()

    async def continued() -> bool:
        if signal is not None:
            await handle.signal(signal)
        return (await handle.describe()).run_id != first.run_id

    # Not too often: a run can only be ended while nothing new arrives.
    await eventually(continued, within=30, what=f"{handle.id} is continued", every=0.25)


async def lose_no_report(system: TradingSystem) -> None:
    """The exchange's reports on an entry at the very moment of its new history are in the ledger."""
    await system.price("50000")
    trade = await protected_part(system)
    first = await trade.handle.describe()
    exchange_id = await trade.exchange_id()
    late = 0
    while (await system.client.get_workflow_handle(trade.handle.id).describe()).run_id == first.run_id:
        late += 1
        size = Decimal("0.04") + Decimal("0.0001") * late
        update = OrderUpdate(
            attempt=1,
            status=AttemptStatus.CANCELLED,
            exchange_order_id=exchange_id,
            filled_size=size,
            filled_value=size * 49999,
            at=datetime.now(UTC),
        )
        await system.client.get_workflow_handle(trade.handle.id).signal("order_update", update)
        booked = "SELECT filled_size = $2 FROM orders WHERE order_key = $1"
        await eventually(
            partial(system.value, booked, trade.key, size), what=f"late report {late} is in the ledger", within=20
        )


async def outlive_refusals(system: TradingSystem) -> None:
    """A stop that stays refused, and then a person's close, continue from history to history until they can sell."""
    rules = ExitRules(retry_max_seconds=Decimal("0.2"))
    trade = await system.start(market_buy(system.account, "0.01", symbol="ETH-USD", rules=rules))
    await trade.until_protected("0.01")
    before = await trade.monitor_view()
    await system.control.product("ETH-USD", cancel_only=True)
    due = ExitDue(reason=ExitReason.HARD_STOP, price=before.entry_price or Decimal(0), at=datetime.now(UTC))
    await trade.monitor.signal("exit_due", due)
    await until_continued(trade.monitor)
    assert (await trade.monitor_view()).due == "HARD_STOP"
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    await until_continued(trade.monitor)
    await until_continued(trade.monitor)
    assert (await trade.monitor_view()).due == "MANUAL"
    await system.control.product("ETH-USD", cancel_only=False)
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.MANUAL, Decimal("0.01"))
    asked = "SELECT intent ->> 'asked_by' FROM orders WHERE entry_key = $1 AND role = 'EXIT' AND state = 'FILLED'"
    assert await system.value(asked, trade.key) == "temporal (says a person)"
    legs = await system.rows(
        "SELECT (intent ->> 'leg')::int AS leg FROM orders WHERE entry_key = $1 AND role = 'EXIT' ORDER BY 1", trade.key
    )
    assert [row["leg"] for row in legs] == list(range(1, len(legs) + 1)), "each exit has a number of its own"
    await system.assert_books_agree()


async def test_histories_that_grow_too_long_are_continued(database: str, impatient: DevServer) -> None:
    """Entry and monitor continue in new runs with their state; the stop then sells all and the outcome is complete."""
    async with trading_system(database, impatient.address) as system:
        await outlive_histories(system)
        await outlive_refusals(system)
        await lose_no_report(system)


async def outlive_histories(system: TradingSystem) -> None:
    """The test's steps."""
    trade = await protected_part(system)
    entry = system.client.get_workflow_handle(trade.handle.id)
    # A cancel of an ended entry and a check of an unchanged position change nothing.
    before = await entry.query("state")
    await until_continued(entry, "cancel")
    await until_continued(trade.monitor, "position_changed")
    told = ("state", "trade_state", "filled_size", "average_price", "fees", "attempts", "exit_monitor")

    async def as_before() -> bool:
        after = await entry.query("state")
        return all(after[name] == before[name] for name in told)

    await eventually(as_before, what="the new run says what the old one said")
    assert (await trade.monitor_view()).size == Decimal("0.04")
    await system.price("47000")
    outcome = await trade.closed(within=20)
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.04"))
    ended = await entry.result()
    assert (ended["filled_size"], ended["average_price"]) == ("0.04", "49999")
    assert len([order for order in await system.control.orders() if order["side"] == "SELL"]) == 1
    await system.assert_books_agree()
