"""Working exits: re-pricing, escalation, refusals, products without market orders (EXIT-3, 4)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import market_buy
from tests.support.waiting import eventually

QUICK = ExitRules(reprice_seconds=Decimal("0.25"), trailing_arm=None, take_profit=Decimal("0.01"))


async def leg_attempts(system: TradingSystem, trade: Trade, number: int = 1) -> list[dict[str, Any]]:
    """The attempts of an exit leg in the journal."""
    rows = await system.rows("SELECT * FROM attempts WHERE order_key = $1 ORDER BY number", trade.leg_key(number))
    return [dict(row) for row in rows]


def kind(attempt: dict[str, Any]) -> str:
    """The venue's name of the attempt's order type."""
    (name,) = attempt["body"]["order_configuration"]
    return str(name)


async def test_a_soft_stop_is_repriced_five_times_and_then_sold_at_market(system: TradingSystem) -> None:
    """A LIMIT exit without a fill is re-priced at the newest bid, at most 5 times, and then goes MARKET."""
    trade = await system.start(market_buy(system.account, "0.01", rules=QUICK))
    await trade.until_protected("0.01")
    await system.price("48700")
    await trade.exchange_id()
    await system.exchange_id(client_order_id(trade.leg_key(1), 2))
    await system.price("48600")
    outcome = await trade.closed()
    attempts = await leg_attempts(system, trade)
    assert [kind(item) for item in attempts] == ["limit_limit_gtc"] * 6 + ["market_market_ioc"]
    assert attempts[0]["limit_price"] == Decimal("48704.87")
    assert attempts[5]["limit_price"] == Decimal("48604.86")
    assert [item["status"] for item in attempts] == ["CANCELLED"] * 6 + ["FILLED"]
    assert (outcome.exit_reason, outcome.exit_price) == (ExitReason.SOFT_STOP, Decimal(48600))
    await system.assert_books_agree()


async def test_a_take_profit_that_no_longer_holds_goes_back_to_monitoring(system: TradingSystem) -> None:
    """A profit exit is checked again before each re-pricing; if it no longer holds, the trade is protected as
    before."""
    trade = await system.start(market_buy(system.account, "0.01", rules=QUICK))
    await trade.until_protected("0.01")
    await system.price("50600")
    await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.price("50100")

    async def armed() -> bool:
        return bool(
            await system.value(
                "SELECT t.state = 'PROTECTED' AND p.state = 'ARMED' FROM trades t JOIN exit_plans p USING (entry_key) "
                "WHERE entry_key = $1",
                trade.key,
            )
        )

    await eventually(armed, what="the trade is protected again")
    assert all(kind(item) == "limit_limit_gtc" for item in await leg_attempts(system, trade))
    await system.price("47000")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


async def test_a_take_profit_is_never_sold_at_market(system: TradingSystem) -> None:
    """A profit exit that holds but doesn't fill ends after its re-pricings and begins again, always as LIMIT."""
    rules = QUICK.model_copy(update={"max_reprices": 1})
    trade = await system.start(market_buy(system.account, "0.01", rules=rules))
    await trade.until_protected("0.01")
    await system.price("50600")
    second = await system.exchange_id(client_order_id(trade.leg_key(2), 1))
    first = await leg_attempts(system, trade)
    assert [kind(item) for item in first] == ["limit_limit_gtc"] * 2
    await system.control.fill(second, "0.01")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.TP
    await system.assert_books_agree()


async def test_a_hard_stop_replaces_a_pending_limit_exit_after_its_end_is_known(system: TradingSystem) -> None:
    """The MARKET order goes out only when the LIMIT order's terminal size is known, and sells exactly the rest."""
    rules = ExitRules(reprice_seconds=Decimal(60))
    trade = await system.start(market_buy(system.account, "0.01", rules=rules))
    await trade.until_protected("0.01")
    await system.price("48700")
    soft = await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.control.fill(soft, "0.004")
    await system.control.latency(cancel=None)
    await system.price("47000")

    async def cancelling() -> bool:
        return bool((await system.venue_order(client_order_id(trade.leg_key(1), 1)))["status"] == "CANCEL_QUEUED")

    await eventually(cancelling, what="the limit exit is being cancelled")
    assert len(await system.control.orders()) == 2
    await system.control.fill(soft, "0.001")
    await system.control.finish_cancel(soft)
    outcome = await trade.closed()
    assert [(leg.reason, leg.size) for leg in outcome.exits] == [
        (ExitReason.SOFT_STOP, Decimal("0.005")),
        (ExitReason.HARD_STOP, Decimal("0.005")),
    ]
    assert kind((await leg_attempts(system, trade, 2))[0]) == "market_market_ioc"
    await system.assert_books_agree()


async def test_an_exit_that_fills_in_part_leaves_the_rest_protected(system: TradingSystem) -> None:
    """A profit exit that sold a part returns to monitoring the rest, and a stop sells that."""
    trade = await system.start(market_buy(system.account, "0.01", rules=QUICK))
    await trade.until_protected("0.01")
    await system.price("50600")
    await system.control.fill(await system.exchange_id(client_order_id(trade.leg_key(1), 1)), "0.004")
    await system.price("50100")

    async def left() -> bool:
        return bool(
            await system.value(
                "SELECT state = 'ARMED' AND quantity = 0.006 FROM exit_plans WHERE entry_key = $1", trade.key
            )
        )

    await eventually(left, what="the rest is protected")
    await system.price("47000")
    outcome = await trade.closed()
    assert outcome.exit_size == Decimal("0.01")
    assert outcome.exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()


async def test_a_refused_exit_is_tried_again_until_the_exchange_takes_it(system: TradingSystem) -> None:
    """While the product is cancel-only the stop stays due with a CRITICAL incident; it sells when that changes."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.product("BTC-USD", cancel_only=True)
    await system.price("47000")

    async def refused() -> bool:
        return bool(await system.value("SELECT count(*) >= 2 FROM orders WHERE gate = 'VENUE_HALTED'"))

    await eventually(refused, what="the stop was refused twice")
    told = await system.rows("SELECT severity FROM incidents WHERE kind = 'EXIT_REFUSED'")
    assert [row["severity"] for row in told] == ["CRITICAL"]  # one that lasts, not one per attempt
    assert await system.value("SELECT remaining FROM trades WHERE entry_key = $1", trade.key) == Decimal("0.01")
    await system.control.product("BTC-USD", cancel_only=False)
    outcome = await trade.closed(within=20)
    assert outcome.exit_reason is ExitReason.HARD_STOP
    orders = [item for item in await system.control.orders() if item["side"] == "SELL"]
    assert len(orders) == 1
    await system.assert_books_agree()


async def test_a_limit_exit_that_fails_at_the_exchange_is_tried_again(system: TradingSystem) -> None:
    """A stop's exit that somebody cancels at the exchange leaves nothing unprotected: the next one sells."""
    trade = await system.start(market_buy(system.account, "0.01", rules=ExitRules(reprice_seconds=Decimal(60))))
    await trade.until_protected("0.01")
    await system.price("48700")
    first = await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.control.cancel(first)
    second = await system.exchange_id(client_order_id(trade.leg_key(2), 1))
    await system.control.fill(second, "0.01")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.SOFT_STOP
    await system.assert_books_agree()


@pytest.mark.parametrize("price", ["47000", "48700"])
async def test_a_limit_only_product_is_sold_by_ioc_within_a_collar(system: TradingSystem, price: str) -> None:
    """If the product has no market orders, a limit IOC with a collar replaces MARKET, for buys and sells."""
    await system.control.product("BTC-USD", limit_only=True)
    rules = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=0)
    trade = await system.start(market_buy(system.account, "0.01", rules=rules))
    await trade.until_protected("0.01")
    await system.price(price)
    outcome = await trade.closed()
    assert outcome.exit_price == Decimal(price)
    last = (await leg_attempts(system, trade))[-1]
    assert kind(last) == "sor_limit_ioc"
    assert last["limit_price"] == Decimal(price) * Decimal("0.99")
    await system.assert_books_agree()


async def test_two_trades_on_one_symbol_leave_by_their_own_prices(system: TradingSystem) -> None:
    """Each trade is judged by its own fills, not by the symbol's average, and sells only its own size."""
    dear = await system.start(market_buy(system.account, "0.01"))
    await dear.until_protected("0.01")
    await system.price("47600")
    cheap = await system.start(market_buy(system.account, "0.02"))
    await cheap.until_protected("0.02")
    await system.price("47400")
    outcome = await dear.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.01"))
    view = await cheap.monitor_view()
    assert (view.state, view.size) == ("PROTECTED", Decimal("0.02"))
    await system.assert_books_agree()
