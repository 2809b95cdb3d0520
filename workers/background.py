"""Errors of background tasks that no code awaited, as incidents and as a metric (HER-7)."""

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
"""Minimum time between reports of the same error from the same line (wall)."""


def watch_background() -> Background:
    """From now on the running loop counts, logs and reports such errors; unreachable servers are reported elsewhere."""
    found = Background(only_away)
    found.install(asyncio.get_running_loop())
    return found


class FaultIncidents:
    """Stores such errors as incidents, one for each line of code and kind of error while it is open.

    Args:
        process: the process's name, as in "the worker".
    """

    def __init__(self, pool: Pool, account: str, process: str) -> None:
        self._pool = pool
        self._account = account
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._reported: dict[TaskFault, float] = {}
        self._storing: set[asyncio.Task[None]] = set()

    def __call__(self, fault: TaskFault) -> None:
        """Store the error; may be called from any thread."""
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
            f"A background task of {self._process} failed ({fault}), so its work may not have been done. This is an "
            f"internal error: please report it with the details in the log."
        )
        try:
            await report_once(self._pool, self._account, BACKGROUND, "WARNING", str(fault), sentence)
        except DATABASE_TROUBLE as problem:
            self._reported.pop(fault, None)
            _log.warning("incident not stored", problem=repr(problem))
