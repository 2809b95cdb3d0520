"""An accepted close or cancel is a promise: it holds even if the workflow that gave it is terminated (LIFE-11)."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import pytest
from temporalio.testing import ActivityEnvironment

from activities.commands import note_commands
from activities.interfaces.streams import SweepInput
from activities.reconcile.sweep import Sweep
from cli.asking import commanded, keep_until_started
from domain.commands import CommandKind
from domain.exits import ExitReason
from domain.ids import client_order_id, exit_workflow_id
from domain.messages import CloseAnswer, CloseRequest, MonitorStart
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from web.views.trades import accepted_commands
from workflows.exit_monitor import ExitMonitorWorkflow

KEPT = "SELECT true FROM commands WHERE subject = $1 AND kind = $2 AND accepted_at IS NOT NULL"
CLOSED = "SELECT exit_reason FROM trades WHERE entry_key = $1 AND state = 'CLOSED'"


async def until_kept(system: TradingSystem, trade: Trade, kind: CommandKind) -> None:
    """Wait until the ledger has the promise."""
    await eventually(partial(system.value, KEPT, trade.key, kind.value), what=f"the {kind} is kept in the ledger")


async def test_a_close_of_an_unfilled_entry_sells_what_fills_after_its_workflow_was_terminated(
    system: TradingSystem,
) -> None:
    """The cancel loses the race, and the workflow that accepted the close is terminated: the fill is sold all the
    same."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    exchange_id = await trade.exchange_id()
    await trade.until_state("OPEN")
    await system.control.latency(cancel=None)
    answer = await trade.handle.execute_update("close", CloseRequest(by="a person"), result_type=CloseAnswer)
    assert answer.accepted
    await until_kept(system, trade, CommandKind.CLOSE)
    await trade.handle.terminate("a person's mistake")
    await system.control.fill(exchange_id, "0.1")
    assert await eventually(partial(system.value, CLOSED, trade.key), what="closed") == "MANUAL"
    assert await system.value("SELECT sold_size FROM trades") == Decimal("0.1")
    await system.assert_books_agree()


@pytest.mark.parametrize("proven", [True, False], ids=["by a command", "through Temporal"])
async def test_a_close_holds_over_its_monitor_and_keeps_who_asked(system: TradingSystem, proven: bool) -> None:
    """A close that could not be done yet is done by the monitor that the sweep starts, in the same person's name."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.product("BTC-USD", cancel_only=True)
    request = CloseRequest(by="ann")
    if proven:
        (command,) = await note_commands(system.pool, system.account, CommandKind.CLOSE, [trade.key], "ann (log-in)")
        request = CloseRequest(by="ann", command=command)
    await trade.monitor.execute_update("close", request, result_type=CloseAnswer)
    await until_kept(system, trade, CommandKind.CLOSE)
    by = "ann (log-in)" if proven else "temporal (says ann)"
    assert [(row["given_by"], row["done"]) for row in await accepted_commands(system.pool, trade.key)] == [(by, False)]
    await trade.monitor.terminate("a person's mistake")
    await system.control.product("BTC-USD", cancel_only=False)
    system.parts.venue.forget_product("BTC-USD")
    assert await system.parts.starter.monitor(trade.key)
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.MANUAL, Decimal("0.01"))
    asked = await system.value("SELECT intent ->> 'asked_by' FROM orders WHERE role = 'EXIT' AND state = 'FILLED'")
    assert asked == by
    assert [row["done"] for row in await accepted_commands(system.pool, trade.key)] == [True]
    await system.assert_books_agree()


async def test_a_cancel_holds_over_its_workflow(system: TradingSystem) -> None:
    """A cancel that the exchange did not answer yet is requested by the workflow that follows a terminated one."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await trade.until_state("OPEN")
    fault = await system.control.fault("server_error", "POST /orders/batch_cancel", status=503, duration=600)
    await trade.handle.execute_update("cancel", CloseRequest(by="a person"), result_type=CloseAnswer)
    await until_kept(system, trade, CommandKind.CANCEL)
    await trade.handle.terminate("a person's mistake")
    await system.control.clear_faults(fault)
    await system.parts.starter.resume(trade.key)
    ended = "SELECT finished AND state = 'CANCELLED' FROM orders WHERE order_key = $1"
    await eventually(partial(system.value, ended, trade.key), what="cancelled")
    assert (await system.venue_order(client_order_id(trade.key, 1)))["status"] == "CANCELLED"
    await system.assert_books_agree()


async def test_a_close_for_which_no_workflow_runs_is_kept_and_done_by_the_next_monitor(system: TradingSystem) -> None:
    """Monitor and entry are both gone: the close stays in the ledger, and the trade's next monitor sells it."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await trade.handle.terminate("a person's mistake")
    await trade.monitor.terminate("a person's mistake")
    request = (await commanded(system.pool, system.account, "close", [trade.key], "ann"))[trade.key]
    sentence = await keep_until_started(system.pool, system.account, "close", trade.key, request)
    assert "the close is stored" in sentence
    assert await system.parts.starter.monitor(trade.key)
    closed = await eventually(partial(system.rows, CLOSED, trade.key), what="closed")
    assert closed[0]["exit_reason"] == "MANUAL"
    (promise,) = await accepted_commands(system.pool, trade.key)
    assert (promise["given_by"], promise["done"]) == ("ann", True)


async def test_a_close_that_a_starting_monitor_did_not_read_is_told_by_the_sweep(system: TradingSystem) -> None:
    """It was stored in the ledger between a monitor's read and its start: the sweep sends it to the running monitor,
    which sells once, however often it is sent.
    """
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await trade.handle.terminate("a person's mistake")
    await trade.monitor.terminate("a person's mistake")
    read = MonitorStart(
        entry_key=trade.key, account=system.account, symbol="BTC-USD", size=Decimal("0.01"), resumed=True
    )
    request = (await commanded(system.pool, system.account, "close", [trade.key], "ann"))[trade.key]
    await keep_until_started(system.pool, system.account, "close", trade.key, request)
    await system.client.start_workflow(
        ExitMonitorWorkflow.run,
        read,
        id=exit_workflow_id(trade.key),
        task_queue=system.settings.temporal.orders_queue,
    )
    assert (await trade.monitor_view()).due is None
    sweep = Sweep(system.pool, system.client, system.parts.starter)
    told = [await ActivityEnvironment().run(sweep.sweep, SweepInput(account=system.account)) for _ in range(2)]
    assert told[0].wishes_told == (f"close/{trade.key}",)
    closed = await eventually(partial(system.rows, CLOSED, trade.key), what="closed")
    assert closed[0]["exit_reason"] == "MANUAL"
    exits = await system.rows("SELECT intent ->> 'asked_by' AS by FROM orders WHERE role = 'EXIT'")
    assert [row["by"] for row in exits] == ["ann"]
    await system.assert_books_agree()
