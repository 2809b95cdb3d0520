"""A sell refused because something else holds the coins names the holder and how to sell all the same."""

from __future__ import annotations

from activities.database import create_pool
from cli.order_words import what_holds
from domain.orders import OrderRole, Side
from tests.support.ledger_rows import add_order, add_trade, intent


async def test_what_holds_the_coins_is_named(database: str) -> None:
    """The protection at the exchange, a working exit, a trade that owns them, a sell from the pool."""
    pool = await create_pool(database, size=2)
    try:
        key = await add_trade(pool, "held", notify=False)
        of_trade = intent("part", side=Side.SELL, role=OrderRole.EXIT, entry_key=key)
        of_pool = intent("pool", side=Side.SELL, role=OrderRole.EXIT)
        assert await what_holds(pool, of_trade) == ""

        resting = intent("protects", side=Side.SELL, role=OrderRole.EXIT, entry_key=key)
        await add_order(pool, resting, exchange_order_id="resting")
        selling = await what_holds(pool, of_trade)
        assert selling.startswith(f"Trade {key[:8]}")
        assert "is being sold already (MANUAL, 1 BTC)" in selling
        assert await what_holds(pool, resting) == "", "its own claim is no reason"

        await pool.execute("UPDATE orders SET protection_role = 'OCO' WHERE order_key = $1", resting.order_key)
        protected = await what_holds(pool, of_trade)
        assert protected.startswith(f"The protection of trade {key[:8]}")
        assert "which rests at the exchange, holds 1 BTC: `bottrader trade close " in protected

        owned = await what_holds(pool, of_pool)
        assert owned.startswith(f"Trade {key[:8]}")
        assert "owns 1 BTC" in owned
        assert "a part of it" not in owned, "the protection holds every part"
        twin = intent("twin", symbol="BTC-USDC", side=Side.SELL, role=OrderRole.EXIT)
        assert await what_holds(pool, twin) == owned, "another product of the coin is the same coin"
        await add_order(pool, other := intent("other", side=Side.SELL, role=OrderRole.EXIT), exchange_order_id="other")
        assert f"`bottrader order cancel {other.order_key[:8]}" in await what_holds(pool, of_pool)
        assert await what_holds(pool, intent("eth", symbol="ETH-USD", side=Side.SELL, role=OrderRole.EXIT)) == ""

        for number in range(4):
            await add_trade(pool, f"more-{number}", notify=False)
        assert (await what_holds(pool, of_pool)).endswith("3 more trades hold some: see `bottrader trades --open`.")
    finally:
        await pool.close()
