"""A person's close is heard at any time, also while a stop is due and can't sell."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from domain.exits import ExitReason
from domain.messages import CloseRequest
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import market_buy
from tests.support.waiting import eventually
from workers.dev_server import DevServer
from workers.settings import SymbolSettings


@pytest_asyncio.fixture
async def hodl(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A system whose BTC is never sold by the system."""
    symbols = SymbolSettings(allow=("BTC-USD", "ETH-USD"), hodl=("BTC-USD",))
    async with trading_system(database, temporal_server.address, symbols=symbols) as system:
        yield system


async def test_a_close_sells_what_a_hodl_list_keeps_from_a_due_stop(hodl: TradingSystem) -> None:
    """The list stops the system's hard stop, which is told once; it does not stop a person."""
    trade = await hodl.start(market_buy(hodl.account, "0.01"))
    await trade.until_protected("0.01")
    await hodl.price("47000")

    async def refused() -> bool:
        return bool(await hodl.value("SELECT count(*) = 1 FROM incidents WHERE kind = 'EXIT_REFUSED'"))

    await eventually(refused, what="the refused stop is told")
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.MANUAL
    assert outcome.exit_size == outcome.entry_size
    assert await hodl.value("SELECT count(*) FROM incidents WHERE kind LIKE 'EXIT_%' AND resolved_at IS NULL") == 0
    await hodl.assert_books_agree()


async def test_a_close_ends_the_pause_before_a_refused_stop_is_tried_again(system: TradingSystem) -> None:
    """The pause after a refusal belongs to the stop; the person's order goes out at once."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.product("BTC-USD", cancel_only=True)
    await system.price("47000")

    async def paused() -> bool:
        refusals = await system.value("SELECT count(*) FROM orders WHERE role = 'EXIT' AND gate = 'VENUE_HALTED'")
        return int(refusals) >= 3

    await eventually(paused, what="three refusals, so a pause of four seconds")
    await system.control.product("BTC-USD", cancel_only=False)
    await trade.monitor.signal("close", CloseRequest(by="a person"))
    outcome = await trade.closed(within=3.0)
    assert outcome.exit_reason is ExitReason.MANUAL
    await system.assert_books_agree()
