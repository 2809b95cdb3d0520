"""The outcome of an unanswered submit: found, sent again, or proven absent, and never doubled (LIFE-3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from domain.exits import ExitReason
from domain.ids import client_order_id
from domain.orders import OrderState
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.stack.dev_server import DevServer

UNANSWERED = ["accepted_cut", "accepted_server_error", "not_accepted_cut", "malformed_answer"]


@pytest.mark.parametrize("fault", UNANSWERED)
async def test_an_entry_without_an_answer_is_one_order_at_the_exchange(system: TradingSystem, fault: str) -> None:
    """Whether or not the exchange had accepted it, the entry is there exactly once and filled once."""
    await system.control.fault(fault, "POST /orders", count=1)
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    assert len([item for item in await system.control.orders() if item["side"] == "BUY"]) == 1
    assert any("unknown" in line for line in await trade.handle.query("timeline"))
    await system.price("47000")
    outcome = await trade.closed()
    assert (outcome.entry_size, outcome.exit_size) == (Decimal("0.01"), Decimal("0.01"))
    await system.assert_books_agree()


async def test_an_entry_that_is_accepted_in_silence(system: TradingSystem) -> None:
    """A submit that times out although the exchange accepted it is found, not sent as another order."""
    await system.control.fault("accepted_silent", "POST /orders", count=1, delay=8.0)
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await trade.exchange_id(), "0.1")
    await trade.until_state("FILLED")
    assert len(await system.control.orders()) == 1
    await system.price("47000")
    await trade.closed()
    await system.assert_books_agree()


@pytest.mark.parametrize("fault", ["accepted_cut", "not_accepted_cut"])
async def test_an_exit_without_an_answer_is_one_order_at_the_exchange(system: TradingSystem, fault: str) -> None:
    """An exit is sent again at once with the identical body, and is one order all the same."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.fault(fault, "POST /orders", count=1)
    await system.price("47000")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.HARD_STOP
    assert len([item for item in await system.control.orders() if item["side"] == "SELL"]) == 1
    await system.assert_books_agree()


async def test_a_busy_exchange_is_asked_again(system: TradingSystem) -> None:
    """A 429 is not an unknown outcome: the same attempt is sent again after a pause."""
    await system.control.fault("rate_limited", "POST /orders", count=2)
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    assert len(await system.control.orders()) == 1
    assert await system.value("SELECT count(*) FROM attempts") == 1


async def test_an_attempt_that_never_arrived_is_proven_absent(database: str, temporal_server: DevServer) -> None:
    """Too old to be sent again, unlisted past the time of late acceptance: FAILED, and nothing at the exchange."""
    async with trading_system(database, temporal_server.address, late_acceptance_seconds=1) as system:
        await system.control.fault("not_accepted_cut", "POST /orders", count=5)
        soon = datetime.now(UTC) + timedelta(seconds=1)
        trade = await system.start(market_buy(system.account, "0.01", valid_until=soon))
        outcome = await trade.result()
        assert (outcome.state, outcome.refusal) == (OrderState.FAILED, "ABSENT")
        assert "not among the exchange's orders" in outcome.sentence
        assert await system.control.orders() == []
        assert await system.value("SELECT status FROM attempts") == "ABSENT"


async def test_an_absent_attempt_that_appears_late_is_cancelled(database: str, temporal_server: DevServer) -> None:
    """Accepted after it was considered absent and its workflow had ended: it is cancelled, nothing stays open."""
    async with trading_system(database, temporal_server.address, late_acceptance_seconds=1) as system:
        await system.control.fault("accepted_late", "POST /orders", count=1, delay=5.0)
        await system.control.fault("not_accepted_cut", "POST /orders", count=5)
        soon = datetime.now(UTC) + timedelta(seconds=1)
        trade = await system.start(limit_buy(system.account, "0.1", "49999", valid_until=soon))
        assert (await trade.result()).refusal == "ABSENT"
        first = client_order_id(trade.key, 1)
        await system.exchange_id(first)

        async def cancelled() -> bool:
            return bool((await system.venue_order(first))["status"] == "CANCELLED")

        await eventually(cancelled, what="the late order is cancelled")
        await system.assert_books_agree()


async def test_what_an_absent_attempt_fills_late_is_protected(database: str, temporal_server: DevServer) -> None:
    """A fill of an order whose workflow has ended is recorded, linked and protected (LIFE-9)."""
    async with trading_system(database, temporal_server.address, late_acceptance_seconds=1) as system:
        await system.control.fault("accepted_late", "POST /orders", count=1, delay=5.0)
        await system.control.fault("not_accepted_cut", "POST /orders", count=5)
        soon = datetime.now(UTC) + timedelta(seconds=1)
        trade = await system.start(market_buy(system.account, "0.01", valid_until=soon))
        assert (await trade.result()).refusal == "ABSENT"
        await system.exchange_id(client_order_id(trade.key, 1))

        async def guarded() -> bool:
            return bool(await system.value("SELECT state = 'ARMED' FROM exit_plans WHERE entry_key = $1", trade.key))

        await eventually(guarded, what="the late fill has an armed plan")
        await system.price("47000")

        async def closed() -> bool:
            return bool(await system.value("SELECT state = 'CLOSED' FROM trades WHERE entry_key = $1", trade.key))

        await eventually(closed, what="the late trade is closed")
        await system.assert_books_agree()
