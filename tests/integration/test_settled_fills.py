"""The exchange's own executions in the ledger: a trade id is a product's and one trade may have two orders of ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from activities.database import Pool, create_pool
from activities.exchange_fills import settle_fills
from activities.ledger import Ledger
from domain.messages import OrderUpdate
from domain.orders import AttemptStatus, Side
from exchange.port import VenueFill
from tests.support.ledger_rows import ACCOUNT, add_order, intent

AT = datetime(2026, 8, 9, 12, tzinfo=UTC)


class FillList:
    """An exchange of which only the list of executions is asked."""

    def __init__(self, fills: Sequence[VenueFill]) -> None:
        self._fills = fills

    async def fills(self, *, since: datetime | None = None) -> Sequence[VenueFill]:
        """All of them."""
        return self._fills


@pytest.fixture
async def pool(database: str) -> Pool:
    """A pool on a fresh ledger."""
    found = await create_pool(database, size=2)
    yield found
    await found.close()


async def bought(pool: Pool, symbol: str, exchange_order_id: str) -> None:
    """An order of ours that has filled 1 at 100, as the stream tells it."""
    wanted = intent(exchange_order_id, symbol=symbol)
    await add_order(pool, wanted, exchange_order_id=exchange_order_id)
    update = OrderUpdate(
        attempt=1,
        status=AttemptStatus.FILLED,
        exchange_order_id=exchange_order_id,
        filled_size=Decimal(1),
        filled_value=Decimal(100),
        at=AT,
    )
    await Ledger(pool, ACCOUNT).record(wanted.order_key, update)


def execution(symbol: str, exchange_order_id: str, trade_id: str) -> VenueFill:
    """1 at 100, without fees."""
    return VenueFill(
        exchange_order_id=exchange_order_id,
        trade_id=trade_id,
        symbol=symbol,
        side=Side.BUY,
        size=Decimal(1),
        price=Decimal(100),
        fee=Decimal(0),
        fee_currency="USD",
        liquidity="TAKER",
        at=AT,
    )


async def settle(pool: Pool, fills: Sequence[VenueFill]) -> int:
    """Put them into the ledger."""
    return await settle_fills(
        pool,
        FillList(fills),  # type: ignore[arg-type]
        ACCOUNT,
        look_back=timedelta(days=3650),
        timeout=5,
    )


async def test_a_trade_id_that_two_products_have_is_two_fills(pool: Pool) -> None:
    """Trade ids count per product, so the same one on another product is another fill."""
    await bought(pool, "BTC-USD", "x-1")
    await bought(pool, "ETH-USD", "x-2")
    assert await settle(pool, [execution("BTC-USD", "x-1", "7"), execution("ETH-USD", "x-2", "7")]) == 2
    rows = await pool.fetch("SELECT symbol, trade_id, origin FROM fills ORDER BY symbol")
    assert [tuple(row) for row in rows] == [("BTC-USD", "7", "exchange"), ("ETH-USD", "7", "exchange")]


async def test_one_order_that_can_not_be_settled_does_not_keep_the_others_from_it(pool: Pool) -> None:
    """What the ledger can't take becomes one incident, however often it is tried; the next order is settled."""
    await bought(pool, "BTC-USD", "x-1")
    await bought(pool, "ETH-USD", "x-2")
    taken = "INSERT INTO fills (fill_key, account, symbol, side, exchange_order_id, origin, ingest_via, at) "
    await pool.execute(
        taken + "VALUES ($1, 'main', 'BTC-USD', 'BUY', 'x-3', 'exchange', 'rest', $2)", "main/x-1/trade/7", AT
    )
    fills = [execution("BTC-USD", "x-1", "7"), execution("ETH-USD", "x-2", "8")]
    assert await settle(pool, fills) == 1
    assert await settle(pool, fills) == 0
    assert await pool.fetchval("SELECT origin FROM fills WHERE exchange_order_id = 'x-2'") == "exchange"
    incidents = await pool.fetch("SELECT kind, subject FROM incidents")
    assert [tuple(row) for row in incidents] == [("FILLS_NOT_SETTLED", "x-1")]
