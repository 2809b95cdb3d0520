"""Decisions use the venue's own prices for that product, whatever its clock says (EXIT-13)."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from domain.exits import ExitReason
from tests.support.harness import TradingSystem, step_market, trading_system
from tests.support.intents import market_buy
from workers.settings import SymbolSettings
from workers.stack.dev_server import DevServer


async def test_an_exchange_whose_clock_was_ahead_for_a_moment_is_sold_at_as_ever(system: TradingSystem) -> None:
    """Prices after one dated ten minutes ahead are not old: the stop is sent by the stream."""
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


async def test_a_product_whose_prices_come_under_its_twins_name_is_stopped_like_any_other(
    database: str, temporal_server: DevServer, tmp_path: Path
) -> None:
    """BTC-USDC and BTC-USD are both held and watched, all prices arrive as BTC-USD's, and both stops are sent by
    them."""
    rules = {
        "price": "50000", "base_increment": "0.00000001", "quote_increment": "0.01", "price_increment": "0.01",
        "base_min_size": "0.00000001", "base_max_size": "3400", "quote_min_size": "1", "quote_max_size": "150000000",
        "status": "online", "product_type": "SPOT",
    }  # fmt: skip
    names = {"BTC-USD": "", "BTC-USDC": "BTC-USD", "ETH-USD": ""}
    products = tmp_path / "products.json"
    products.write_text(json.dumps([{"product_id": name, "alias": twin, **rules} for name, twin in names.items()]))
    market = step_market(
        products=list(names),
        products_file=products,
        balances={"USD": Decimal(100_000), "USDC": Decimal(100_000)},
    )
    symbols = SymbolSettings(allow=("BTC-USD", "BTC-USDC"), max_open_buys=1000)
    async with trading_system(database, temporal_server.address, market=market, symbols=symbols) as system:
        trades = [await system.start(market_buy(system.account, "0.01", symbol=name)) for name in symbols.allow]
        for trade in trades:
            await trade.until_protected("0.01")
        await system.price("47000")
        outcomes = [await trade.closed() for trade in trades]
        assert [outcome.exit_reason for outcome in outcomes] == [ExitReason.HARD_STOP] * 2
        assert not await system.rows("SELECT sentence FROM incidents WHERE kind = 'stale_price'")
        await system.assert_books_agree()
