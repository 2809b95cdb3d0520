"""What a worker has Temporal take once, at its start: asked again while Temporal is slow, restarting or away.

Everything asked so may be asked twice: a workflow that runs is left running, a schedule that is there is brought up to
date.
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
"""What passes by itself. Anything else would be answered the same way again."""

_TRIES = 6
_PAUSE_SECONDS = 0.5
_log = structlog.get_logger(__name__)


async def until_taken(
    what: str, ask: Callable[[], Awaitable[None]], *, tries: int = _TRIES, pause: float = _PAUSE_SECONDS
) -> None:
    """Do `ask` until Temporal has taken it, `tries` times at most, after a pause (wall seconds) that doubles.

    `what` is asked for, as in "Temporal did not take the schedules". Raises UnreachableError(NO_TEMPORAL) when it was
    transient trouble each time, and RPCError at once for any other.
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
                    f"Temporal did not take {what} in {tries} tries within {time.monotonic() - began:.0f} s (the last "
                    f"answer: {problem.message}): see whether it runs and is not overloaded, then start the worker "
                    "again.",
                ) from problem
            _log.warning("not taken by Temporal yet, asked again", what=what, tries=number, problem=problem.message)
            await asyncio.sleep(pause * 2 ** (number - 1))
        else:
            return
