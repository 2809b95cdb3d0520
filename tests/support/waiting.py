"""Waiting for what will be so: look until it is, or say after a deadline what was still missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["SLACK", "eventually"]

SLACK = 4
"""Deadlines are written for a free machine. One that runs other tests beside this one may take so many times longer;
what comes in time costs nothing by it, and a promise in seconds is measured where it is made.
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
