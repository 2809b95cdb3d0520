"""A worker that dies between the exchange's refusal and its own answer."""

from __future__ import annotations

from activities.interfaces.orders import LookUp
from domain.messages import ResolveVerdict
from tests.support.harness import TradingSystem
from tests.support.intents import limit_buy


async def test_a_refusal_that_was_written_down_is_not_waited_out(system: TradingSystem) -> None:
    """The journal has the exchange's refusal, so nothing waits until absence would be proof."""
    intent = limit_buy(system.account, "0.01", "49000")
    trading = system.parts.trading
    assert (await trading.admit(intent)).accepted
    await system.pool.execute(
        "UPDATE attempts SET status = 'FAILED', live = false, refusal = 'INSUFFICIENT_FUND' WHERE order_key = $1",
        intent.order_key,
    )
    answer = await trading.look_up(LookUp(order_key=intent.order_key, number=1, resend=True))
    assert answer.verdict is ResolveVerdict.ABSENT
    assert "INSUFFICIENT_FUND" in answer.sentence
    assert await system.control.orders() == []
