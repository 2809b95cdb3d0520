"""Protection at the exchange while something else has claimed a part of the trade, or of the coins."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from domain.exits import ExitReason
from domain.ids import order_workflow_id
from domain.messages import CloseRequest, StopsAnswer, StopsRequest
from domain.orders import OrderType
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy, sell
from tests.support.waiting import eventually
from tests.workflow.test_protection import STOP, terms
from workflows import protection


async def protective(system: TradingSystem) -> list[tuple[str, str]]:
    """The status and size of each protective order received by the exchange, in their order."""
    orders = [item for item in await system.control.orders() if terms(item)[0].startswith("stop_limit")]
    return [(item["status"], terms(item)[1]["base_size"]) for item in orders]


async def until_protective(system: TradingSystem, *expected: tuple[str, str]) -> None:
    """Wait until these are the protective orders."""

    async def so() -> bool:
        return await protective(system) == list(expected)

    await eventually(so, within=20, what=f"protective orders are {expected}")


async def replaced(trade: Trade) -> int:
    """How often the trade's protection was cancelled to be replaced, once its monitor has processed the reports."""
    await trade.until_looked()
    return sum("cancelling the protection" in line for line in await trade.monitor.query("timeline"))


async def end_of_protection(system: TradingSystem, number: int) -> None:
    """Wait for the end of the trade's protective order of this number, from 1, and of its workflow."""
    rows = await system.rows("SELECT order_key FROM orders WHERE protection_role = 'STOP_LOSS' ORDER BY received_at")
    await system.client.get_workflow_handle(order_workflow_id(rows[number - 1]["order_key"])).result()


async def beside_another_sell(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch, whose: str, *, rests: str = "0.016"
) -> tuple[Trade, Any]:
    """A trade of 0.02 of which `rests` are protected, while a sell of 0.004 rests. Returns that sell, too."""
    monkeypatch.setattr(protection, "_SETTLE", 60.0)  # so it rests before protection is placed
    trade = await system.start(limit_buy(system.account, "0.02", "49000", protection=STOP))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.01")
    await trade.until_protected("0.01")
    other: Any
    if whose == "by us":
        part = sell(system.account, "0.004", entry_key=trade.key, entry_point="manual")
        asked = {"order_type": OrderType.LIMIT, "limit_price": Decimal(60000)}
        other = await system.start(part.model_copy(update=asked))
        await other.exchange_id()
    else:
        if whose == "not told":
            await system.control.fault("lagging", "GET /accounts", count=None, delay=3600)
        resting = {"limit_limit_gtc": {"base_size": "0.004", "limit_price": "60000"}}
        other = (await system.control.order("BTC-USD", "SELL", resting))["order_id"]
    await system.control.fill(entry, "0.01")
    await until_protective(system, ("OPEN", rests))
    return trade, other


@pytest.mark.parametrize("whose", ["in the app", "by us"])
async def test_protection_beside_a_resting_sell_is_not_replaced_for_what_that_has(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """A person's sell of a part rests: the rest is protected once, however often the monitor checks, and the timeline
    doesn't say that all is; moved stops replace it once; without that sell all is; and all is sold once in the end.
    """
    trade, other = await beside_another_sell(system, monkeypatch, whose)
    # Whether the available size is known in time varies, and is then reported.
    assert not any("protecting 0.02 at" in line for line in await trade.monitor.query("timeline"))
    await trade.monitor.signal("position_changed")
    assert await replaced(trade) == 0
    nearer = StopsRequest(by="a person", hard_stop=Decimal(46800), command="nearer")
    await trade.monitor.execute_update("stops", nearer, result_type=StopsAnswer)
    await until_protective(system, ("CANCELLED", "0.016"), ("OPEN", "0.016"))
    await end_of_protection(system, 1)  # which signals the monitor
    assert await replaced(trade) == 1
    if whose == "by us":
        await other.handle.signal("cancel", CloseRequest(by="a person"))
    else:
        await system.control.cancel(other)
    await until_protective(system, ("CANCELLED", "0.016"), ("CANCELLED", "0.016"), ("OPEN", "0.02"))
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.MANUAL, Decimal("0.02"))
    await system.assert_books_agree()


async def test_protection_is_not_replaced_again_and_again_by_a_balance_that_lags(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange's balance keeps showing more available than rests: protection is replaced for that once."""
    trade, other = await beside_another_sell(system, monkeypatch, "not told", rests="0.01")
    await trade.monitor.signal("position_changed")
    await until_protective(system, ("CANCELLED", "0.01"), ("OPEN", "0.01"))
    await end_of_protection(system, 1)
    assert await replaced(trade) == 1
    await trade.monitor.signal("position_changed")
    assert await replaced(trade) == 1
    await system.control.clear_faults()
    await system.control.cancel(other)
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    assert (await trade.closed()).exit_size == Decimal("0.02")
    await system.assert_books_agree()


async def test_a_moved_target_replaces_no_protection_while_no_balance_is_read(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protection rests beside a person's sell and no balance can be read: moving the target, which the protection
    doesn't have, leaves it unchanged.
    """
    trade, _ = await beside_another_sell(system, monkeypatch, "in the app")
    await system.pool.execute(
        "INSERT INTO balance_transfers (account, currency, kind, amount, expected, found) "
        "VALUES ($1, 'BTC', 'opening', 0, 0, 0)",
        system.account,
    )
    await system.control.fault("server_error", "GET /accounts", count=None)
    moved = StopsRequest(by="a person", take_profit=Decimal(60000), command="target")
    await trade.monitor.execute_update("stops", moved, result_type=StopsAnswer)
    await trade.monitor.signal("position_changed")
    assert await replaced(trade) == 0
    assert await protective(system) == [("OPEN", "0.016")]


async def test_protection_rests_for_what_is_left_while_reads_fail(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read fails when protection is placed beside a person's sell: it rests for the available size, at its second
    attempt, without an incident.
    """
    monkeypatch.setattr(protection, "_SETTLE", 60.0)
    trade = await system.start(limit_buy(system.account, "0.02", "49000", protection=STOP))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.01")
    await trade.until_protected("0.01")
    resting = {"limit_limit_gtc": {"base_size": "0.004", "limit_price": "60000"}}
    other = (await system.control.order("BTC-USD", "SELL", resting))["order_id"]
    await eventually(
        lambda: system.value("SELECT count(*) > 0 FROM attempts WHERE exchange_order_id = $1", other),
        what="the journal has the person's sell",
    )
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.fill(entry, "0.01")
    await until_protective(system, ("OPEN", "0.016"))
    assert sum(bool(item["refused"]) for item in await system.control.journal()) == 1
    assert await system.value("SELECT count(*) FROM incidents WHERE kind = 'PROTECTION_FAILED'") == 0
