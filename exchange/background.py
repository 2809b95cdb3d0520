"""Errors of background work that nobody awaited: a task that was dropped, a callback that raised (HER-7).

Python tells the event loop of them, and by default they are a line in a log that nobody reads. Each process has its
loop count them and tell who asked. A message may hold anything, so what is told is the error's type and the line of
code, never what it says. It stands in this room because the paper exchange, which imports nothing above, needs it too.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

__all__ = ["Background", "TaskFault"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TaskFault:
    """An error that nobody awaited: its type's name, and the module and line that raised it."""

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.where}"


class Background:
    """What an event loop does with such errors.

    Args:
        passing: whether an error only says that a server is away, which is told otherwise.
    """

    def __init__(self, passing: Callable[[BaseException], bool] = lambda _: False) -> None:
        self._passing = passing
        self.counted: Counter[str] = Counter()
        """By the error's type."""
        self.tell: list[Callable[[TaskFault], None]] = []
        """Called with each, in any thread, as an unused task may be found by the garbage collector of any."""

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `loop` do so from now on."""
        loop.set_exception_handler(self._handle)

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or self._passing(error):
            loop.default_exception_handler(context)
            return
        fault = TaskFault(type(error).__name__, _where(error))
        self.counted[fault.kind] += 1
        lines = "".join(traceback.format_tb(error.__traceback__))
        # The loop's own message shows a callback's arguments.
        what = "task" if context.get("task") or context.get("future") else "callback"
        _log.error("background_error", kind=fault.kind, where=fault.where, what=what, trace=lines)
        for tell in self.tell:
            tell(fault)


def _where(error: BaseException) -> str:
    """Module and line of the innermost frame."""
    found = "an unknown place"
    for frame, line in traceback.walk_tb(error.__traceback__):
        found = f"{frame.f_globals.get('__name__', '?')}:{line}"
    return found
