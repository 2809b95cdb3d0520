"""Library errors as sentences that a person can act on.

Their own texts are not shown: they contain addresses, names and sometimes passwords from the settings (SAFE-5).
"""

import errno
import os
import socket
import sys
import tempfile
import traceback
from pathlib import Path

from workers.errors import ExitCode, UnreachableError, UserError

__all__ = ["as_user_error", "reason_of"]

_DATABASE_HELP = "start the local stack with `bottrader up`, or check DATABASE_URL"
_TEMPORAL_HELP = "start the local stack with `bottrader up`, or check TEMPORAL_ADDRESS"

_NO_WAY_THERE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_WRITES = {"25006": "it is read-only", "53100": "its disk is full"}
"""By SQLSTATE."""


def as_user_error(error: BaseException) -> UserError:
    """The UserError for `error` or its cause.

    An unexpected error becomes a FAULT that names the file with the details.
    """
    for cause in _chain(error):
        if isinstance(cause, UserError):
            return cause
        found = _database(cause) or _keys(cause) or _temporal(cause) or _network(cause)
        if found is not None:
            return found
    return _fault(error)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        cause = pending.pop(0)
        if cause is None or cause in chain:
            continue
        chain.append(cause)
        if isinstance(cause, BaseExceptionGroup):
            pending.extend(cause.exceptions)
        pending.extend([cause.__cause__, cause.__context__, getattr(cause, "orig", None)])
    return chain


def _module(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _database(error: BaseException) -> UserError | None:
    """Recognised by class name, so that no command has to import libraries it does not use."""
    if _module(error) != "asyncpg":
        return None
    state = getattr(error, "sqlstate", None) or ""
    if not state and _lost(error):
        return UnreachableError(
            "NO_DATABASE", f"The connection to the database was lost: {_DATABASE_HELP}, then try again."
        )
    if state == "42P01":
        return UserError(
            "NOT_MIGRATED", "The database has no BotTrader tables yet, or old ones: run `bottrader db upgrade`."
        )
    if state == "3D000":
        return UnreachableError("NO_DATABASE", f"The database does not exist: create it, or {_DATABASE_HELP}.")
    if state.startswith("28"):
        return UnreachableError("DATABASE_LOGIN", "The database refused the login: check DATABASE_URL.")
    if state in _NO_WRITES:
        return UnreachableError(
            "DATABASE_READ_ONLY",
            f"The database accepts no writes ({_NO_WRITES[state]}), so nothing was changed: free space on its disk, "
            f"or find out why it is read-only, then try again.",
        )
    if state.startswith(("08", "53", "57")):
        return UnreachableError(
            "NO_DATABASE", f"The database refused the request ({type(error).__name__}): {_DATABASE_HELP}."
        )
    return None


def _lost(error: BaseException) -> bool:
    """Whether asyncpg reports a lost connection; wrong use is an InterfaceError too."""
    kind = type(error).__name__
    return kind == "InternalClientError" or (kind == "InterfaceError" and "clos" in str(error))


def _keys(error: BaseException) -> UserError | None:
    if type(error).__name__ == "ApiKeyError" and _module(error) == "exchange":
        return UserError("BAD_KEY", f"The exchange's API key can't be used: {error}.")
    return None


def _temporal(error: BaseException) -> UserError | None:
    text = str(error)
    if isinstance(error, RuntimeError) and text.startswith("Failed client connect"):
        return UnreachableError("NO_TEMPORAL", f"Temporal does not answer: {_TEMPORAL_HELP}.")
    if type(error).__name__ == "RPCError" and _module(error) == "temporalio":
        status = getattr(getattr(error, "status", None), "name", "")
        if status in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
            return UnreachableError("NO_TEMPORAL", f"Temporal does not answer ({status}): {_TEMPORAL_HELP}.")
        if status == "NOT_FOUND":
            if "amespace" in text:
                return UserError("NOT_FOUND", "Temporal has no such namespace: check temporal.namespace.", ExitCode.NO)
            return UserError("NOT_FOUND", f"There is no such workflow or namespace ({text}).", ExitCode.NO)
    return None


def _network(error: BaseException) -> UserError | None:
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.EADDRINUSE:
        return UnreachableError(
            "PORT_IN_USE",
            f"A port is in use ({reason_of(error)}): stop the program that listens there or choose another port.",
        )
    if ".s.PGSQL." in str(error) or any(
        "asyncpg" in frame.filename for frame in traceback.extract_tb(error.__traceback__)
    ):
        return UnreachableError("NO_DATABASE", f"The database does not answer ({reason_of(error)}): {_DATABASE_HELP}.")
    if isinstance(error, FileNotFoundError) and error.filename:
        return UserError("NO_FILE", f"{error.filename}: there is no such file.")
    if isinstance(error, PermissionError) and error.filename:
        return UserError("NO_PERMISSION", f"{error.filename}: permission denied.")
    if error.errno in _FULL:
        return UnreachableError(
            "NO_SPACE", f"The file can't be written ({reason_of(error)}) and is incomplete: free some space."
        )
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or error.errno in _NO_WAY_THERE:
        return UnreachableError("NO_ANSWER", f"A server does not answer ({reason_of(error)}): see `bottrader doctor`.")
    return None


def reason_of(error: OSError) -> str:
    """The operating system's reason, without the address or name."""
    if isinstance(error, socket.gaierror):
        return "its host name can't be resolved"
    if type(error).__module__ == "ssl" or not error.errno:
        return type(error).__name__
    return os.strerror(error.errno)


def _fault(error: BaseException) -> UserError:
    from activities.secret_values import without_secrets
    from workers.settings.problems import is_plain_name

    text = without_secrets("".join(traceback.format_exception(error)))
    typed = [part if is_plain_name(part.lstrip("-")) else "…" for part in sys.argv[1:]]
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="bottrader-fault-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(f"{typed}\n{text}")
        where = str(Path(file.name))
    except OSError:
        where = "nowhere: no file could be written"
    kind = type(error).__name__
    return UserError("FAULT", f"Internal error ({kind}); details are in {where}.", ExitCode.FAULT)
