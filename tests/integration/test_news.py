"""News of trades for people: from the ledger's rows, each sent once, by any process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest_asyncio

from activities.database import Pool, create_pool
from activities.leases import LeaseTerms, acquire
from activities.notices.delivery import notifier_lease
from activities.notices.news import News
from domain.exits import ExitReason
from tests.integration.test_notices import Service, service
from tests.support.harness import trading_system
from tests.support.intents import market_buy
from tests.support.ledger_rows import ACCOUNT, add_order, add_trade, intent
from tests.support.waiting import eventually
from workers.roles.notices import beside_others
from workers.stack.dev_server import DevServer

__all__ = ["service"]

ALL = ("trade_opened", "trade_closed", "entry_refused")


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


async def collect(pool: Pool, *kinds: str, repeat: float = 600.0, times: int = 1) -> list[tuple[str, str]]:
    """Take the lease, read the news several times and release it. Returns kinds and sentences of the stored news."""
    lease = await acquire(pool, notifier_lease(ACCOUNT), "test", LeaseTerms())
    assert lease is not None
    found = News(pool, ACCOUNT, kinds, repeat_seconds=repeat, look_back_seconds=86_400)
    for _ in range(times):
        await found.collect(lease)
    await lease.release()
    return [tuple(row) for row in await pool.fetch("SELECT kind, sentence FROM incidents ORDER BY id")]


async def close(pool: Pool, key: str) -> None:
    """The trade's row after its close."""
    await pool.execute(
        "UPDATE trades SET sold_size = 1, sold_value = 110, state = 'CLOSED', closed_at = now(), exit_reason = 'TP' "
        "WHERE entry_key = $1",
        key,
    )


async def test_each_trade_is_news_once_whoever_reads_it(pool: Pool) -> None:
    """Opened and closed are stored once over any number of reads and processes; disabled kinds are not."""
    assert await collect(pool, *ALL) == []
    key = await add_trade(pool, "a")
    assert [kind for kind, _ in await collect(pool, "trade_closed", times=2)] == []
    assert [kind for kind, _ in await collect(pool, *ALL, times=3)] == ["trade_opened"]
    await close(pool, key)
    await collect(pool, *ALL, times=2)
    stored = await collect(pool, *ALL, times=2)
    assert [kind for kind, _ in stored] == ["trade_opened", "trade_closed"]
    assert "Net +10 USD" in stored[1][1]
    assert await pool.fetchval("SELECT count(*) FROM incidents WHERE resolved_at IS NULL OR severity <> 'INFO'") == 0


async def test_what_was_before_anybody_asked_is_no_news(pool: Pool) -> None:
    """The first reader of a ledger that has traded for long begins with the present."""
    key = await add_trade(pool, "old")
    await pool.execute("UPDATE trades SET protected_at = now() - interval '2 hours' WHERE entry_key = $1", key)
    assert await collect(pool, *ALL) == []


async def test_nothing_is_lost_while_nobody_reads(pool: Pool) -> None:
    """The next reader begins where the last one ended, however quiet it was before, but not more than a day ago."""
    assert await collect(pool, *ALL) == []
    before, key = await add_trade(pool, "before"), await add_trade(pool, "meanwhile")
    await pool.execute("UPDATE trades SET protected_at = now() - interval '5 hours' WHERE entry_key = $1", before)
    await pool.execute("UPDATE trades SET protected_at = now() - interval '2 hours' WHERE entry_key = $1", key)
    await pool.execute("UPDATE leases SET renewed_at = now() - interval '3 hours'")
    assert [kind for kind, _ in await collect(pool, *ALL, times=2)] == ["trade_opened"]
    assert await pool.fetchval("SELECT subject = $1 FROM incidents", key)
    await pool.execute("DELETE FROM incidents")
    await pool.execute("UPDATE trades SET protected_at = now() - interval '30 hours' WHERE entry_key = $1", key)
    await pool.execute("UPDATE leases SET renewed_at = now() - interval '40 hours'")
    assert [kind for kind, _ in await collect(pool, *ALL)] == ["trade_opened"]
    assert await pool.fetchval("SELECT subject = $1 FROM incidents", before)


async def test_refusals_by_a_limit_are_bundled(pool: Pool) -> None:
    """The first is sent at once, those within the repeat time together afterwards; other gates are not news."""

    async def refuse(number: int, gate: str) -> None:
        wanted = intent(f"r{number}")
        await add_order(pool, wanted, exchange_order_id=f"x-r{number}")
        await pool.execute(
            "UPDATE orders SET gate = $2, gate_sentence = 'too much', received_at = now() WHERE order_key = $1",
            wanted.order_key,
            gate,
        )

    await refuse(1, "SKIP_DAILY_LOSS_LIMIT")
    await refuse(2, "SKIP_NO_SIGNAL")
    assert [kind for kind, _ in await collect(pool, *ALL)] == ["entry_refused"]
    await refuse(3, "SKIP_DAILY_LOSS_LIMIT")
    await refuse(4, "SKIP_DAILY_LOSS_LIMIT")
    assert len(await collect(pool, *ALL)) == 1
    stored = await collect(pool, *ALL, repeat=0.0)
    assert len(stored) == 2
    assert stored[1][1].startswith("2 entries refused by SKIP_DAILY_LOSS_LIMIT (BTC-USD)")


async def test_a_real_trade_is_told_to_an_address(database: str, temporal_server: DevServer, service: Service) -> None:
    """A position that is bought and stopped out is two messages, the second with its result."""
    notices = {"notices": {"urls": [service.url]}}
    async with contextlib.AsyncExitStack() as stack:
        system = await stack.enter_async_context(trading_system(database, temporal_server.address, others=notices))
        await stack.enter_async_context(beside_others(system.settings, system.pool))
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")

        async def opened() -> bool:
            return any(title.endswith(": trade opened") for title in service.titles)

        await eventually(opened, within=30, what="the opened trade is told")
        await system.price("47000")
        outcome = await trade.closed(within=60)
        assert outcome.exit_reason is ExitReason.HARD_STOP

        async def closed() -> str:
            found = [item["message"] for item in service.taken if item["title"].endswith(": trade closed")]
            return found[0] if found else ""

        told = await eventually(closed, within=30, what="the closed trade is told")
        assert told.startswith("HARD_STOP: sold 0.01 BTC-USD")
        assert f"Net {outcome.pnl:.2f}".rstrip("0") in told
