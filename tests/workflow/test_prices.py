"""Prices that decide are the venue's own for that product, whatever its clock says (EXIT-13)."""

from __future__ import annotations

from domain.exits import ExitReason
from tests.support.harness import TradingSystem
from tests.support.intents import market_buy


async def test_an_exchange_whose_clock_was_ahead_for_a_moment_is_sold_at_as_ever(system: TradingSystem) -> None:
    """Prices that come after one from ten minutes ahead are no old ones: the stop goes out by the stream."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.skew(600)
    await system.price("49990")
    await system.control.skew(0)
    await system.price("49980")
    await system.price("47000")
    outcome = await trade.closed()
    assert outcome.exit_reason is ExitReason.HARD_STOP
    assert not await system.rows("SELECT sentence FROM incidents WHERE kind = 'stale_price'")
    await system.assert_books_agree()
