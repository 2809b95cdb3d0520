"""An unanswered submit is sent again only while it is wanted, and refused resends let its absence be proven."""

from __future__ import annotations

from decimal import Decimal

from domain.orders import OrderState
from tests.support.harness import trading_system
from tests.support.intents import limit_buy
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
