"""Leases with a real PostgreSQL: one holder at a time, and no writes by a former holder."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.leases import HELD, LeaseLostError, LeaseTerms, acquire, hold
from tests.support.waiting import SLACK, eventually

SHORT = LeaseTerms(seconds=0.6, renew_seconds=0.15, wait_seconds=0.02)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new database."""
    opened = await create_pool(database)
    yield opened
    await opened.close()


async def write(pool: Pool, name: str, epoch: int) -> bool:
    """A holder's write: True if it was done."""
    sql = "INSERT INTO fee_rates (account, maker, taker) SELECT $3, 0, 0 WHERE " + HELD + " ON CONFLICT DO NOTHING"
    return str(await pool.execute(sql, name, epoch, f"{name}/{epoch}/{time.monotonic_ns()}")) == "INSERT 0 1"


async def test_only_one_of_many_gets_the_lease(pool: Pool) -> None:
    """Of twenty concurrent requests exactly one gets the lease."""
    leases = await asyncio.gather(*(acquire(pool, "stream", f"holder {n}", SHORT) for n in range(20)))
    assert sum(lease is not None for lease in leases) == 1


async def test_a_released_lease_is_taken_over_at_once_with_a_greater_epoch(pool: Pool) -> None:
    """After a release the next one needn't wait for the end of the lease, and epochs only grow."""
    long = LeaseTerms(seconds=60, renew_seconds=10, wait_seconds=0.02)
    async with hold(pool, "stream", "first", long) as first:
        assert await acquire(pool, "stream", "second", long) is None
    started = time.monotonic()
    async with hold(pool, "stream", "second", long) as second:
        assert second.epoch > first.epoch
    assert time.monotonic() - started < 1


async def test_a_stalled_holder_writes_nothing_after_its_successor_took_over(pool: Pool) -> None:
    """A holder that did not renew is refused by the database itself, and knows it by its own clock."""
    stalled = await acquire(pool, "stream", "stalled", SHORT)
    assert stalled is not None
    assert await write(pool, "stream", stalled.epoch)
    async with hold(pool, "stream", "successor", SHORT) as successor:
        assert not stalled.held
        assert not await write(pool, "stream", stalled.epoch)
        assert await write(pool, "stream", successor.epoch)
        with pytest.raises(LeaseLostError):
            await stalled.renew()
        await stalled.release()
        assert await write(pool, "stream", successor.epoch), "a stalled holder's release is not the successor's"


async def test_a_renewed_lease_is_kept_beyond_its_length(pool: Pool) -> None:
    """While its holder renews it, nobody else gets it."""
    async with hold(pool, "stream", "first", SHORT) as lease:
        until = time.monotonic() + SHORT.seconds * 2
        while time.monotonic() < until:
            assert await acquire(pool, "stream", "second", SHORT) is None
            assert lease.held
            await asyncio.sleep(0.05)


async def hold_until_lost(pool: Pool, break_it: str) -> None:
    """Hold the lease, break it with a statement, and stay for up to five seconds."""
    async with hold(pool, "stream", "first", SHORT):
        await pool.execute(break_it)
        await asyncio.wait_for(asyncio.Event().wait(), 5)


async def test_the_body_is_stopped_when_the_lease_is_lost(pool: Pool) -> None:
    """A holder that loses the lease is interrupted within the lease's length."""
    with pytest.raises(LeaseLostError):
        await hold_until_lost(pool, "UPDATE leases SET epoch = epoch + 1, holder = 'thief' WHERE name = 'stream'")


async def test_the_body_is_stopped_when_the_database_is_gone(pool: Pool) -> None:
    """Without a database to renew in, the holder stops when its own clock says that the lease has expired."""
    started = time.monotonic()
    with pytest.raises(LeaseLostError):
        await hold_until_lost(pool, "ALTER TABLE leases RENAME TO leases_gone")
    assert time.monotonic() - started < SHORT.seconds + 1


_WRITER = """
import asyncio, sys
from activities.database import create_pool
from activities.leases import LeaseTerms, hold

async def main():
    pool = await create_pool(sys.argv[1])
    async with hold(pool, "stream", "child", LeaseTerms(seconds=0.6, renew_seconds=0.15, wait_seconds=0.02)) as lease:
        while True:
            await pool.execute(sys.argv[2], lease.name, lease.epoch)
            await asyncio.sleep(0.005)

asyncio.run(main())
"""
_WRITE = "INSERT INTO raw_facts (account, source, kind, body, epoch) SELECT 'a', 't', 'order', '{}', $2 WHERE " + HELD


async def test_a_stopped_process_writes_nothing_after_it_wakes(pool: Pool, database: str) -> None:
    """A holder that was stopped (SIGSTOP) past its lease finds, when it continues, that its writes do nothing, and
    ends."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WRITER, database, _WRITE),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    count = "SELECT count(*) FROM raw_facts WHERE epoch = 1"

    async def writes() -> bool:
        return bool(await pool.fetchval(count) >= 5)

    try:
        await eventually(writes)
        child.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        async with hold(pool, "stream", "successor", SHORT) as successor:
            assert time.monotonic() - started < SHORT.seconds + 1
            written = await pool.fetchval(count)
            child.send_signal(signal.SIGCONT)
            _, errors = await asyncio.wait_for(child.communicate(), SLACK * 20)
            assert await write(pool, "stream", successor.epoch)
        assert b"LeaseLostError" in errors
        assert await pool.fetchval(count) == written
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
