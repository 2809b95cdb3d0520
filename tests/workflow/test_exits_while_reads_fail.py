"""A due exit's information while the exchange's reads fail is from its stream and its refusals."""

from __future__ import annotations

from decimal import Decimal

import pytest

from domain.exits import ExitReason, ExitRules
from tests.support.harness import Trade, TradingSystem
from tests.support.waiting import eventually
from tests.workflow.test_urgent_exits import FAULTS, QUICK, STOP, WITHIN, bought, close, sells, until_sold

FOLLOWS = ExitRules(reprice_seconds=Decimal("0.3"), max_reprices=50, trailing_arm=None)


async def until_offered(system: TradingSystem, trade: Trade, price: str, *, exits: int = 1) -> None:
    """Wait until the trade's exit rests at this price, as one of this many exit orders so far."""

    async def so() -> bool:
        resting = [item for item in await sells(system, trade) if item["status"] == "OPEN"]
        return any(next(iter(item["order_configuration"].values()))["limit_price"] == price for item in resting)

    try:
        await eventually(so, within=WITHIN, what=f"the exit rests at {price}")
    except AssertionError as problem:
        raise AssertionError(f"{problem}\n{await trade.story()}\n{await sells(system, trade)}") from None
    assert (await trade.monitor_view()).exit_orders == exits


async def until_bid_is_kept(system: TradingSystem, bid: str) -> None:
    """Wait until the ledger has the stream's bid."""

    async def so() -> bool:
        return bool(await system.value("SELECT bid = $1 FROM exit_bids WHERE symbol = 'BTC-USD'", Decimal(bid)))

    await eventually(so, what=f"the stream's bid of {bid} is kept")


async def test_a_bid_from_a_clock_that_was_ahead_does_not_stay(system: TradingSystem) -> None:
    """The watcher's present bid replaces one stored an hour ahead, before our clock was corrected."""
    await bought(system)
    await until_bid_is_kept(system, "50000")
    await system.pool.execute("UPDATE exit_bids SET bid = 60000, at = now() + interval '1 hour'")
    await system.price("49900")
    await until_bid_is_kept(system, "49900")


async def test_a_price_dated_ahead_is_not_newer_than_the_streams_bid(system: TradingSystem) -> None:
    """Another machine, whose clock is an hour ahead, has stored a price: an exit of a product that takes only limit
    orders still uses the stream's bid.
    """
    trade = await bought(system)
    await until_bid_is_kept(system, "50000")
    await system.pool.execute(
        "INSERT INTO market_prices (account, symbol, bid, ask, at) "
        "VALUES ($1, 'BTC-USD', 60000, 60001, now() + interval '1 hour')",
        system.account,
    )
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.product("BTC-USD", limit_only=True)
    await close(trade)
    await until_sold(system, trade)


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("by", ["stop", "close"])
async def test_a_product_that_takes_only_limit_orders_now_is_sold_at_once(
    system: TradingSystem, by: str, fault: str
) -> None:
    """The exchange refuses a MARKET order, and no read can say why: the same exit order continues with a limit that
    trades at once, and the next trade's exit begins with one.
    """
    first, second = await bought(system), await bought(system)
    await until_bid_is_kept(system, "50000")
    await system.control.fault(fault, "GET *", count=None, **FAULTS[fault])
    await system.control.product("BTC-USD", limit_only=True)
    if by == "stop":
        await system.price("47000")
    else:
        await close(first)
    await until_sold(system, first)
    if by == "close":
        await close(second)
    await until_sold(system, second)
    await system.control.clear_faults()
    outcomes = [await trade.closed(within=60) for trade in (first, second)]
    assert {item.exit_reason for item in outcomes} == {ExitReason.HARD_STOP if by == "stop" else ExitReason.MANUAL}
    assert [len(item.exits) for item in outcomes] == [1, 1]
    for trade in (first, second):
        (order,) = await sells(system, trade)
        assert list(order["order_configuration"]) == ["sor_limit_ioc"]
    refused = await system.value("SELECT count(*) FROM attempts WHERE refusal IS NOT NULL")
    assert refused <= 2 if by == "stop" else refused == 1  # both stops may be sent before either is answered
    assert await system.value("SELECT count(*) FROM orders WHERE entry_point = 'exit'") == 2
    await system.assert_books_agree()


async def test_a_soft_stop_of_a_product_that_takes_only_limit_orders_now_goes_on_at_the_bid(
    system: TradingSystem,
) -> None:
    """Its limits have not filled, and the MARKET order after them is refused: the next attempt of the same exit order
    trades at the bid, and no limit above the market is begun again.
    """
    trade = await bought(system, rules=QUICK)
    await system.control.fault("server_error", "GET *", count=None)
    await system.control.product("BTC-USD", limit_only=True)
    await system.price("48700")
    await until_sold(system, trade)
    await system.control.clear_faults()
    outcome = await trade.closed(within=60)
    assert [(item.reason, item.size) for item in outcome.exits] == [(ExitReason.SOFT_STOP, Decimal("0.01"))]
    assert (await trade.monitor_view()).exit_orders == 1
    assert await system.value("SELECT count(*) FROM attempts WHERE refusal IS NOT NULL") == 1
    await system.assert_books_agree()


async def test_a_soft_stop_that_has_come_to_market_begins_no_limits_again(system: TradingSystem) -> None:
    """Its limits have not filled, and its MARKET order finds no buyer: the next exit goes MARKET at once."""
    trade = await bought(system, rules=QUICK)
    await system.control.fault("thin_book", "SELL BTC-USD", count=1)
    await system.price("48700")
    assert (await trade.closed(within=60)).exit_reason is ExitReason.SOFT_STOP
    begun = await system.rows("SELECT order_type FROM orders WHERE entry_point = 'exit' ORDER BY received_at")
    assert [row["order_type"] for row in begun] == ["LIMIT", "MARKET"]
    await system.assert_books_agree()


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_soft_stops_limits_follow_the_streams_bid_while_no_read_works(
    system: TradingSystem, fault: str
) -> None:
    """Each re-pricing is at the present bid, not at the one that made the stop due."""
    trade = await bought(system, rules=FOLLOWS)
    await system.control.fault(fault, "GET *", count=None, **FAULTS[fault])
    await system.price("48700")
    await until_offered(system, trade, "48704.87")
    for bid, price in (("48500", "48504.85"), ("48300", "48304.83")):
        await system.price(bid)
        await until_offered(system, trade, price)
    await system.control.clear_faults()
    await close(trade)
    assert (await trade.closed()).exit_size == Decimal("0.01")
    await system.assert_books_agree()


async def test_a_targets_limits_follow_the_streams_bid_while_no_read_works(system: TradingSystem) -> None:
    """The target is checked by the stream's bid before each re-pricing: it follows the bid while it holds, and returns
    to monitoring when it doesn't.
    """
    trade = await bought(system, rules=FOLLOWS.model_copy(update={"take_profit": Decimal("0.01")}))
    await system.control.fault("server_error", "GET *", count=None)
    await system.price("50600")
    await until_offered(system, trade, "50605.06")
    await system.price("50550")
    await until_offered(system, trade, "50555.06")
    await system.price("50400")

    async def armed() -> bool:
        return bool(await system.value("SELECT state = 'ARMED' FROM exit_plans"))

    await eventually(armed, within=WITHIN, what="the plan is armed again")
    assert (await trade.monitor_view()).exit_orders == 1
    await system.control.clear_faults()
    await close(trade)
    assert (await trade.closed()).exit_size == Decimal("0.01")
    await system.assert_books_agree()


@pytest.mark.parametrize("beside", ["protection", "a soft stop's order"])
async def test_a_stop_that_waits_for_an_end_which_the_stream_tells_alarms_nobody(
    system: TradingSystem, monkeypatch: pytest.MonkeyPatch, beside: str
) -> None:
    """No read confirms the end of the order that rests of the trade, so that the stop waits a second until the stream
    is believed, which is no reason to call people; the order is asked to leave once.
    """
    for module in ("exit_monitor", "exit_selling"):  # however slow this machine is
        monkeypatch.setattr(f"workflows.{module}.TOLD_LATER_SECONDS", 3600.0)
    monkeypatch.setattr("workflows.protection._ASKED", 3600.0)
    trade = await bought(system, protection=STOP if beside == "protection" else None)

    async def rests() -> bool:
        return any(item["status"] == "OPEN" for item in await sells(system, trade))

    if beside != "protection":
        await system.price("48700")
    await eventually(rests, what=f"{beside} rests")
    await system.control.fault("server_error", "GET *", count=None)
    await system.price("47000" if beside == "protection" else "46000")
    await until_sold(system, trade)
    await system.control.clear_faults()
    assert (await trade.closed(within=60)).exit_reason is ExitReason.HARD_STOP
    assert not await system.value("SELECT count(*) FROM incidents WHERE kind = 'EXIT_REFUSED'")
    await system.assert_books_agree()
