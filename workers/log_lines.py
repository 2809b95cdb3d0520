"""Log filters: no secrets from the settings, and for an unreachable server one line instead of a library's traceback.

Tracebacks show lines of code and never values. Only errors about an unreachable server or lost connection are
shortened. An unexpected error keeps its traceback.
"""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

import asyncpg
import structlog
from temporalio.service import RPCError

from activities.leases import LeaseLostError
from activities.secret_values import without_secrets
from workers.once_at_start import TRANSIENT

__all__ = ["logs_without_secrets", "one_line_for_servers_away", "only_away"]

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
        if error is not None and only_away(error):
            first, _, _ = record.getMessage().partition("\n")
            record.msg, record.args = "%s: %r", (first, error)
            record.exc_info = record.exc_text = None
        return True


_FILTER = _OneLine()


class _WithoutSecrets(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _last(_logger: Any, _method: str, line: Any) -> Any:
    return without_secrets(line) if isinstance(line, str) else line


def logs_without_secrets() -> None:
    """Remove secrets from this process's log lines from now on, ours and those of libraries. Idempotent."""
    processors = [
        each
        for each in structlog.get_config()["processors"]
        if not isinstance(each, structlog.dev.ConsoleRenderer) and each is not _last
    ]
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*processors, renderer, _last])
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_WithoutSecrets())
    for handler in logging.getLogger().handlers:
        if handler.formatter is None:
            handler.setFormatter(_WithoutSecrets())


def one_line_for_servers_away() -> None:
    """Shorten such errors in this process from now on. Idempotent."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


def only_away(error: BaseException) -> bool:
    """Whether the error only means that a server was unreachable or a connection was lost."""
    if isinstance(error, RPCError):
        return error.status in TRANSIENT
    if isinstance(error, asyncpg.InterfaceError):  # that we used a connection wrongly is one, too
        return "clos" in str(error)
    return isinstance(error, _AWAY) or (isinstance(error, OSError) and ".s.PGSQL." in str(error))
