"""A monitor that a person terminated is started again in the middle of anything."""

from __future__ import annotations

from decimal import Decimal

import pytest

from domain.exits import ExitReason, ExitRules
from domain.ids import client_order_id
from tests.support.harness import TradingSystem
from tests.support.intents import market_buy
from tests.support.waiting import eventually


@pytest.mark.parametrize("fills", [True, False], ids=["the old exit fills", "the old exit is terminated too"])
async def test_a_restarted_monitor_takes_over_a_pending_exit(system: TradingSystem, fills: bool) -> None:
    """The new monitor waits for the old exit's order, and closes the sold size, or sells the rest."""
    rules = ExitRules(reprice_seconds=Decimal(60))
    trade = await system.start(market_buy(system.account, "0.01", rules=rules))
    await trade.until_protected("0.01")
    await system.price("48700")
    soft = await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await trade.monitor.terminate("a person's mistake")
    assert await system.parts.starter.monitor(trade.key)
    if fills:
        await system.control.fill(soft, "0.01")
        expected = ExitReason.SOFT_STOP
    else:
        await system.client.get_workflow_handle(f"order-{trade.leg_key(1)}").cancel()

        async def armed() -> bool:
            return bool(await system.value("SELECT state = 'ARMED' FROM exit_plans WHERE entry_key = $1", trade.key))

        await eventually(armed, what="the plan is armed again")
        await system.price("47000")
        expected = ExitReason.HARD_STOP
    outcome = await trade.closed()
    assert outcome.exit_reason is expected
    assert outcome.exit_size == Decimal("0.01")
    await system.assert_books_agree()
