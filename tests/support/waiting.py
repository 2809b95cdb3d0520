"""Waiting for a condition: poll until it is true, or report after a deadline what was still missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["SLACK", "eventually"]

SLACK = 4
"""Deadlines are written for a free machine. While other tests run beside this one, they are this many times longer; a
condition that is met in time costs nothing, and promises in seconds are measured elsewhere.
"""

Found = TypeVar("Found")


async def eventually(
    condition: Callable[[], Awaitable[Found | None]], *, within: float = 45.0, what: str = "", every: float = 0.02
) -> Found:
    """The condition's first true answer. `within` is in seconds of a free machine; raises AssertionError with the last
    answer.
    """
    deadline = time.monotonic() + SLACK * within
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {SLACK} × {within:g} s: {what or condition} (last answer: {answer!r})")
        await asyncio.sleep(every)
