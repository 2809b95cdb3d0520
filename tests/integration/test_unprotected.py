"""How long positions had no watcher, measured with a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.exits.price_watcher import watcher_lease
from activities.exits.unprotected import UNPROTECTED, UnprotectedTime
from activities.leases import LeaseTerms, acquire
from activities.measures import Measures
from exchange.port import Unavailable
from tests.support.ledger_rows import ACCOUNT, add_trade
from workers.roles.notices import ask_watchers

NAME = watcher_lease(ACCOUNT, 0)
TERMS = LeaseTerms(seconds=6.0, renew_seconds=1.5)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


async def _right() -> datetime:
    return datetime.now(UTC)


async def tenure(
    pool: Pool,
    *keys: str,
    late: float = 0.0,
    from_the_start: bool = False,
    server_time: Callable[[], Awaitable[datetime]] = _right,
) -> None:
    """A watcher takes the lease, holds the plans `late` seconds after now, measures, and releases the lease."""
    lease = await acquire(pool, NAME, "test", TERMS)
    assert lease is not None
    time = UnprotectedTime(pool, ACCOUNT, lease, after_seconds=15.0, server_time=server_time)
    for key in keys:
        time.held(key, datetime.now(UTC) + timedelta(seconds=late), from_the_start=from_the_start)
    await time.measure()
    await time.measure()
    await lease.release()


async def seconds(pool: Pool, key: str) -> float:
    """The stored seconds of a trade."""
    return float(await pool.fetchval("SELECT unprotected_seconds FROM trades WHERE entry_key = $1", key))


async def test_from_the_first_fill_to_a_held_plan(pool: Pool) -> None:
    """The span since the exchange filled the entry is stored once, and a long one is an incident."""
    key, quick = await add_trade(pool, "a"), await add_trade(pool, "b")
    await pool.execute("UPDATE trades SET opened_at = now() - interval '20 s' WHERE entry_key = $1", key)
    await pool.execute("UPDATE trades SET opened_at = now() WHERE entry_key = $1", quick)
    await tenure(pool, key, quick)
    await tenure(pool, key, quick, late=60)
    assert 19.5 < await seconds(pool, key) < 23
    assert await seconds(pool, quick) < 3
    (row,) = await pool.fetch("SELECT * FROM incidents")
    assert (row["kind"], row["severity"], row["subject"]) == (UNPROTECTED, "WARNING", NAME)
    assert row["resolved_at"] is not None, "it is watched again, so it is over"
    assert list(row["details"]["seconds"]) == [key]


@pytest.mark.parametrize("ahead", [120.0, -120.0])
async def test_a_fill_is_timed_by_the_exchanges_clock(pool: Pool, ahead: float) -> None:
    """A wrong clock neither adds nor hides unwatched time."""

    async def server_time() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=ahead)

    quick, late = await add_trade(pool, "a"), await add_trade(pool, "b")
    opened = "UPDATE trades SET opened_at = now() + make_interval(secs => $2) WHERE entry_key = $1"
    await pool.execute(opened, quick, ahead)
    await pool.execute(opened, late, ahead - 20)
    await tenure(pool, quick, late, server_time=server_time)
    assert await seconds(pool, quick) < 3
    assert 19.5 < await seconds(pool, late) < 23


async def test_an_exchange_that_does_not_tell_its_time_hides_nothing(pool: Pool) -> None:
    """Without an answer the measurement waits for a few attempts, and is then made by our clock."""

    async def server_time() -> datetime:
        raise Unavailable("no")

    key = await add_trade(pool, "a")
    await pool.execute("UPDATE trades SET opened_at = now() - interval '20 s'")
    lease = await acquire(pool, NAME, "test", TERMS)
    assert lease is not None
    time = UnprotectedTime(pool, ACCOUNT, lease, after_seconds=15.0, server_time=server_time)
    time.held(key, datetime.now(UTC))
    await time.measure()
    assert await seconds(pool, key) == 0
    for _ in range(5):
        await time.measure()
    assert 19.5 < await seconds(pool, key) < 23


async def test_each_span_is_told_once(pool: Pool) -> None:
    """Whoever measures hears of each unwatched span, in the seconds that are stored, and of none twice."""
    told: list[float] = []

    class Heard(Measures):
        def unprotected(self, seconds: float) -> None:
            told.append(seconds)

    key = await add_trade(pool, "a")
    await pool.execute("UPDATE trades SET opened_at = now() - interval '20 s'")
    lease = await acquire(pool, NAME, "test", TERMS)
    assert lease is not None
    time = UnprotectedTime(pool, ACCOUNT, lease, after_seconds=15.0, server_time=_right, measures=Heard())
    for _ in range(2):
        time.held(key, datetime.now(UTC))
        await time.measure()
        await time.measure()
    assert told == [await seconds(pool, key)]


async def test_between_two_tenures_of_the_lease(pool: Pool) -> None:
    """The time from an earlier watcher's last heartbeat to the next one's first check is added."""
    key = await add_trade(pool, "a")
    await pool.execute("UPDATE trades SET opened_at = now()")
    await tenure(pool, key)
    before = await seconds(pool, key)
    await pool.execute("UPDATE leases SET renewed_at = now() - interval '30 s', expires_at = now() - interval '24 s'")
    await pool.execute("UPDATE trades SET watched_at = now() - interval '50 s'")
    await tenure(pool, key, from_the_start=True)
    assert 29.5 < await seconds(pool, key) - before < 33
    await tenure(pool, key, from_the_start=True)
    assert await seconds(pool, key) - before < 36
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 1


async def test_a_watcher_that_lost_its_lease_writes_nothing(pool: Pool) -> None:
    """A stalled predecessor's measurement is refused by its epoch."""
    key = await add_trade(pool, "a")
    await pool.execute("UPDATE trades SET opened_at = now() - interval '20 s'")
    lease = await acquire(pool, NAME, "stalled", TERMS)
    assert lease is not None
    await pool.execute("UPDATE leases SET expires_at = now()")
    assert await acquire(pool, NAME, "next", TERMS) is not None
    stalled = UnprotectedTime(pool, ACCOUNT, lease, after_seconds=15.0, server_time=_right)
    stalled.held(key, datetime.now(UTC))
    await stalled.measure()
    assert await seconds(pool, key) == 0


async def test_an_open_position_that_nobody_watches_is_missed_while_it_is_so(pool: Pool) -> None:
    """The check finds a product with an open plan whose shard has no watcher, and nothing else."""
    await ask_watchers(pool, ACCOUNT, 1)
    await add_trade(pool, "a")
    with pytest.raises(LookupError, match="the price of BTC-USD is not watched"):
        await ask_watchers(pool, ACCOUNT, 1)
    lease = await acquire(pool, NAME, "test", TERMS)
    assert lease is not None
    await ask_watchers(pool, ACCOUNT, 1)
