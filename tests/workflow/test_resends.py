"""An unanswered submit is sent again only while it is wanted, and refused resends let its absence be proven.

Meanwhile a due exit is sent under the same id in a form that the exchange would accept.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from activities.ledger.validator import check_ledger
from domain.exits import ExitReason
from domain.orders import OrderState
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy
from tests.workflow.test_exits_while_reads_fail import until_bid_is_kept
from tests.workflow.test_stops_beside_other_sells import in_journal, reads, rests_a_sell
from tests.workflow.test_urgent_exits import bought, close, sells, until_sold
from workers.stack.dev_server import DevServer


async def test_refused_resends_do_not_put_off_the_proof_of_absence(database: str, temporal_server: DevServer) -> None:
    """The exchange answers each resend with a refusal, so only the first request could still arrive: it is proven
    absent in its time.
    """
    async with trading_system(database, temporal_server.address, late_acceptance_seconds=12) as system:
        await system.control.fault("not_accepted_cut", "POST /orders", count=2)
        intent = limit_buy(system.account, "0.01", "50000", post_only=True)
        trade = await system.start(intent)
        await trade.until_state("UNKNOWN")
        await system.price("49990")
        outcome = await trade.result(within=25)
        assert (outcome.state, outcome.refusal) == (OrderState.FAILED, "ABSENT")
        assert await system.control.orders() == []


async def test_an_entry_is_not_sent_again_after_its_time(database: str, temporal_server: DevServer) -> None:
    """An entry that expired during the uncertainty is not sent any more, however long the proof takes."""
    async with trading_system(database, temporal_server.address, late_acceptance_seconds=6) as system:
        await system.control.fault("not_accepted_cut", "POST /orders", count=2)
        intent = limit_buy(system.account, "0.01", "49000", expires_after=Decimal("0.5"))
        trade = await system.start(intent)
        outcome = await trade.result(within=25)
        assert outcome.filled_size == 0
        assert await system.control.orders() == []


@pytest.mark.parametrize("by", ["stop", "close"])
@pytest.mark.parametrize("lost", ["not_accepted_cut", "accepted_server_error"])
async def test_a_lost_exit_that_is_refused_for_lack_of_funds_goes_out_for_less(
    system: TradingSystem, lost: str, by: str
) -> None:
    """A person's sell holds a part, no read works, and the exit's first answer is lost: what is left is sold under the
    first id, long before it is proven that the first sending can't arrive any more.
    """
    trade = await bought(system)
    await reads(system, "failing")
    other = await rests_a_sell(system)
    await in_journal(system, other)
    await system.control.fault(lost, "POST /orders", count=1)
    if by == "stop":
        await system.price("46000")
    else:
        await close(trade)
    await until_sold(system, trade, "0.006", within=30)
    assert len(await sells(system, trade)) == 1
    await system.control.cancel(other)
    await system.control.clear_faults()
    assert (await trade.closed(within=60)).exit_size == Decimal("0.01")
    await system.assert_books_agree()
    assert (await check_ledger(system.pool, None, system.account)).violations == ()


async def test_a_lost_exit_that_is_refused_as_a_market_order_goes_out_as_a_limit(system: TradingSystem) -> None:
    """The product takes only limit orders now, no read says so, and the exit's first answer is lost."""
    trade = await bought(system)
    await until_bid_is_kept(system, "50000")
    await reads(system, "failing")
    await system.control.product("BTC-USD", limit_only=True)
    await system.control.fault("not_accepted_cut", "POST /orders", count=1)
    await system.price("46000")
    await until_sold(system, trade, within=30)
    (order,) = await sells(system, trade)
    assert list(order["order_configuration"]) == ["sor_limit_ioc"]
    await system.control.clear_faults()
    assert (await trade.closed(within=60)).exit_reason is ExitReason.HARD_STOP
    await system.assert_books_agree()
    assert (await check_ledger(system.pool, None, system.account)).violations == ()
