"""A person moves the stops of an open trade (EXIT-14), and all its guards use the new ones."""

from __future__ import annotations

from decimal import Decimal

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from activities.commands import note_commands
from domain.commands import CommandKind
from domain.exits import ExitReason, ExitRules
from domain.messages import StopsAnswer, StopsRequest
from domain.protection import Protection, ProtectionKind
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import market_buy
from tests.support.waiting import eventually
from tests.workflow.test_exits_while_reads_fail import until_bid_is_kept
from tests.workflow.test_urgent_exits import bought


async def moved(trade: Trade, request: StopsRequest) -> str:
    """Request it from the trade's monitor, and return its answer."""
    answer: StopsAnswer = await trade.monitor.execute_update("stops", request, result_type=StopsAnswer)
    return answer.sentence


async def refused(trade: Trade, request: StopsRequest) -> str:
    """The code of the monitor's refusal."""
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await moved(trade, request)
    assert isinstance(caught.value.cause, ApplicationError)
    return str(caught.value.cause.type)


async def test_moved_stops_guard_the_trade_from_then_on(system: TradingSystem) -> None:
    """A nearer stop counts at once, in the plan, for the price watcher, at the exchange and for a new monitor; it is
    recorded with who and why. Weaker protection needs explicit consent, and a trailing stop only rises. A removed
    target is removed at the exchange, too: a stop alone replaces the bracket.
    """
    protection = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.05"))
    rules = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=0)
    trade = await system.start(market_buy(system.account, "0.01", rules=rules, protection=protection))
    bracket = Protection(kind=ProtectionKind.BRACKET, stop=Decimal("0.05"), take_profit=Decimal("0.04"))
    other = await system.start(market_buy(system.account, "0.02", rules=rules, protection=bracket))
    for each in (trade, other):
        await each.until_protected()

    async def rests(size: str) -> dict[str, dict[str, str]]:
        """The trade's resting orders of that size: their terms by the kind of order."""
        found: dict[str, dict[str, str]] = {}
        for item in await system.control.orders():
            if item["side"] == "SELL" and item["status"] == "OPEN":
                terms: dict[str, dict[str, str]] = item["order_configuration"]
                found |= {
                    kind: values for kind, values in terms.items() if Decimal(values["base_size"]) == Decimal(size)
                }
        return found

    async def stop_at_exchange() -> Decimal:
        return Decimal((await rests("0.01")).get("stop_limit_stop_limit_gtc", {}).get("stop_price", 0))

    async def bracket_rests() -> bool:
        return set(await rests("0.02")) == {"trigger_bracket_gtc"}

    async def stop_rests_alone() -> bool:
        return set(await rests("0.02")) == {"stop_limit_stop_limit_gtc"}

    before = await eventually(stop_at_exchange, what="the protection rests")
    assert await refused(trade, StopsRequest(hard_stop=Decimal(45000))) == "FURTHER_AWAY"
    assert await refused(trade, StopsRequest(soft_stop=Decimal(50000))) == "WOULD_SELL_NOW"
    (command,) = await note_commands(system.pool, system.account, CommandKind.STOPS, [trade.key], "ann", "news")
    wish = StopsRequest(hard_stop=Decimal(49000), soft_stop=Decimal(49500), by="somebody", note="news", command=command)
    assert await moved(trade, wish) == "hard stop 47500.95 → 49000; soft stop 48750.975 → 49500"
    assert await moved(trade, wish) == "hard stop 47500.95 → 49000; soft stop 48750.975 → 49500"
    assert await refused(trade, wish.model_copy(update={"hard_stop": Decimal(49100)})) == "COMMAND_USED", "other levels"
    (change,) = await system.rows("SELECT given_by, note, bid FROM stop_changes WHERE entry_key = $1", trade.key)
    assert change == {"given_by": "ann", "note": "news", "bid": Decimal(50000)}

    async def replaced() -> bool:
        return before < await stop_at_exchange() <= 49000

    await eventually(replaced, what="what rests at the exchange has the new stop")
    await trade.monitor.terminate("a person's mistake")
    assert await system.parts.starter.monitor(trade.key)

    await eventually(bracket_rests, what="the bracket rests")
    assert await refused(other, StopsRequest(no_take_profit=True)) == "FURTHER_AWAY"
    assert await moved(other, StopsRequest(no_take_profit=True, further=True)) == "take profit 52001.04 → none"
    await eventually(stop_rests_alone, what="a stop alone rests in the bracket's place")

    wanted = StopsRequest(hard_stop=Decimal(49000), command=command)
    assert await refused(other, wanted) == "COMMAND_USED", "a command of the first trade's"
    # The second trade's trailing stop is armed by hand, and raised; it is never lowered again.
    assert "none → 49800" in await moved(other, StopsRequest(trailing_stop=Decimal(49800)))
    assert "49800 → 49900" in await moved(other, StopsRequest(trailing_stop=Decimal(49900)))
    assert await refused(other, StopsRequest(trailing_stop=Decimal(49850), further=True)) == "TRAILING_NEVER_LOWERED"
    await system.price("49890")
    outcome = await other.closed()
    assert (outcome.exit_reason, outcome.exits[0].trigger_price) == (ExitReason.TRAILING_STOP, Decimal(49890))
    await system.price("49450")
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.exits[0].trigger_price) == (ExitReason.SOFT_STOP, Decimal(49450))
    assert await stop_at_exchange() == 0
    await system.assert_books_agree()


async def test_a_wish_with_a_field_that_nobody_knows_is_refused_by_its_name(system: TradingSystem) -> None:
    """A typing error in stops moves nothing, and a close with a size sells nothing, as it would sell all: the answer
    names the unknown field. The entry refuses the same. `own` is sent by workflows, whose requests are not stored: a
    person's is refused.
    """
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    for handle, update, request, problem in (
        (trade.monitor, "stops", {"hardd": "49000", "soft_stop": "49500"}, "`hardd` is not understood"),
        (trade.monitor, "close", {"hardd": "0.005"}, "`hardd` is not understood"),
        (trade.handle, "close", {"hardd": "0.005"}, "`hardd` is not understood"),
        (trade.monitor, "close", {"by": "ann", "own": True}, "`own` is not for people"),
        (trade.handle, "close", {"by": "ann", "own": True}, "`own` is not for people"),
    ):
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update(update, request)
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.type == "BAD_REQUEST"
        assert f"{problem}: nothing was done" in str(caught.value.cause)
    assert await system.value("SELECT count(*) FROM stop_changes") == 0
    assert (await trade.monitor_view()).due is None
    await trade.monitor.execute_update("close", {"by": "ann"})
    assert (await trade.closed()).exit_reason is ExitReason.MANUAL


async def test_stops_are_moved_by_the_watchers_bid_while_no_read_works(system: TradingSystem) -> None:
    """A person may move a stop below the bid that the price watcher keeps, and not above it."""
    trade = await bought(system)
    await until_bid_is_kept(system, "50000")
    await system.control.fault("server_error", "GET *", count=None)
    assert await refused(trade, StopsRequest(by="a person", soft_stop=Decimal(50000))) != "BID_UNKNOWN"
    assert "49500" in await moved(trade, StopsRequest(by="a person", soft_stop=Decimal(49500), command="nearer"))
    assert await system.value("SELECT bid FROM stop_changes") == 50000
