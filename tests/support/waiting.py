"""Waiting for what will be so: look until it is, or say after a deadline what was still missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["eventually"]

Found = TypeVar("Found")


async def eventually(
    condition: Callable[[], Awaitable[Found | None]], *, within: float = 45.0, what: str = "", every: float = 0.02
) -> Found:
    """The condition's first true answer. Seconds of wall time; raises AssertionError with the last answer."""
    deadline = time.monotonic() + within
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or condition} (last answer: {answer!r})")
        await asyncio.sleep(every)
