"""What libraries log of a server that is away: one line each, as ours is, instead of a traceback of theirs.

Only errors that say that a server, or the connection to it, was not there are made short. A fault that nobody foresaw
keeps its traceback.
"""

from __future__ import annotations

import logging
import socket

import asyncpg
from temporalio.service import RPCError

from activities.leases import LeaseLostError
from workers.once_at_start import TRANSIENT

__all__ = ["one_line_for_servers_away"]

_LOGGERS = ("asyncio", "asyncpg.pool", "temporalio.activity")
_AWAY = (
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # a statement on a connection whose end has been announced but not noticed yet
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    LeaseLostError,
)


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _away(error):
            first, _, _ = record.getMessage().partition("\n")
            record.msg, record.args = "%s: %r", (first, error)
            record.exc_info = record.exc_text = None
        return True


_FILTER = _OneLine()


def one_line_for_servers_away() -> None:
    """Have it so in this process from now on. May be called again."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


def _away(error: BaseException) -> bool:
    if isinstance(error, RPCError):
        return error.status in TRANSIENT
    if isinstance(error, asyncpg.InterfaceError):  # that we used a connection wrongly is one, too
        return "clos" in str(error)
    return isinstance(error, _AWAY) or (isinstance(error, OSError) and ".s.PGSQL." in str(error))
