"""The life of a trade from decision to close, in the normal cases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from temporalio.client import WorkflowUpdateFailedError

from activities.interfaces.search_attributes import EXIT_REASON, STATUS
from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id
from domain.messages import CloseRequest
from domain.orders import OrderState
from tests.support.harness import TradingSystem, step_market, trading_system
from tests.support.intents import limit_buy, market_buy, sell
from tests.support.waiting import eventually
from workers.stack.dev_server import DevServer


async def test_a_market_entry_is_stopped_out(system: TradingSystem) -> None:
    """A hard stop sells everything at MARKET. The entry's workflow returns the trade's outcome, with nothing remaining,
    and the list of workflows has its end.
    """
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.price("47000")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.HARD_STOP
    assert (outcome.entry_size, outcome.exit_size) == (Decimal("0.01"), Decimal("0.01"))
    assert outcome.pnl == Decimal("0.01") * (47000 - 50001) - outcome.fees
    (leg,) = outcome.exits
    assert leg.reason is ExitReason.HARD_STOP
    assert leg.trigger_price == leg.average_price == 47000
    body = await system.value("SELECT body FROM attempts WHERE order_key = $1", leg.order_key)
    assert list(body["order_configuration"]) == ["market_market_ioc"]
    told = await trade.handle.result()
    assert (told.state, told.trade_remaining, told.trade) == (OrderState.FILLED, Decimal(0), outcome)

    async def found() -> bool:
        seen = (await trade.handle.describe()).typed_search_attributes
        return (seen.get(STATUS), seen.get(EXIT_REASON)) == ("CLOSED", "HARD_STOP")

    await eventually(found, what="how it ended in the list of workflows")
    await system.assert_books_agree()


async def test_a_trailing_stop_takes_the_gain(system: TradingSystem) -> None:
    """Armed by +3.5 %, raised with the price, the trailing stop sells by LIMIT, and its final state is stored."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    for bid in ("51800", "53000", "54000"):
        await system.price(bid)
        await eventually(
            lambda bid=bid: system.value("SELECT peak = $2 FROM exit_plans WHERE entry_key = $1", trade.key, int(bid)),  # type: ignore[misc]
            what=f"the peak of {bid} is stored",
        )
    await system.price("52500")
    exit_id = await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.control.fill(exit_id, "0.01")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.TRAILING_STOP
    kept = await system.value("SELECT trailing_state FROM trade_exits WHERE entry_key = $1", trade.key)
    assert Decimal(kept["peak"]) == 54000
    assert 52500 <= Decimal(kept["stop"]) < 54000
    assert int(kept["steps"]) > 0
    assert outcome.exits[0].average_price == Decimal("52505.25")
    await system.assert_books_agree()


async def test_a_signal_exit_sells_what_is_not_losing(system: TradingSystem) -> None:
    """A sell row in the matrix closes a trade that gains after the fees of both sides, with its score in the linkage.

    One whose plan ignores fees exits first, at a gain smaller than the fees; and one entered by a person stays, unless
    a signal exit was requested.
    """
    after_fees = ExitRules(trailing_arm=None, signal_exit_net=True)
    trade = await system.start(market_buy(system.account, "0.01", rules=after_fees))
    bare = await system.start(market_buy(system.account, "0.01", rules=ExitRules(trailing_arm=None)))
    by_hand = await system.start(market_buy(system.account, "0.01", entry_point="manual", rules=after_fees))
    for each in (trade, bare, by_hand):
        await each.until_protected("0.01")
    rates = await system.rows("SELECT DISTINCT rules ->> 'taker_rate' AS rate FROM exit_plans")
    assert [Decimal(row["rate"]) for row in rates] == [Decimal("0.006")]
    await system.price("50400")
    await system.pool.execute(
        """INSERT INTO market_snapshots (account, snapshot_id, symbol, at, action, sell_score)
           VALUES ($1, gen_random_uuid(), 'BTC-USD', now(), 'sell', 0.9)""",
        system.account,
    )
    await system.control.fill(await system.exchange_id(client_order_id(bare.leg_key(1), 1)), "0.01")
    lost = await bare.closed()
    assert lost.exit_reason is ExitReason.SIGNAL_EXIT
    assert lost.pnl < 0
    # 50,001 with its fee of 0.6 % is 50,301.006, and that much is left of 50,604.63 after the same rate.
    await system.price("50604.62")
    await system.price("50604.64")
    exit_id = await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.control.fill(exit_id, "0.01")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.SIGNAL_EXIT
    assert outcome.exits[0].trigger_price == Decimal("50604.64")
    assert outcome.pnl >= 0
    assert await system.value("SELECT count(*) FROM orders WHERE role = 'EXIT' AND entry_key = $1", by_hand.key) == 0
    link = (await system.rows("SELECT * FROM trade_strategy_link WHERE order_key = $1", trade.key))[0]
    assert (link["sell_score"], link["sell_trigger"], link["exit_reason"]) == (
        Decimal("0.9"),
        "SIGNAL_EXIT",
        "SIGNAL_EXIT",
    )
    await system.assert_books_agree()


@pytest.mark.parametrize("by", ["update", "signal"])
@pytest.mark.parametrize("whom", ["entry", "monitor"])
async def test_close_sells_whoever_is_told_and_however(system: TradingSystem, by: str, whom: str) -> None:
    """`close` as update or signal, to the entry or to its monitor, sells the position at MARKET as MANUAL."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    handle = trade.handle if whom == "entry" else trade.monitor
    request = CloseRequest(request_id="r1", by="a person")
    if by == "update":
        await handle.execute_update("close", request)
    else:
        await handle.signal("close", request)
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.MANUAL
    await system.assert_books_agree()


async def test_close_is_refused_once_where_nothing_is_open(system: TradingSystem) -> None:
    """A second close is refused in one sentence and leaves nothing in the history."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.latency(accept=None)
    await trade.monitor.execute_update("close", CloseRequest(by="one"))
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await trade.monitor.execute_update("close", CloseRequest(by="two"))
    assert "already being closed" in str(refused.value.cause)
    await system.control.accept(await system.exchange_id(client_order_id(trade.leg_key(1), 1)))
    await trade.closed()


async def test_an_unfilled_entry_expires(system: TradingSystem) -> None:
    """An entry without a fill is cancelled after its time and ends as EXPIRED, with no trade."""
    trade = await system.start(limit_buy(system.account, "0.01", "49000", expires_after=Decimal("0.5")))
    outcome = await trade.result()
    assert outcome.state is OrderState.EXPIRED
    assert outcome.trade is None
    assert (await system.venue_order(client_order_id(trade.key, 1)))["status"] == "CANCELLED"


async def test_a_partly_filled_entry_that_expires_keeps_its_filled_part_protected(system: TradingSystem) -> None:
    """An expired entry's filled part is guarded and sold by its exits."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999", expires_after=Decimal("1.5")))
    await system.control.fill(await trade.exchange_id(), "0.03")
    await trade.until_state("EXPIRED")
    view = await trade.view()
    assert (view.filled_size, view.trade_state) == (Decimal("0.03"), "PROTECTED")
    await system.price("47000")
    outcome = await trade.closed()
    assert (outcome.entry_size, outcome.exit_size) == (Decimal("0.03"), Decimal("0.03"))
    await system.assert_books_agree()


async def test_later_fills_grow_the_trade(system: TradingSystem) -> None:
    """Each fill of the entry adds to the one trade; the exit sells the sum."""
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    exchange_id = await trade.exchange_id()
    await system.control.fill(exchange_id, "0.03")
    await trade.until_protected("0.03")
    await system.control.fill(exchange_id, "0.02", "49990")
    await trade.until_protected("0.05")
    await system.control.fill(exchange_id, "0.05")
    await trade.until_state("FILLED")
    await system.price("47000")
    outcome = await trade.closed()
    assert (outcome.entry_size, outcome.exit_size) == (Decimal("0.1"), Decimal("0.1"))
    assert outcome.entry_price == Decimal("49997.2")
    await system.assert_books_agree()


async def test_a_rejected_entry_says_which_gate_and_why(system: TradingSystem) -> None:
    """A refused order ends as REJECTED with the gate's name, one sentence, and every gate's numbers stored."""
    trade = await system.start(limit_buy(system.account, "0.00001", "50000"))
    outcome = await trade.result()
    assert (outcome.state, outcome.gate) == (OrderState.REJECTED, "BELOW_MINIMUM_SIZE")
    assert "minimum of 1" in outcome.sentence
    results = await system.rows(
        "SELECT gate, passed FROM gate_results WHERE order_key = $1 ORDER BY position", trade.key
    )
    assert [row["gate"] for row in results if not row["passed"]] == ["BELOW_MINIMUM_SIZE"]
    assert len(results) > 5
    assert await system.control.journal() == []


async def test_an_unknown_symbol_is_a_sentence(system: TradingSystem) -> None:
    """A symbol that the exchange doesn't have is refused before anything is sent."""
    trade = await system.start(market_buy(system.account, "0.01", symbol="NOPE-USD"))
    outcome = await trade.result()
    assert (outcome.state, outcome.gate) == (OrderState.REJECTED, "UNKNOWN_SYMBOL")
    assert "NOPE-USD" in outcome.sentence


async def test_a_decision_that_is_too_old_is_dropped(system: TradingSystem) -> None:
    """Past its `valid_until` an order is not sent but recorded as refused (ENTRY-4)."""
    late = datetime.now(UTC) - timedelta(seconds=1)
    trade = await system.start(market_buy(system.account, valid_until=late))
    outcome = await trade.result()
    assert (outcome.state, outcome.gate) == (OrderState.REJECTED, "DECISION_EXPIRED")
    assert await system.control.journal() == []


async def test_a_decision_grows_too_old_while_the_exchange_is_busy(system: TradingSystem) -> None:
    """A submit that was not accepted is not retried once the decision is too old."""
    await system.control.fault("rate_limited", "POST /orders", count=50)
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    trade = await system.start(market_buy(system.account, valid_until=soon))
    outcome = await trade.result()
    assert outcome.state in (OrderState.EXPIRED, OrderState.FAILED)
    assert await system.control.orders() == []


async def test_dust_is_closed_as_dust(system: TradingSystem) -> None:
    """A remainder below the exchange's minimum after a sell is written off by name, and the trade ends."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    part = sell(system.account, "0.00999", entry_key=trade.key, entry_point="manual")
    await system.start(part)
    outcome = await trade.closed()
    assert (outcome.exit_size, outcome.dust_size) == (Decimal("0.00999"), Decimal("0.00001"))
    assert await system.value("SELECT remaining FROM trades WHERE entry_key = $1", trade.key) == 0
    await system.assert_books_agree()


async def test_a_buy_sized_in_quote_is_sold_and_its_fraction_is_dust(database: str, temporal_server: DevServer) -> None:
    """The exchange fills it to 16 places and reports its executions in quote: they are recorded unchanged, the size on
    the increment is sold, and the rest below it is dust.
    """
    async with trading_system(database, temporal_server.address, market=step_market(fills_in_quote=True)) as system:
        bought = market_buy(system.account, base_size=None, quote_size=Decimal(100))
        trade = await system.start(bought)
        await trade.until_protected()
        settled = "SELECT bool_and(origin = 'exchange') AND count(*) > 1 FROM fills"
        await eventually(lambda: system.value(settled), within=30)
        size = await system.value("SELECT remaining FROM trades")
        assert size % Decimal("1e-8") > 0
        await system.price("47000")
        outcome = await trade.closed()
        assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, size - size % Decimal("1e-8"))
        assert await system.value("SELECT dust_size FROM trades") == size % Decimal("1e-8")
        assert not await system.rows("SELECT kind, sentence FROM incidents WHERE severity <> 'INFO'")
        await system.assert_books_agree()


async def test_a_partial_sell_by_hand_leaves_the_rest_protected(system: TradingSystem) -> None:
    """Selling a part of a trade reduces it; its stop then sells exactly the rest."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    part = sell(system.account, "0.004", entry_key=trade.key, entry_point="manual")
    by_hand = await system.start(part)
    assert (await by_hand.result()).state is OrderState.FILLED
    assert await system.value("SELECT state FROM exit_plans WHERE entry_key = $1", trade.key) == "ARMED"
    assert await system.value("SELECT state FROM trades WHERE entry_key = $1", trade.key) == "PROTECTED"
    await system.price("47000")
    outcome = await trade.closed()
    assert outcome.exit_size == Decimal("0.01")
    assert sorted(leg.size for leg in outcome.exits) == [Decimal("0.004"), Decimal("0.006")]
    await system.assert_books_agree()


async def test_a_refused_sell_by_hand_leaves_the_trade_armed(system: TradingSystem) -> None:
    """A sell that a gate refuses changes nothing: the soft stop still sells the whole position."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    by_hand = await system.start(sell(system.account, "0.000001", entry_key=trade.key, entry_point="manual"))
    assert (await by_hand.result()).gate == "BELOW_MINIMUM_SIZE"
    await system.price("48700")
    await system.control.fill(await system.exchange_id(client_order_id(trade.leg_key(1), 1)), "0.01")
    assert (await trade.closed()).exit_reason is ExitReason.SOFT_STOP


async def test_the_same_intent_again_is_the_same_order(system: TradingSystem) -> None:
    """Starting an intent twice at once, or again while it runs, sends one order."""
    intent = market_buy(system.account, "0.01", request_id="once")
    first = await system.start(intent)
    second = await system.start(intent)
    await first.until_protected("0.01")
    assert first.handle.id == second.handle.id
    assert len(await system.control.journal()) == 1


async def test_take_profit_sells_by_limit(system: TradingSystem) -> None:
    """With take profit on, the gain is sold by a LIMIT order at the offset bid."""
    rules = ExitRules(take_profit=Decimal("0.01"))
    trade = await system.start(market_buy(system.account, "0.01", rules=rules))
    await trade.until_protected("0.01")
    await system.price("50600")
    exit_id = await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.control.fill(exit_id, "0.01")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_price) == (ExitReason.TP, Decimal("50605.06"))
