"""An unreachable server doesn't fill logs with tracebacks; an internal error has one."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest
from temporalio.service import RPCError, RPCStatusCode

from workers.log_lines import one_line_for_servers_away


@pytest.fixture(autouse=True)
def _short() -> None:
    one_line_for_servers_away()


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        FileNotFoundError(2, "No such file", "/data/postgres/.s.PGSQL.5432"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        RPCError("Timeout expired", RPCStatusCode.CANCELLED, b""),
    ],
)
async def test_a_future_that_nobody_looked_at_is_one_line(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The error of a driver's unawaited future after its server was lost is logged without internals."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    future.set_exception(error)
    del future
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert logging.Formatter().format(record) == f"Future exception was never retrieved: {error!r}"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault"),
        asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
        FileNotFoundError(2, "No such file", "dip.py"),
        RPCError("no", RPCStatusCode.PERMISSION_DENIED, b""),
    ],
)
@pytest.mark.parametrize("name", ["asyncio", "asyncpg.pool", "temporalio.activity"])
def test_what_nobody_foresaw_keeps_its_traceback(name: str, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """An internal error's place is logged for whoever repairs it."""
    try:
        raise error
    except type(error):
        logging.getLogger(name).warning("Completing activity as failed", exc_info=True)
    (record,) = caplog.records
    assert "Traceback" in logging.Formatter().format(record)
