"""Errors of background work that nothing awaits: a dropped task, a callback that raised (HER-7).

Python reports them to the event loop, which by default only logs them. Each process installs a handler that counts them
and calls a listener. An error's message may hold anything, so only its type and the line of code are reported. The
module is in this room because the paper exchange, which imports nothing above it, needs it too.
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
    """An error that nothing awaited: its type's name, and the module and line that raised it."""

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.where}"


class Background:
    """The handling of such errors in an event loop.

    Args:
        passing: whether an error only means that a server is unreachable, which is reported elsewhere.
    """

    def __init__(self, passing: Callable[[BaseException], bool] = lambda _: False) -> None:
        self._passing = passing
        self.counted: Counter[str] = Counter()
        """Counts by the error's type."""
        self.tell: list[Callable[[TaskFault], None]] = []
        """Called with each error, in any thread: a dropped task is found by the garbage collector, which runs in any of
        them."""

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Install the handler in `loop`."""
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
