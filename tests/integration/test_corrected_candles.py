"""Corrections of candles that no stream reports: the newest ones are read again from the venue's records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest_asyncio

from activities.database import Pool, create_pool
from activities.interfaces.strategy import MarketDataInput
from activities.leases import LeaseTerms, hold
from activities.market.candles import CandleTable
from activities.market.keeper import MarketDataOptions, MarketKeeper, market_data_lease
from domain.candles import ASKED_AGAIN, CANDLE
from domain.market import Product
from exchange.port import Candle, CandleUpdate
from tests.support.fake_exchange import FakeExchange
from tests.support.ledger_rows import ACCOUNT, add_trade, until

BTC = "BTC-USD"
START = datetime(2026, 11, 1, tzinfo=UTC)
WINDOW = 40


ONE = Decimal(1)
PRODUCT = Product(BTC, "BTC", "USD", ONE, ONE, ONE, ONE, ONE, ONE, ONE)


def candle(number: int, close: int = 100) -> Candle:
    """The candle of this number, flat."""
    price = Decimal(close)
    return Candle(BTC, START + CANDLE * number, price, price, price, price, Decimal(1))


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A ledger with an open trade, whose symbol is therefore followed."""
    found = await create_pool(database)
    await add_trade(found, "held")
    yield found
    await found.close()


@contextlib.asynccontextmanager
async def keeping(pool: Pool, exchange: FakeExchange) -> AsyncIterator[None]:
    """The account's market data are kept current during the block."""
    options = MarketDataOptions(window=WINDOW, market_speed=100, write_seconds=0.05)
    keeper = MarketKeeper(pool, exchange, lambda: options)
    work = asyncio.create_task(keeper.run(MarketDataInput(account=ACCOUNT), lambda *_: None))
    try:
        await until(lambda: is_watched(exchange))
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def is_watched(exchange: FakeExchange) -> bool:
    """Whether the stream of the symbol is open."""
    return BTC in exchange.watched()


async def close_of(pool: Pool, number: int) -> object:
    """The stored close of a candle."""
    return await pool.fetchval(
        "SELECT close FROM candles WHERE account = $1 AND start = $2", ACCOUNT, candle(number).start
    )


async def test_the_newest_closed_candles_are_asked_for_at_a_start_though_none_is_missing(pool: Pool) -> None:
    """Candles known only from the stream are replaced by the venue's records, as far back as they are read."""
    told = [candle(number) for number in range(-1, WINDOW)]
    async with hold(pool, market_data_lease(ACCOUNT), "before", LeaseTerms()) as lease:
        await CandleTable(pool, ACCOUNT).save(lease, told)
    exchange = FakeExchange(product_list=[PRODUCT], candle_list=[replace(item, close=Decimal(99)) for item in told])
    newest = WINDOW - 2  # the last one is open
    async with keeping(pool, exchange):
        exchange.push_market(CandleUpdate(told[-1], snapshot=False), BTC)

        async def corrected() -> bool:
            return await close_of(pool, newest) == 99

        await until(corrected)
        first = newest - ASKED_AGAIN + 1
        assert [await close_of(pool, number) for number in (first - 1, first)] == [100, 99]


async def test_a_stream_that_never_breaks_is_asked_after_all_the_same(pool: Pool) -> None:
    """Each candle is received by the stream only; the version in the venue's records replaces it before it is too old
    to be requested.
    """
    exchange = FakeExchange(product_list=[PRODUCT], candle_list=[candle(number) for number in range(WINDOW)])
    async with keeping(pool, exchange):
        exchange.push_market(CandleUpdate(candle(WINDOW), snapshot=False), BTC)

        async def filled() -> bool:
            return await close_of(pool, 0) is not None or await close_of(pool, WINDOW - 1) is not None

        await until(filled)
        corrected = candle(WINDOW + 1, 99)
        exchange.candle_list = [item for item in exchange.candle_list if item.start < corrected.start] + [corrected]
        for number in range(WINDOW, WINDOW + ASKED_AGAIN):
            exchange.push_market(CandleUpdate(candle(number), snapshot=False), BTC)

        async def taken() -> bool:
            return await close_of(pool, WINDOW + 1) == 99

        await until(taken)
