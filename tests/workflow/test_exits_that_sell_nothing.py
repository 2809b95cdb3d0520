"""An exit that sells nothing is retried with growing pauses, for as long as necessary, and people are notified."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from temporalio import workflow

from domain.exits import ExitReason, ExitRules
from domain.ids import exit_workflow_id
from domain.messages import CloseRequest, ExitDue, Linkage, MonitorStart, OrderIntent
from domain.orders import OrderRole, OrderType, Side
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import market_buy, sell
from tests.support.ledger_rows import open_books
from tests.support.waiting import eventually
from tests.workflow.test_urgent_exits import RULES, bought, close
from workflows import exit_pauses
from workflows.exit_monitor import ExitMonitorWorkflow

UNSOLD = "SELECT received_at FROM orders WHERE role = 'EXIT' AND state = 'CANCELLED' ORDER BY received_at"


async def test_a_stop_in_an_empty_book_pauses_longer_each_time_and_a_close_ends_the_pause(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MARKET sells that end CANCELLED with nothing sold, or a hundredth, are repeated after 1, 2 and 4 seconds, the
    third is reported, and a close is sent before the fourth pause is over.
    """
    monkeypatch.setattr(exit_pauses, "_QUICK_PAUSE", 3600.0)
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.fault("thin_book", "SELL BTC-USD", count=2)
    await system.control.fault("thin_book", "SELL BTC-USD", count=2, share=0.01)
    await system.price("47000")

    async def tried(times: int) -> bool:
        return len(await system.rows(UNSOLD)) >= times

    await eventually(lambda: tried(2), what="unsold twice")
    assert await system.value("SELECT count(*) FROM incidents WHERE kind = 'EXIT_REFUSED'") == 0
    await eventually(lambda: tried(4), what="unsold four times")
    told = "SELECT sentence FROM incidents WHERE kind = 'EXIT_REFUSED' AND severity = 'CRITICAL'"
    assert "sold almost nothing (No liquidity left" in await eventually(lambda: system.value(told), what="told")
    asked = datetime.now(UTC)
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.MANUAL, Decimal("0.01"))
    unsold = [row["received_at"] for row in await system.rows(UNSOLD)]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(unsold)]
    assert [gap >= least for gap, least in zip(gaps, (1, 2, 4), strict=True)] == [True] * 3, gaps
    (sold,) = await system.rows("SELECT received_at FROM orders WHERE role = 'EXIT' AND state = 'FILLED'")
    assert (sold["received_at"] - asked).total_seconds() < 8, "the fourth pause is eight seconds"
    assert await system.value("SELECT count(*) FROM incidents WHERE resolved_at IS NULL") == 0
    await system.assert_books_agree()


async def test_a_pause_ends_when_a_fill_that_was_missing_is_known(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close's order is reported to have sold nothing, and sold a part; no read works. The pause after that is long: a
    request to check doesn't end it, and the missing fill does, as soon as the ledger has it.
    """
    monkeypatch.setattr(exit_pauses, "_FIRST_PAUSE", 3600.0)
    await open_books(system.pool, system.account, USD="100000", BTC="0")
    trade = await bought(system, rules=RULES.model_copy(update={"retry_max_seconds": Decimal(3600)}))
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fault("stale_cancelled", "user")
    await system.control.fault("thin_book", "SELL BTC-USD", count=1, share=0.4)
    await close(trade)

    async def unsold() -> bool:
        return any("stay protected" in line for line in await trade.monitor.query("timeline"))

    await eventually(unsold, within=30, what="it has sold nothing, as far as is known")
    await trade.monitor.signal("position_changed")
    await trade.until_looked()
    assert (await trade.monitor_view()).exit_orders == 1
    await system.control.clear_faults()
    outcome = await trade.closed(within=60)
    assert (outcome.exit_size, len(outcome.exits)) == (Decimal("0.01"), 2)
    await system.assert_books_agree()


async def test_an_exit_whose_refusal_was_thrown_away_is_refused_once(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server discards the workflow task in which an exit is refused, and the stored refusal is found again: it is
    not an earlier monitor's exit, after which the next one would be sent at once. The pause ends when the cause is
    gone.
    """
    for pause in ("_FIRST_PAUSE", "_CLAIMS_LOOK"):
        monkeypatch.setattr(exit_pauses, pause, 3600.0)
    trade = await bought(system, rules=RULES.model_copy(update={"retry_max_seconds": Decimal(3600)}))
    part = sell(system.account, "0.01", entry_key=trade.key, entry_point="manual")
    limit = {"order_type": OrderType.LIMIT, "limit_price": Decimal(60000)}
    other = await system.start(part.model_copy(update=limit))
    await other.exchange_id()
    lost: list[str] = []
    upsert = workflow.upsert_search_attributes

    def losing(attributes: Any) -> None:
        if not lost and any(item.value == "REJECTED" for item in attributes):
            lost.append("the task")
            raise OSError("the server throws this task away")
        upsert(attributes)

    monkeypatch.setattr(workflow, "upsert_search_attributes", losing)
    await close(trade)

    async def refused() -> bool:
        return any("MANUAL was refused" in line for line in await trade.monitor.query("timeline"))

    await eventually(refused, within=30, what="the exit is refused")
    assert (lost, (await trade.monitor_view()).exit_orders) == (["the task"], 1)
    await other.handle.signal("cancel", CloseRequest(by="a person"))
    assert (await trade.closed()).exit_size == Decimal("0.01")
    await system.assert_books_agree()


async def test_a_profit_exit_that_never_fills_is_not_sent_in_a_tight_loop(system: TradingSystem) -> None:
    """It returns to monitoring at once the first time, and after a growing pause when it is due again and again."""
    rules = ExitRules(take_profit=Decimal("0.01"), trailing_arm=None)
    trade = await system.start(market_buy(system.account, "0.01", rules=rules))
    await trade.until_protected("0.01")
    await system.price("50600")
    for number in (1, 2, 3):
        await system.control.cancel(await system.exchange_id(f"{trade.leg_key(number)}-1"))
    await system.control.fill(await system.exchange_id(f"{trade.leg_key(4)}-1"), "0.01")
    assert (await trade.closed()).exit_reason is ExitReason.TP
    sent = [row["received_at"] for row in await system.rows("SELECT received_at FROM orders WHERE role = 'EXIT'")]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(sorted(sent))]
    assert [gap >= least for gap, least in zip(gaps, (0, 1, 2), strict=True)] == [True] * 3, gaps
    await system.assert_books_agree()


def leg_of(trade: Trade, number: int) -> OrderIntent:
    """A monitor's exit from before legs were stored with their number."""
    return OrderIntent(
        order_key=trade.leg_key(number),
        account=trade.intent.account,
        symbol="BTC-USD",
        side=Side.SELL,
        role=OrderRole.EXIT,
        order_type=OrderType.MARKET,
        source="webhook",
        entry_point="exit",
        request_id=trade.key,
        linkage=Linkage(trigger="HARD_STOP"),
        entry_key=trade.key,
        exit_reason=ExitReason.HARD_STOP,
    )


async def start_as_before(system: TradingSystem, trade: Trade) -> None:
    """A monitor without known exits, as started by an entry of an earlier version."""
    start = MonitorStart(
        entry_key=trade.key,
        account=system.account,
        symbol="BTC-USD",
        size=Decimal("0.01"),
        entry_price=Decimal(50001),
        entry_final=True,
    )
    await system.client.start_workflow(
        ExitMonitorWorkflow.run,
        start,
        id=exit_workflow_id(trade.key),
        task_queue=system.settings.temporal.orders_queue,
    )


@pytest.mark.parametrize("told", [True, False], ids=["by the sweep", "told of no exits"])
async def test_a_new_monitor_begins_behind_every_exit_that_the_ledger_has(system: TradingSystem, told: bool) -> None:
    """Refused exits that Temporal has deleted still count: the first order of a new monitor is the next exit, though it
    is due for another reason.
    """
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await trade.monitor.terminate("a person's mistake")
    await system.control.product("BTC-USD", cancel_only=True)
    system.parts.venue.forget_product("BTC-USD")
    for number in (1, 2, 3):
        assert not (await system.parts.trading.admit(leg_of(trade, number))).accepted
    await system.control.product("BTC-USD", cancel_only=False)
    system.parts.venue.forget_product("BTC-USD")
    await system.price("48700")
    if told:
        assert await system.parts.starter.monitor(trade.key)
    else:
        await start_as_before(system, trade)
    due = ExitDue(reason=ExitReason.SOFT_STOP, price=Decimal(48700), at=datetime.now(UTC))
    await trade.monitor.signal("exit_due", due)
    await system.control.fill(await system.exchange_id(f"{trade.leg_key(4)}-1"), "0.01")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.SOFT_STOP, Decimal("0.01"))
    assert await system.value("SELECT count(*) FROM incidents WHERE kind = 'EXIT_REFUSED'") == 0
    exits = await system.rows("SELECT order_key FROM orders WHERE role = 'EXIT' ORDER BY received_at")
    assert [row["order_key"] for row in exits] == [trade.leg_key(leg) for leg in (1, 2, 3, 4)]
    await system.assert_books_agree()
