"""A person moves the stops of an open trade (EXIT-14), and everything that guards it goes by the new ones."""

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


async def moved(trade: Trade, request: StopsRequest) -> str:
    """Ask the trade's monitor for it, and return what it says."""
    answer: StopsAnswer = await trade.monitor.execute_update("stops", request, result_type=StopsAnswer)
    return answer.sentence


async def refused(trade: Trade, request: StopsRequest) -> str:
    """The code that the monitor refuses it with."""
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await moved(trade, request)
    assert isinstance(caught.value.cause, ApplicationError)
    return str(caught.value.cause.type)


async def test_moved_stops_guard_the_trade_from_then_on(system: TradingSystem) -> None:
    """A nearer stop counts at once, in the plan, for the price watcher, at the exchange and for a monitor that is
    started anew; it is on record with who and why. Weaker protection needs its word, and a trailing stop only rises.
    """
    protection = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.05"))
    rules = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=0)
    trade = await system.start(market_buy(system.account, "0.01", rules=rules, protection=protection))
    other = await system.start(market_buy(system.account, "0.02", rules=rules))
    for each in (trade, other):
        await each.until_protected()

    async def stop_at_exchange() -> Decimal:
        rests = [item for item in await system.control.orders() if item["side"] == "SELL" and item["status"] == "OPEN"]
        (values,) = rests[0]["order_configuration"].values() if len(rests) == 1 else ({"stop_price": 0},)
        return Decimal(values["stop_price"])

    before = await eventually(stop_at_exchange, what="the protection rests")
    assert await refused(trade, StopsRequest(hard_stop=Decimal(45000))) == "FURTHER_AWAY"
    assert await refused(trade, StopsRequest(soft_stop=Decimal(50000))) == "WOULD_SELL_NOW"
    (command,) = await note_commands(system.pool, system.account, CommandKind.STOPS, [trade.key], "ann", "news")
    wish = StopsRequest(hard_stop=Decimal(49000), soft_stop=Decimal(49500), by="somebody", note="news", command=command)
    assert await moved(trade, wish) == "hard stop 47500.95 → 49000; soft stop 48750.975 → 49500"
    assert await moved(trade, wish) == "hard stop 47500.95 → 49000; soft stop 48750.975 → 49500"
    (change,) = await system.rows("SELECT given_by, note, bid FROM stop_changes WHERE entry_key = $1", trade.key)
    assert change == {"given_by": "ann", "note": "news", "bid": Decimal(50000)}

    async def replaced() -> bool:
        return before < await stop_at_exchange() <= 49000

    await eventually(replaced, what="what rests at the exchange has the new stop")
    await trade.monitor.terminate("a person's mistake")
    assert await system.parts.starter.monitor(trade.key)

    # Of the second trade the trailing stop is armed by hand, and raised; it never comes down again.
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
