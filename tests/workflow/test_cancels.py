"""Cancels that race fills lose neither: fills are protected, nothing is left open (LIFE-6, 7)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from temporalio.client import WorkflowExecutionStatus

from domain.exits import ExitReason
from domain.ids import client_order_id
from domain.messages import CloseAnswer, CloseRequest, ExitDue
from domain.orders import OrderState
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.stack import temporal_binary

ENDED = "Order would have traded with one of its own"
"""Why the exchange cancels an order by itself."""


async def cancel_by_command_line(system: TradingSystem, workflow_id: str) -> None:
    """Run the same command as a person."""
    program = await temporal_binary.ensure_async()
    process = await asyncio.create_subprocess_exec(
        str(program),
        *("workflow", "cancel", "--workflow-id", workflow_id, "--address", system.settings.temporal.address),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0


async def until_venue_says(system: TradingSystem, client_id: str, status: str) -> str:
    """The exchange's id of an attempt, once the exchange has it in this status."""

    async def so() -> str | None:
        order = await system.venue_order(client_id)
        return str(order["order_id"]) if order["status"] == status else None

    return await eventually(so, what=f"{client_id} is {status} at the exchange")


async def nothing_open(system: TradingSystem) -> bool:
    """Whether neither the exchange nor the ledger has a live order."""
    live = [order for order in await system.control.orders() if order["status"] in ("OPEN", "PENDING", "CANCEL_QUEUED")]
    ours = await system.value(
        "SELECT (SELECT count(*) FROM passive_orders) + (SELECT count(*) FROM attempts WHERE live)"
    )
    return not live and ours == 0


async def monitor_runs(trade: Trade) -> bool:
    """Whether the trade's exit monitor is running."""
    return (await trade.monitor.describe()).status is WorkflowExecutionStatus.RUNNING


@pytest.mark.parametrize("ends", ["in part", "wholly"])
async def test_a_cancel_from_the_command_line_races_a_fill(system: TradingSystem, ends: str) -> None:
    """`temporal workflow cancel` while the entry fills: the filled part is recorded and protected, nothing is open."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    first = client_order_id(trade.key, 1)
    await system.control.fill(await trade.exchange_id(), "0.03")
    await trade.until_protected("0.03")
    await system.control.latency(cancel=None)
    await cancel_by_command_line(system, trade.handle.id)
    exchange_id = await until_venue_says(system, first, "CANCEL_QUEUED")
    rest = "0.02" if ends == "in part" else "0.07"
    await system.control.fill(exchange_id, rest)
    await system.control.finish_cancel(exchange_id)
    view = await trade.until_state("CANCELLED" if ends == "in part" else "FILLED")
    filled = Decimal("0.03") + Decimal(rest)
    await trade.until_protected(str(filled))
    assert view.trade_state == "PROTECTED"
    assert await monitor_runs(trade)
    await eventually(lambda: nothing_open(system), what="nothing is open")
    plan = (await system.rows("SELECT state, quantity FROM exit_plans WHERE entry_key = $1", trade.key))[0]
    assert (plan["state"], plan["quantity"]) == ("ARMED", filled)
    await system.price("47000")
    outcome = await trade.closed()
    assert (outcome.entry_size, outcome.exit_size) == (filled, filled)
    await system.assert_books_agree()


async def test_a_cancel_before_any_fill_ends_the_order(system: TradingSystem) -> None:
    """A cancelled entry that never filled ends as CANCELLED and opens no trade."""
    trade = await system.start(limit_buy(system.account, "0.1", "49000"))
    await trade.exchange_id()
    await trade.handle.cancel()
    outcome = await trade.result()
    assert (outcome.state, outcome.trade) == (OrderState.CANCELLED, None)
    await eventually(lambda: nothing_open(system), what="nothing is open")


@pytest.mark.parametrize("by", ["update", "signal"])
async def test_cancel_by_update_and_by_signal(system: TradingSystem, by: str) -> None:
    """The order's own `cancel` does the same as a cancel of its workflow, and answers at once as an update."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await trade.exchange_id(), "0.03")
    await trade.until_protected("0.03")
    request = CloseRequest(by="a person", note="changed my mind")
    if by == "update":
        await trade.handle.execute_update("cancel", request)
    else:
        await trade.handle.signal("cancel", request)
    await trade.until_state("CANCELLED")
    await eventually(lambda: nothing_open(system), what="nothing is open")
    said = "cancelled by temporal (says a person): changed my mind"
    assert any(said in line for line in await trade.handle.query("timeline"))
    assert await monitor_runs(trade)


async def test_a_cancel_of_a_protected_trade_never_disarms(system: TradingSystem) -> None:
    """Cancelling a filled entry and its monitor sells nothing and leaves every stop in force."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await trade.handle.cancel()
    await trade.monitor.cancel()

    async def refused() -> bool:
        return any("refused" in line for line in await trade.monitor.query("timeline"))

    await eventually(refused, what="the monitor has refused the cancel")
    assert await monitor_runs(trade)
    assert len(await system.control.orders()) == 1
    await system.price("47000")
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


async def test_a_second_cancel_changes_nothing(system: TradingSystem) -> None:
    """Cancelling twice, by workflow and by signal, cancels once at the exchange."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await trade.exchange_id(), "0.03")
    await trade.until_protected("0.03")
    await trade.handle.cancel()
    await trade.handle.signal("cancel")
    await trade.handle.cancel()
    await trade.until_state("CANCELLED")
    await system.price("47000")
    outcome = await trade.closed()
    assert outcome.exit_size == Decimal("0.03")
    await system.assert_books_agree()


@pytest.mark.parametrize("lands", ["in time", "after the first exit"])
async def test_an_entry_stopped_out_at_a_third_sells_what_fills_before_the_cancel_lands(
    system: TradingSystem, lands: str
) -> None:
    """30 % filled, stopped out, another 70 % before the cancel lands: all of it is sold, none unprotected."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    first = client_order_id(trade.key, 1)
    await system.control.fill(await trade.exchange_id(), "0.03")
    await trade.until_protected("0.03")
    await system.control.latency(cancel=None)
    # Our own order holds the best bid up, so the test signals the stop like the price watcher.
    await trade.monitor.signal(
        "exit_due", ExitDue(reason=ExitReason.HARD_STOP, price=Decimal(47000), at=datetime.now(UTC))
    )
    exchange_id = await until_venue_says(system, first, "CANCEL_QUEUED")
    if lands == "after the first exit":
        await system.exchange_id(client_order_id(trade.leg_key(1), 1), within=20)

        async def sold() -> bool:
            return bool(await system.value("SELECT sold_size = 0.03 FROM trades WHERE entry_key = $1", trade.key))

        await eventually(sold, what="the first part is sold")
    await system.control.fill(exchange_id, "0.07")
    outcome = await trade.closed()
    assert (outcome.entry_size, outcome.exit_size) == (Decimal("0.1"), Decimal("0.1"))
    assert outcome.exit_reason is ExitReason.HARD_STOP
    assert {leg.reason for leg in outcome.exits} == {ExitReason.HARD_STOP}
    await eventually(lambda: nothing_open(system), what="nothing is open")
    await system.assert_books_agree()


async def test_a_close_stops_the_rest_of_the_entry_first(system: TradingSystem) -> None:
    """Closing a half-filled entry cancels its remainder at the exchange and sells the filled part."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await trade.exchange_id(), "0.04")
    await trade.until_protected("0.04")
    await trade.handle.execute_update("close", CloseRequest(by="a person"))
    outcome = await trade.closed()
    assert (outcome.entry_size, outcome.exit_size) == (Decimal("0.04"), Decimal("0.04"))
    assert outcome.exit_reason is ExitReason.MANUAL
    assert (await system.venue_order(client_order_id(trade.key, 1)))["status"] == "CANCELLED"
    await system.assert_books_agree()


@pytest.mark.parametrize("lost", [False, True], ids=["told by the stream", "found out by REST"])
async def test_what_a_person_cancels_in_the_exchanges_app_stays_cancelled(system: TradingSystem, lost: bool) -> None:
    """A post-only entry cancelled by somebody else is not sent a second time, and reports its end."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999", post_only=True))
    exchange_id = await trade.exchange_id()
    await trade.until_state("OPEN")
    if lost:
        await trade.handle.terminate("a person's mistake")
        await system.control.fault("missing", "user", count=1)
    await system.control.cancel(exchange_id)
    if lost:
        await system.parts.starter.resume(trade.key)
    ended = await eventually(
        lambda: system.rows("SELECT state, gate_sentence, filled_size FROM orders WHERE finished"), what="it ended"
    )
    told = "cancelled at the exchange by someone else (User requested cancel)"
    assert [tuple(row.values()) for row in ended] == [("CANCELLED", told, Decimal(0))]
    assert len(await system.control.orders()) == 1
    await system.assert_books_agree()


async def test_a_post_only_order_retried_after_both_attempts_filled_in_part(system: TradingSystem) -> None:
    """Two attempts that each filled in part, with late repeats of the first one's reports: the order's size is their
    sum."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999", post_only=True))
    one = await trade.exchange_id(1)
    await system.control.fill(one, "0.03")
    await trade.until_protected("0.03")
    await system.control.fault("late", "user", count=1, delay=1.0)
    await system.control.cancel(one, ENDED)
    two = await trade.exchange_id(2)
    second = await system.venue_order(client_order_id(trade.key, 2))
    assert second["order_configuration"]["limit_limit_gtc"]["base_size"] == "0.07"
    await system.control.fault("duplicate", "user", count=3)
    await system.control.fill(two, "0.02")
    await trade.until_protected("0.05")
    await system.control.cancel(two, ENDED)
    three = await trade.exchange_id(3)
    await system.control.fill(three, "0.05")
    view = await trade.until_state("FILLED")
    assert (view.filled_size, view.attempts) == (Decimal("0.1"), 3)
    sizes = await system.rows("SELECT filled_size FROM attempts WHERE order_key = $1 ORDER BY number", trade.key)
    assert [row["filled_size"] for row in sizes] == [Decimal("0.03"), Decimal("0.02"), Decimal("0.05")]
    await system.price("47000")
    outcome = await trade.closed()
    assert (outcome.entry_size, outcome.exit_size) == (Decimal("0.1"), Decimal("0.1"))
    await system.assert_books_agree()


async def test_a_post_only_order_that_would_cross_is_moved_off_the_touch(system: TradingSystem) -> None:
    """An attempt that fails at the market because it would take is followed by one on a fresh book, off the ask."""
    await system.control.latency(accept=None)
    trade = await system.start(limit_buy(system.account, "0.1", "50001", post_only=True))
    one = await trade.exchange_id(1)
    await system.control.latency(accept=0)
    await system.price("49000")
    await system.control.accept(one)
    await system.control.fill(await trade.exchange_id(2), "0.1")
    view = await trade.until_state("FILLED")
    assert (view.attempts, view.average_price) == (2, Decimal("49000.99"))
    attempts = await system.rows(
        "SELECT status, limit_price FROM attempts WHERE order_key = $1 ORDER BY number", trade.key
    )
    assert [(row["status"], row["limit_price"]) for row in attempts] == [
        ("FAILED", Decimal("50000.99")),
        ("FILLED", Decimal("49000.99")),
    ]
    await system.assert_books_agree()


async def test_a_further_post_only_attempt_costs_no_more_than_was_reserved(system: TradingSystem) -> None:
    """A buy whose first attempt was moved off the touch stays at that price when the market returns to its limit."""
    await system.price("48000")
    asked = limit_buy(system.account, "0.01", "50000", post_only=True)
    trade = await system.start(asked.model_copy(update={"base_size": None, "quote_size": Decimal(900)}))
    one = await trade.exchange_id(1)
    reserved = await system.value("SELECT reserved_quote FROM orders WHERE order_key = $1", trade.key)
    await system.price("50400")
    await system.control.cancel(one, ENDED)
    two = await trade.exchange_id(2)
    rows = await system.rows("SELECT size, limit_price FROM attempts WHERE order_key = $1 ORDER BY number", trade.key)
    await system.control.fill(two, rows[1]["size"])
    await trade.until_state("FILLED")
    assert [row["limit_price"] for row in rows] == [Decimal("48000.99"), Decimal("48000.99")]
    (order,) = await system.rows("SELECT filled_value, quote_fees FROM orders WHERE order_key = $1", trade.key)
    assert order["filled_value"] <= Decimal(900)
    assert order["filled_value"] + order["quote_fees"] <= reserved
    await system.assert_books_agree()


async def test_a_close_before_any_fill_holds_for_what_fills_all_the_same(system: TradingSystem) -> None:
    """The entry of an accepted close fills during its cancel: the fill is sold, as promised."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    exchange_id = await trade.exchange_id()
    await trade.until_state("OPEN")
    await system.control.latency(cancel=None)
    answer = await trade.handle.execute_update("close", CloseRequest(by="a person"), result_type=CloseAnswer)
    assert (answer.accepted, "its fills are sold" in answer.sentence) == (True, True)
    await until_venue_says(system, client_order_id(trade.key, 1), "CANCEL_QUEUED")
    await system.control.fill(exchange_id, "0.1")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.MANUAL, Decimal("0.1"))
    await system.assert_books_agree()
