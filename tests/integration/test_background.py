"""Errors of background work that nothing awaits, with a real event loop and a real database."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import structlog

from activities.database import Pool, create_pool
from exchange.background import TaskFault
from tests.support.waiting import eventually
from workers.background import BACKGROUND, FaultIncidents, watch_background

ACCOUNT = "main"


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


async def dropped(error: Exception) -> None:
    """Run a task that raises, and drop it without awaiting it."""

    async def fail() -> None:
        raise error

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    del task
    gc.collect()


def refuse(value: str) -> None:
    """A callback that fails with a secret in its message."""
    raise KeyError(value)


async def test_an_error_that_nobody_awaited_is_counted_logged_and_one_incident(pool: Pool) -> None:
    """Its type and line are reported, once while open; its message, which may be a secret, is reported nowhere."""
    background = watch_background()
    background.tell.append(FaultIncidents(pool, ACCOUNT, "the worker"))
    with structlog.testing.capture_logs() as lines:
        await dropped(ValueError("secret-word"))
        await dropped(ValueError("secret-word"))
        asyncio.get_running_loop().call_soon(refuse, "secret-word")

        async def both() -> bool:
            return int(await pool.fetchval("SELECT count(*) FROM incidents WHERE kind = $1", BACKGROUND)) == 2

        await eventually(both, within=10, what="two incidents")
    rows = await pool.fetch("SELECT subject, severity, sentence FROM incidents ORDER BY subject")
    assert [row["subject"].partition(" in ")[0] for row in rows] == ["KeyError", "ValueError"]
    assert {row["severity"] for row in rows} == {"WARNING"}
    assert __name__ in rows[0]["subject"]
    assert background.counted == {"ValueError": 2, "KeyError": 1}
    assert "background_error" in {line["event"] for line in lines}
    assert "secret-word" not in str([dict(row) for row in rows]) + str(lines)


async def test_that_a_server_is_away_is_no_fault_of_the_program(caplog: pytest.LogCaptureFixture) -> None:
    """A dropped task whose server was unreachable is only logged."""
    background = watch_background()
    told: list[TaskFault] = []
    background.tell.append(told.append)
    await dropped(ConnectionRefusedError("nobody listens"))
    assert told == []
    assert "never retrieved" in caplog.text
