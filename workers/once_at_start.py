"""Requests a worker makes once at its start, repeated while Temporal is slow, restarting or unreachable.

All of them are idempotent: a running workflow is not changed, an existing schedule is updated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from temporalio.service import RPCError, RPCStatusCode

from workers.errors import UnreachableError

__all__ = ["TRANSIENT", "until_taken"]

TRANSIENT = frozenset(
    {
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.CANCELLED,  # the client's own limit to a call says this: "Timeout expired"
        RPCStatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Transient errors. Any other would be returned again."""

_TRIES = 6
_PAUSE_SECONDS = 0.5
_log = structlog.get_logger(__name__)


async def until_taken(
    what: str, ask: Callable[[], Awaitable[None]], *, tries: int = _TRIES, pause: float = _PAUSE_SECONDS
) -> None:
    """Call `ask` until Temporal has accepted it, at most `tries` times, with a pause (wall seconds) that doubles.

    `what` names the request, as in "Temporal did not accept the schedules". Raises UnreachableError(NO_TEMPORAL) after
    transient errors only, and RPCError at once for any other.
    """
    began = time.monotonic()
    for number in range(1, tries + 1):
        try:
            await ask()
        except RPCError as problem:
            if problem.status not in TRANSIENT:
                raise
            if number == tries:
                raise UnreachableError(
                    "NO_TEMPORAL",
                    f"Temporal did not accept {what} in {tries} tries within {time.monotonic() - began:.0f} s (last "
                    f"answer: {problem.message}): check that it is running and not overloaded, then start the worker "
                    f"again.",
                ) from problem
            _log.warning("not accepted by Temporal yet, retrying", what=what, tries=number, problem=problem.message)
            await asyncio.sleep(pause * 2 ** (number - 1))
        else:
            return
