"""Working protection at the exchange: placed, replaced, cancelled, filled, and without any process of ours."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from domain.exits import ExitReason, ExitRules
from domain.ids import order_workflow_id
from domain.messages import OrderIntent
from domain.protection import Protection, ProtectionKind
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually

STOP = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.05"))
QUICK = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=0)
BRACKET = Protection(kind=ProtectionKind.BRACKET, stop=Decimal("0.05"), take_profit=Decimal("0.025"))


async def resting(system: TradingSystem) -> list[dict[str, Any]]:
    """Sells that are open at the exchange."""
    return [item for item in await system.control.orders() if item["side"] == "SELL" and item["status"] == "OPEN"]


def terms(order: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    """The kind of order and its terms."""
    ((name, values),) = order["order_configuration"].items()
    return name, values


async def until_resting(system: TradingSystem, size: str, within: float = 20.0) -> dict[str, Any]:
    """Wait until exactly one sell rests at the exchange, for this size."""

    async def so() -> dict[str, Any] | None:
        found = await resting(system)
        if len(found) == 1 and Decimal(terms(found[0])[1]["base_size"]) == Decimal(size):
            return found[0]
        return None

    return await eventually(so, within=within, what=f"{size} are protected at the exchange")


async def protected(system: TradingSystem, protection: Protection, **fields: Any) -> tuple[Trade, dict[str, Any]]:
    """A trade of 0.01 BTC, bought at 50,001, with its protective order at the exchange."""
    intent: OrderIntent = market_buy(system.account, "0.01", protection=protection, **fields)
    trade = await system.start(intent)
    await trade.until_protected("0.01")
    return trade, await until_resting(system, "0.01")


async def test_a_stop_limit_rests_after_the_fill_and_leaves_before_an_exit(system: TradingSystem) -> None:
    """The filled entry has a stop at the exchange, below the hard stop; a monitored exit cancels it first, sells once,
    and nothing is left behind.
    """
    trade, order = await protected(system, STOP, rules=QUICK)
    name, values = terms(order)
    assert name == "stop_limit_stop_limit_gtc"
    assert Decimal(values["stop_price"]) <= Decimal(50001) * Decimal("0.95")
    assert Decimal(values["limit_price"]) < Decimal(values["stop_price"])
    assert (await trade.monitor_view()).state == "PROTECTED"
    await system.price("48700")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.SOFT_STOP
    assert await resting(system) == []
    roles = await system.rows(
        "SELECT protection_role AS role, state FROM orders WHERE protection_role IS NOT NULL ORDER BY received_at"
    )
    assert [(row["role"], row["state"]) for row in roles] == [("PRIMARY", "FILLED"), ("STOP_LOSS", "CANCELLED")]
    await system.assert_books_agree()


async def test_due_stops_go_on_with_the_end_of_their_protection(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever that end comes, also while its workflow is asked for it or has yet to complete, the stop hears of it: no
    timer has to run out before the trade is sold.
    """
    trades = [await system.start(market_buy(system.account, "0.01", protection=STOP)) for _ in range(6)]

    async def all_rest() -> bool:
        return len(await resting(system)) == len(trades)

    await eventually(all_rest, what="all are protected at the exchange")
    monkeypatch.setattr("workflows.exit_monitor.PATIENCE", 3600.0)
    monkeypatch.setattr("workflows.protection._LOOK_AGAIN", 3600.0)
    await system.price("48000")
    for trade in trades:
        assert (await trade.closed()).exit_size == Decimal("0.01")
    await system.assert_books_agree()


async def test_a_bracket_s_target_fills_at_the_exchange(system: TradingSystem) -> None:
    """The target's leg closes the trade as TP, with the exchange's path and linkage; there is no second sell."""
    trade, order = await protected(system, BRACKET)
    name, values = terms(order)
    assert name == "trigger_bracket_gtc"
    assert Decimal(values["limit_price"]) == Decimal("51251.03")
    await system.price("51300")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.TP, Decimal("0.01"))
    (row,) = await system.rows(
        "SELECT e.reason, e.path, e.slippage, o.protection_role, l.exit_reason, l.sell_trigger FROM trade_exits e "
        "JOIN orders o USING (order_key) JOIN trade_strategy_link l USING (order_key)"
    )
    assert (row["reason"], row["path"], row["protection_role"]) == ("TP", "exchange", "TAKE_PROFIT")
    assert (row["exit_reason"], row["sell_trigger"], row["slippage"]) == ("TP", "TP", 0)
    await system.assert_books_agree()


async def test_a_dead_machine_still_has_a_stop(system: TradingSystem) -> None:
    """With no process of ours the market falls through the stop: the exchange sells; when everything starts again the
    trade is closed as HARD_STOP with the sold size.
    """
    trade, order = await protected(system, BRACKET)
    await system.stop_workers()
    await system.price("46000")
    venue = next(item for item in await system.control.orders() if item["order_id"] == order["order_id"])
    assert venue["status"] == "FILLED"
    await system.start_workers()
    outcome = await trade.closed(within=60)
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.01"))
    assert outcome.exit_price == Decimal(46000)
    (row,) = await system.rows("SELECT reason, path FROM trade_exits")
    assert (row["reason"], row["path"]) == ("HARD_STOP", "exchange")
    assert await system.value("SELECT protection_role FROM orders WHERE side = 'SELL'") == "STOP_LOSS"
    await system.assert_books_agree()


async def test_a_stop_and_its_monitor_on_the_same_tick_sell_once(system: TradingSystem) -> None:
    """When one fall triggers the stop at the exchange and the monitored one, the position is sold once."""
    trade, _ = await protected(system, STOP)
    await system.price("46000")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.01"))
    assert await resting(system) == []
    await system.assert_books_agree()


async def test_growth_of_the_position_replaces_it(system: TradingSystem) -> None:
    """The protection of an entry that fills further is replaced by one for all of it; never two at a time."""
    trade = await system.start(limit_buy(system.account, "0.02", "49000", protection=STOP))
    entry = await trade.exchange_id()
    await system.control.fill(entry, "0.005")
    await until_resting(system, "0.005")
    await system.control.fill(entry, "0.015")
    await until_resting(system, "0.02")
    query = "SELECT state, claimed_base FROM orders WHERE side = 'SELL' ORDER BY received_at"

    async def replaced() -> bool:
        # It rests at the exchange before the journal knows it.
        sells = [(row["state"], row["claimed_base"]) for row in await system.rows(query)]
        return sells == [("CANCELLED", 0), ("OPEN", Decimal("0.02"))]

    await eventually(replaced, within=20, what="one protection is cancelled, one rests")
    await trade.handle.signal("close")
    assert (await trade.closed()).exit_reason is ExitReason.MANUAL
    assert await resting(system) == []
    await system.assert_books_agree()


async def test_what_is_cancelled_by_hand_is_placed_again(system: TradingSystem) -> None:
    """A person cancels the protective order in the exchange's app: another one is placed."""
    trade, order = await protected(system, STOP)
    await system.control.cancel(order["order_id"])

    async def replaced() -> bool:
        found = await resting(system)
        return len(found) == 1 and found[0]["order_id"] != order["order_id"]

    await eventually(replaced, within=20)
    await system.price("47000")
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


async def test_a_profit_exit_that_does_not_fill_gets_its_protection_back(system: TradingSystem) -> None:
    """After an exit that sold nothing the monitor goes on, and so does the protection."""
    rules = ExitRules(take_profit=Decimal("0.02"), reprice_seconds=Decimal("0.3"), max_reprices=0)
    trade, order = await protected(system, STOP, rules=rules)
    await system.price("51005")
    leg = await system.exchange_id(trade.leg_key(1) + "-1")
    assert leg != order["order_id"]
    await system.price("50500")

    async def back() -> bool:
        found = await resting(system)
        return len(found) == 1 and found[0]["order_id"] not in (order["order_id"], leg)

    await eventually(back, within=20)
    await system.price("48000")
    assert (await trade.closed()).exit_reason is ExitReason.SOFT_STOP
    await system.assert_books_agree()


async def test_protection_that_can_t_be_placed_is_loud_and_the_monitor_sells(system: TradingSystem) -> None:
    """After its attempts a CRITICAL incident says what to do, and the monitored stop works as without protection."""
    protection = STOP.model_copy(update={"failsafe": True, "tries": 2})
    trade = await system.start(market_buy(system.account, "0.01", protection=protection))
    await trade.until_protected("0.01")
    first = await until_resting(system, "0.01")
    await system.control.cancel(first["order_id"])

    async def second() -> dict[str, Any] | None:
        found = [item for item in await resting(system) if item["order_id"] != first["order_id"]]
        return found[0] if found else None

    await system.control.cancel((await eventually(second, within=20))["order_id"])

    async def told() -> Mapping[str, Any] | None:
        rows = await system.rows("SELECT * FROM incidents WHERE kind = 'PROTECTION_FAILED'")
        return rows[0] if rows else None

    row = await eventually(told, within=20)
    assert (row["severity"], row["subject"]) == ("CRITICAL", trade.key)
    assert "Recommended:" in row["sentence"]
    await system.price("47000")
    assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    assert await system.value("SELECT count(*) FROM incidents WHERE resolved_at IS NULL AND severity = 'CRITICAL'") == 0
    await system.assert_books_agree()


async def test_a_monitor_that_was_terminated_finds_its_protection_again(system: TradingSystem) -> None:
    """A new monitor takes over the order that rests at the exchange, and cancels it before it sells."""
    trade, order = await protected(system, STOP, rules=QUICK)
    await trade.monitor.terminate("somebody's mistake")
    await system.parts.starter.monitor(trade.key)
    await system.price("48700")

    async def closed() -> bool:
        return bool(await system.value("SELECT state = 'CLOSED' FROM trades"))

    await eventually(closed, within=30)
    assert await system.value("SELECT exit_reason FROM trades") == "SOFT_STOP"
    venue = next(item for item in await system.control.orders() if item["order_id"] == order["order_id"])
    assert venue["status"] == "CANCELLED"
    await system.assert_books_agree()


async def test_a_protective_order_without_a_workflow_is_ended_all_the_same(system: TradingSystem) -> None:
    """Its workflow was terminated; it is started again to be cancelled before the monitored exit sells."""
    trade, order = await protected(system, STOP, rules=QUICK)
    key = await system.value("SELECT order_key FROM orders WHERE protection_role = 'STOP_LOSS'")
    await system.client.get_workflow_handle(order_workflow_id(key)).terminate("somebody's mistake")
    await system.price("48700")
    assert (await trade.closed()).exit_reason is ExitReason.SOFT_STOP
    venue = next(item for item in await system.control.orders() if item["order_id"] == order["order_id"])
    assert venue["status"] == "CANCELLED"
    await system.assert_books_agree()


async def test_a_refusal_of_the_exchange_is_tried_again_and_then_told(system: TradingSystem) -> None:
    """A product that accepts no orders for a while refuses each attempt; the position stays on its monitored exits."""
    protection = STOP.model_copy(update={"tries": 3})
    trade = await system.start(limit_buy(system.account, "0.01", "49000", protection=protection))
    entry = await trade.exchange_id()
    await system.control.product("BTC-USD", cancel_only=True)
    await system.control.fill(entry, "0.01")
    await trade.until_protected("0.01")

    async def told() -> bool:
        return bool(await system.value("SELECT count(*) FROM incidents WHERE kind = 'PROTECTION_FAILED'"))

    await eventually(told, within=20)
    assert await system.value("SELECT count(*) FROM orders WHERE protection_role = 'STOP_LOSS'") == 3
    assert (await trade.monitor_view()).state == "PROTECTED"
    await system.control.product("BTC-USD", cancel_only=False)
    await trade.handle.signal("close")
    assert (await trade.closed()).exit_reason is ExitReason.MANUAL
    await system.assert_books_agree()


async def test_a_stop_that_the_market_has_passed_already_is_sold_by_the_monitor(system: TradingSystem) -> None:
    """The exchange accepts no stop above its last trade: the position is sold at once."""
    rules = ExitRules(hard_stop=Decimal("0.5"), soft_stop=Decimal("0.4"), trailing_arm=None)
    protection = STOP.model_copy(update={"stop": Decimal("0.01")})
    trade = await system.start(limit_buy(system.account, "0.01", "49000", protection=protection, rules=rules))
    await trade.exchange_id()
    await system.price("47000")  # fills the entry, and is 4 % below it
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.HARD_STOP
    refused = await system.rows("SELECT state FROM orders WHERE protection_role IS NOT NULL AND role = 'EXIT'")
    assert [row["state"] for row in refused] == ["FAILED"]
    assert any("beyond the stop" in line for line in await trade.monitor.query("timeline"))
    assert not await system.rows("SELECT 1 FROM incidents WHERE kind = 'PROTECTION_FAILED'")
    await system.assert_books_agree()


async def test_a_target_that_fills_in_part_leaves_the_rest_to_the_monitor(system: TradingSystem) -> None:
    """A bracket sells a piece at its target and continues to rest; the monitored stop sells the rest, each with its own
    reason and path.
    """
    trade, order = await protected(system, BRACKET)
    await system.control.fill(order["order_id"], "0.004")

    async def booked() -> bool:
        return bool(await system.value("SELECT remaining = 0.006 FROM trades"))

    await eventually(booked, within=20)
    assert [item["order_id"] for item in await resting(system)] == [order["order_id"]]
    # Below the hard stop, above the resting stop: costs and an ATR of usual candles are between them.
    await system.price("47400")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.01"))
    legs = await system.rows("SELECT reason, path, size FROM trade_exits ORDER BY size")
    assert [(row["reason"], row["path"], row["size"]) for row in legs] == [
        ("TP", "exchange", Decimal("0.004")),
        ("HARD_STOP", "monitored", Decimal("0.006")),
    ]
    await system.assert_books_agree()
