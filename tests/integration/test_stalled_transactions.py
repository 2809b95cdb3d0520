"""A process stopped in a transaction (SIGSTOP, a dead machine) does not block the others."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import asyncpg
import pytest
import pytest_asyncio

from activities import database as own
from activities.database import (
    Pool,
    account_transaction,
    bounded_transaction,
    create_pool,
    lock_symbol,
    symbol_transaction,
    write_many,
)
from activities.leases import DATABASE_TROUBLE

Transaction = contextlib.AbstractAsyncContextManager[own.Connection]
ACCOUNT, SYMBOL = "main", "BTC-USD"
LIMIT = 0.4


@pytest_asyncio.fixture
async def pool(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """A pool on a new ledger, with a short limit."""
    monkeypatch.setattr(own, "STALLED_MS", int(LIMIT * 1000))
    found = await create_pool(database)
    yield found
    await found.close()


@contextlib.asynccontextmanager
async def waited() -> AsyncIterator[list[float]]:
    """How many seconds the block took."""
    began, seconds = time.monotonic(), list[float]()
    yield seconds
    seconds.append(time.monotonic() - began)


async def _until_free(locked: Callable[[], Transaction]) -> None:
    """Take the lock and release it, as soon as possible."""
    while True:
        with contextlib.suppress(asyncpg.LockNotAvailableError):
            async with locked():
                return


@pytest.mark.parametrize("of_symbol", [False, True])
async def test_a_lock_is_free_again_soon(pool: Pool, of_symbol: bool) -> None:
    """An idle holder of the lock loses it with its transaction, and can write nothing afterwards."""

    def locked() -> Transaction:
        return symbol_transaction(pool, ACCOUNT, SYMBOL) if of_symbol else account_transaction(pool, ACCOUNT)

    async def stall_and_write() -> None:
        async with locked() as stalled:
            await asyncio.wait_for(_until_free(locked), 5)
            await stalled.execute("INSERT INTO account_controls (account) VALUES ('stalled')")

    async with waited() as seconds:
        with pytest.raises(DATABASE_TROUBLE):
            await stall_and_write()
    assert seconds[0] < 4 * LIMIT
    assert await pool.fetchval("SELECT count(*) FROM account_controls WHERE account = 'stalled'") == 0


async def test_a_queue_of_one_that_stands_still_does_not_get_its_turns(pool: Pool, database: str) -> None:
    """Five stopped transactions that wait for the lock give up together, not one after the other."""
    holder, *waiting = [await asyncpg.connect(database) for _ in range(6)]
    try:
        for connection in (holder, *waiting):
            await connection.execute("BEGIN")
        await lock_symbol(holder, ACCOUNT, SYMBOL)
        async with waited() as seconds:
            queue = [asyncio.create_task(lock_symbol(connection, ACCOUNT, SYMBOL)) for connection in waiting]
            await asyncio.wait_for(_until_free(lambda: symbol_transaction(pool, ACCOUNT, SYMBOL)), 5)
        assert seconds[0] < 4 * LIMIT
        found = await asyncio.gather(*queue, return_exceptions=True)
        assert sum(isinstance(each, asyncpg.LockNotAvailableError) for each in found) >= 3
    finally:
        for connection in (holder, *waiting):
            connection.terminate()


async def test_long_work_keeps_its_lock_and_leaves_no_limit_behind(pool: Pool) -> None:
    """A repair that computes for long keeps its transaction; the connection's next transaction has no limit."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            await lock_symbol(connection, ACCOUNT, SYMBOL, long=True)
            with pytest.raises(asyncpg.LockNotAvailableError):
                async with symbol_transaction(pool, ACCOUNT, SYMBOL):
                    pass
            assert await connection.fetchval("SELECT 1") == 1
        async with connection.transaction():
            await lock_symbol(connection, ACCOUNT, SYMBOL)
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
        assert await connection.fetchval("SHOW lock_timeout") == "0"


async def test_many_rows_are_no_way_to_keep_a_lock(pool: Pool, database: str) -> None:
    """A process stopped while it writes many rows loses them, and the others continue soon."""
    insert = "INSERT INTO account_controls (account, reason) VALUES ($1, $2)"
    seconds: list[float] = []

    async def others() -> None:
        connection = await asyncpg.connect(database, command_timeout=20)
        began = time.monotonic()
        await connection.execute(insert, "row 0", "somebody else's")
        seconds.append(time.monotonic() - began)
        await connection.close()

    def rows() -> Iterator[tuple[str, str]]:
        for number in range(20):
            if number == 15:
                # This process is stopped until others have got the row that it has written.
                thread = threading.Thread(target=lambda: asyncio.run(others()))
                thread.start()
                thread.join()
            yield f"row {number}", "x" * 10_000

    async def write() -> None:
        async with bounded_transaction(pool) as connection:
            await write_many(connection, insert, rows())

    with pytest.raises(DATABASE_TROUBLE):
        await write()
    assert 0 < seconds[0] < 4 * LIMIT
    assert await pool.fetchval("SELECT count(*) FROM account_controls") == 1
