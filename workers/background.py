"""Errors of background work that nobody awaited, as incidents and as a metric (HER-7)."""

from __future__ import annotations

import asyncio
import time

import structlog

from activities.database import Pool
from activities.incidents import report_once
from activities.leases import DATABASE_TROUBLE
from domain.incidents import IncidentKind
from exchange.background import Background, TaskFault
from workers.log_lines import only_away

__all__ = ["BACKGROUND", "FaultIncidents", "watch_background"]

_log = structlog.get_logger(__name__)

BACKGROUND = IncidentKind.BACKGROUND_ERROR
_AGAIN_SECONDS = 600.0
"""The same error from the same line is asked about no more often (wall)."""


def watch_background() -> Background:
    """The running loop counts, logs and tells of such errors from now on; that a server is away is told otherwise."""
    found = Background(only_away)
    found.install(asyncio.get_running_loop())
    return found


class FaultIncidents:
    """Stores them as incidents, one for each line of code and kind of error while it is open.

    Args:
        process: what runs, as in "the worker".
    """

    def __init__(self, pool: Pool, account: str, process: str) -> None:
        self._pool = pool
        self._account = account
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._reported: dict[TaskFault, float] = {}
        self._storing: set[asyncio.Task[None]] = set()

    def __call__(self, fault: TaskFault) -> None:
        """Have it stored; in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin, fault)

    def _begin(self, fault: TaskFault) -> None:
        now = time.monotonic()
        if now - self._reported.get(fault, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return
        self._reported[fault] = now
        task = asyncio.create_task(self._store(fault))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def _store(self, fault: TaskFault) -> None:
        sentence = (
            f"Something that {self._process} did in the background failed ({fault}), and nobody waited for it: what it "
            "was for may not have been done. It is a fault of the program: the log has more, to be reported."
        )
        try:
            await report_once(self._pool, self._account, BACKGROUND, "WARNING", str(fault), sentence)
        except DATABASE_TROUBLE as problem:
            self._reported.pop(fault, None)
            _log.warning("incident not stored", problem=repr(problem))
