"""A stream's lease: the next holder continues where the previous one stopped, and leaves nothing running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.leases import LeaseLostError, LeaseTerms, acquire, hold
from activities.streams.tenure import tenure_of
from tests.support.fake_exchange import FakeExchange
from tests.support.waiting import eventually

ACCOUNT, NAME = "main", "a stream"
LONG = LeaseTerms(seconds=60, renew_seconds=10, wait_seconds=0.02)
SHORT = LeaseTerms(seconds=0.6, renew_seconds=0.15, wait_seconds=0.02)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new database."""
    opened = await create_pool(database)
    yield opened
    await opened.close()


def quiet(_: Any = None) -> None:
    """A heartbeat without a receiver."""


async def test_the_next_holder_goes_on_where_the_last_one_stood(pool: Pool) -> None:
    """Counts of the stream's row continue, under a greater epoch."""
    async with tenure_of(NAME, pool, FakeExchange(), ACCOUNT, LONG, quiet) as first:
        first.position.connections, first.position.gaps = 3, 1
        await first.save_position()
    async with tenure_of(NAME, pool, FakeExchange(), ACCOUNT, LONG, quiet) as second:
        assert (second.position.connections, second.position.gaps) == (3, 1)
        assert second.lease.epoch > first.lease.epoch


async def test_nothing_in_the_background_outlives_the_lease(pool: Pool) -> None:
    """Background work is stopped while the lease is still held, so a successor never runs at the same time."""
    seen: list[bool] = []
    begun = asyncio.Event()

    async def work(name: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(await acquire(pool, name, "somebody else", LONG) is None)

    async with tenure_of(NAME, pool, FakeExchange(), ACCOUNT, LONG, quiet) as tenure:
        tenure.background.start(work(NAME))
        await begun.wait()
    assert seen == [True]
    assert await acquire(pool, NAME, "somebody else", LONG) is not None


async def test_a_lost_lease_ends_the_tenure_and_its_background(pool: Pool) -> None:
    """When another holder has the lease, the body and its background work stop, and the error says so."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def tenure() -> None:
        async with tenure_of(NAME, pool, FakeExchange(), ACCOUNT, SHORT, quiet) as held:
            held.background.start(work())
            await pool.execute("UPDATE leases SET epoch = epoch + 1 WHERE name = $1", NAME)
            await asyncio.Event().wait()

    with pytest.raises(LeaseLostError):
        await tenure()
    assert ended.is_set()


async def test_heartbeats_say_what_is_waited_for_and_then_where_the_stream_stands(pool: Pool) -> None:
    """A waiting process names the lease; the holder reports its epoch, its position and its own counts."""
    beats: list[dict[str, Any]] = []

    async def waiting() -> None:
        async with tenure_of(NAME, pool, FakeExchange(), ACCOUNT, LONG, beats.append) as held:
            held.position.gaps = 2
            await held.beat(lambda: {"orders": 7}, seconds=0.02)

    async def said(key: str) -> bool:
        return any(key in beat for beat in beats)

    async with hold(pool, NAME, "the first", LONG) as first:
        task = asyncio.create_task(waiting())
        await eventually(lambda: said("waiting_for"), within=10, what="a heartbeat of who waits")
        assert not await said("epoch")
    await eventually(lambda: said("epoch"), within=10, what="a heartbeat of who holds")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    last = beats[-1]
    assert (beats[0], last["gaps"], last["orders"]) == ({"waiting_for": NAME}, 2, 7)
    assert last["epoch"] > first.epoch
