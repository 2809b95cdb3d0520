"""The pause before the next attempt of a due exit ends when its obstacle is gone, or on a person's close."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate

import pytest

from domain.exits import ExitReason
from domain.messages import CloseAnswer, CloseRequest, ObstacleGone
from domain.obstacles import Obstacle
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy
from tests.support.waiting import eventually
from tests.workflow.test_urgent_exits import RULES, bought, close, sells, until_sold
from workflows import exit_pauses
from workflows.exit_pauses import pause_of_stop

LONG = RULES.model_copy(update={"retry_max_seconds": Decimal(3600)})


@pytest.fixture(autouse=True)
def endless(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pauses too long for any test."""
    if "database" in request.fixturenames:
        for pause in ("_FIRST_PAUSE", "_QUICK_PAUSE", "_CLAIMS_LOOK"):
            monkeypatch.setattr(exit_pauses, pause, 3600.0)


async def until_paused(trade: Trade, *, exits: int = 1) -> None:
    """Wait until this many exits of a trade have been refused, and the monitor pauses."""

    async def so() -> bool:
        refused = [line for line in await trade.monitor.query("timeline") if "was refused" in line]
        return len(refused) == exits and await is_asleep(trade)

    await eventually(so, what=f"{exits} exits are refused")


async def is_asleep(trade: Trade) -> bool:
    """Whether the monitor's last step started a timer that long."""
    events = (await trade.monitor.fetch_history()).events
    return any(event.timer_started_event_attributes.start_to_fire_timeout.seconds > 1000 for event in events[-3:])


async def hold_all(system: TradingSystem) -> str:
    """A person's own sell in the exchange's app holds all coins."""
    limit = {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "90000"}}
    order = await system.control.order("BTC-USD", "SELL", limit)
    return str(order["order_id"])


async def test_a_stop_is_tried_again_as_the_sell_that_held_its_coins_ends(system: TradingSystem) -> None:
    """A person's sell in the exchange's app held all of them: when it is cancelled there, the stop is sent."""
    trade = await bought(system, rules=LONG)
    held = await hold_all(system)
    await system.price("46000")
    await until_paused(trade)
    await system.control.cancel(held)
    await until_sold(system, trade)
    outcome = await trade.closed()
    assert (outcome.exit_reason, len(outcome.exits)) == (ExitReason.HARD_STOP, 1)
    assert (await trade.monitor_view()).exit_orders == 2
    await system.assert_books_agree()


async def test_stops_are_tried_again_as_the_exchange_takes_orders_again(system: TradingSystem) -> None:
    """The key was refused for a while: when any other order is accepted, all pausing exits are sent."""
    trades = [await bought(system, rules=LONG) for _ in range(2)]
    await system.control.fault("server_error", "POST /orders", count=None, status=401)
    await system.price("46000")
    for trade in trades:
        await until_paused(trade)
    await system.control.clear_faults()
    other = await system.start(limit_buy(system.account, "0.01", "30000"))
    await other.exchange_id()
    for trade in trades:
        await until_sold(system, trade)
        assert (await trade.closed()).exit_reason is ExitReason.HARD_STOP
    assert await system.value("SELECT count(*) FROM orders WHERE entry_point = 'exit'") == 4


async def test_a_person_who_closes_again_ends_the_pause(system: TradingSystem) -> None:
    """The first close was refused: the second says that it is retried, and it is, as one order."""
    trade = await bought(system, rules=LONG)
    await system.control.fault("server_error", "POST /orders", count=1, status=401)
    await close(trade)
    await until_paused(trade)
    answer = await trade.monitor.execute_update("close", CloseRequest(by="a person"), result_type=CloseAnswer)
    assert answer.sentence == "0.01 BTC-USD are not sold yet; it is tried again now"
    await until_sold(system, trade)
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.MANUAL, Decimal("0.01"))
    assert len(await sells(system, trade)) == 1
    assert any("close requested again" in line for line in await trade.monitor.query("timeline"))
    await system.assert_books_agree()


async def test_news_that_comes_again_and_again_makes_no_storm_of_orders(system: TradingSystem) -> None:
    """The first report that its obstacle is gone causes an attempt at once, later ones only after a pause."""
    trade = await bought(system, rules=LONG)
    held = await hold_all(system)
    await close(trade)
    await until_paused(trade)
    news = ObstacleGone(obstacle=Obstacle.COINS, why="a sell has ended elsewhere")
    await trade.monitor.signal("obstacle_gone", ObstacleGone(obstacle=Obstacle.EXCHANGE, why="orders are taken"))
    assert (await trade.monitor_view()).exit_orders == 1
    await trade.monitor.signal("obstacle_gone", news)
    await until_paused(trade, exits=2)
    for _ in range(20):
        await trade.monitor.signal("obstacle_gone", news)

    async def heard() -> bool:
        return sum("a sell has ended elsewhere" in line for line in await trade.monitor.query("timeline")) == 2

    await eventually(heard, what="the monitor has heard of it")
    assert (await trade.monitor_view()).exit_orders == 2
    await system.control.cancel(held)
    await close(trade)
    assert (await trade.closed()).exit_size == Decimal("0.01")
    await system.assert_books_agree()


def test_a_stop_is_tried_often_for_two_minutes_and_seldom_after_that() -> None:
    """After 1, 2, 4 and then each 5 seconds: seven attempts in 20 s; then 10, 20, 40 and at most 60, or as in the
    trade's rules.
    """
    pauses = [pause_of_stop(failures, 60.0) for failures in range(1, 31)]
    assert pauses[:5] == [1, 2, 4, 5, 5]
    assert sum(pauses[:24]) == 112
    assert pauses[24:] == [10, 20, 40, 60, 60, 60]
    assert sum(at <= 20 for at in accumulate(pauses)) + 1 == 6
    assert pause_of_stop(9, 3.0) == 3
    assert pause_of_stop(40, 3.0) == 3
    assert pause_of_stop(10_000, 60.0) == 60
    assert pause_of_stop(0, 60.0) == 0
