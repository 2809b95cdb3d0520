"""Activities that never end by themselves: they stop at once when their worker does, so that another goes on."""

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
    """Who holds a lease: machine, process and a random part, as one process may try again while an old try stalls."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


async def until_shutdown(body: Coroutine[Any, Any, None]) -> None:
    """Run `body` until it ends, is cancelled, or the worker shuts down; then its own clean-up has run.

    Raises:
        ApplicationError: WORKER_SHUTDOWN (retryable, so that another worker goes on), or what the body raised.
    """
    work = asyncio.create_task(body)
    shutdown = asyncio.create_task(activity.wait_for_worker_shutdown())
    try:
        await asyncio.wait({work, shutdown}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ApplicationError(
                "The worker is shutting down; another one goes on.",
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
    """Do `act` at once and then each `seconds` (wall), or as soon as `hint` is set, for ever.

    The database's trouble is left to the next time: the lease's own clock decides how long that may go on.
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
    """Wait until `hint` is set, at most `seconds` (wall); whether it was."""
    # Not wait_for: on Python 3.11 it forgets a cancel that comes together with what it waits for.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hint.wait()
    return hint.is_set()


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Run coroutines side by side until one fails or ends; the others are stopped and what it raised is raised."""
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
    """Short pieces of work that run in the background. An error is logged; it never stops what started them."""

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
            log.error("work beside the stream failed", problem=repr(problem), exc_info=problem)

    async def stop(self) -> None:
        """Cancel all of it and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
