"""Long-running activities: they stop at once when their worker shuts down, so that another worker continues."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.leases import DATABASE_TROUBLE

__all__ = ["BackgroundTasks", "every", "hinted", "holder_name", "together", "until_shutdown"]

log = structlog.get_logger(__name__)

T = TypeVar("T")


def holder_name() -> str:
    """The name of a lease holder: machine, process and a random part, because a process may retry while an old attempt
    stalls."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


async def until_shutdown(body: Coroutine[Any, Any, None]) -> None:
    """Run `body` until it ends, is cancelled, or the worker shuts down; its own clean-up has then run.

    Raises:
        ApplicationError: WORKER_SHUTDOWN (retryable, so that another worker continues), or the body's exception.
    """
    work = asyncio.create_task(body)
    shutdown = asyncio.create_task(activity.wait_for_worker_shutdown())
    try:
        await asyncio.wait({work, shutdown}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ApplicationError(
                "The worker is shutting down; another one continues.",
                type="WORKER_SHUTDOWN",
                # It is tried again as any other is; but it is no failure, so it is neither logged nor counted as one.
                category=ApplicationErrorCategory.BENIGN,
            )
        work.result()
    finally:
        shutdown.cancel()
        work.cancel()
        await asyncio.gather(work, shutdown, return_exceptions=True)


async def every(seconds: float, act: Callable[[], Awaitable[None]], *, hint: asyncio.Event | None = None) -> None:
    """Call `act` at once and then every `seconds` (wall), or as soon as `hint` is set, for ever.

    Database errors are retried the next time: the lease's own clock limits how long.
    """
    while True:
        if hint is not None:
            hint.clear()
        try:
            await act()
        except DATABASE_TROUBLE as problem:
            log.warning("not done, tried again", act=getattr(act, "__name__", ""), problem=repr(problem))
        if hint is None:
            await asyncio.sleep(seconds)
        else:
            await hinted(hint, seconds)


async def hinted(hint: asyncio.Event, seconds: float) -> bool:
    """Wait until `hint` is set, at most `seconds` (wall); returns whether it was."""
    # Not wait_for: on Python 3.11 it forgets a cancel that comes together with what it waits for.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hint.wait()
    return hint.is_set()


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently until one fails or ends; then the others are stopped and its exception is raised."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class BackgroundTasks:
    """Short background tasks. An error is logged and never stops their starter."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as soon as the loop is free; its task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("background task of the stream failed", problem=repr(problem), exc_info=problem)

    async def stop(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
