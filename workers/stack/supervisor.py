"""Keeps a process running: starts it, restarts it with backoff when it ends unexpectedly, and stops it on request.

With a limit, a process that keeps failing is given up after that many ends and failed starts within the time;
`wait_given_up` returns the reason.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workers.stack.processes import Child

__all__ = ["Limit", "Supervised"]

_HEALTHY_AFTER_S = 30.0  # a run this long resets the back-off

Say = Callable[[str], None]


@dataclass(frozen=True)
class Limit:
    """Give up at the `failures`-th end or failed start within `within_s` seconds."""

    failures: int
    within_s: float


class Supervised:
    """One supervised child. `start_child` starts it and returns once it is ready. `limit` None: never given up."""

    def __init__(
        self,
        name: str,
        start_child: Callable[[], Awaitable[Child]],
        say: Say,
        *,
        backoff_s: float = 0.5,
        backoff_max_s: float = 30.0,
        limit: Limit | None = None,
    ) -> None:
        self.name = name
        self._start_child = start_child
        self._say = say
        self._backoff_s = backoff_s
        self._backoff_max_s = backoff_max_s
        self._limit = limit
        self._failures: deque[float] = deque()
        self._given_up = asyncio.Event()
        self._reason = ""
        self._child: Child | None = None
        self._watch: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def child(self) -> Child | None:
        """The running child; None when stopped or between two runs."""
        return self._child

    async def start(self) -> None:
        """Start and supervise. Raises the exceptions of `start_child`; then nothing is left running."""
        self._failures.clear()
        self._given_up.clear()
        self._child = await self._start_child()
        self._watch = asyncio.create_task(self._keep_running(), name=f"supervise {self.name}")

    async def stop(self) -> None:
        """Stop for good, giving the child its grace time."""
        await self._unwatch()
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def kill(self) -> None:
        """SIGKILL, and no restart until `start()`: what a test of crashes needs."""
        await self._unwatch()
        if self._child is not None:
            await self._child.kill()
            self._child = None

    async def release(self) -> None:
        """Stop supervising and leave the child running for the caller to stop."""
        await self._unwatch()
        self._child = None

    async def wait_given_up(self) -> str:
        """Wait until the limit is reached, and return why in a sentence."""
        await self._given_up.wait()
        return self._reason

    async def _unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _keep_running(self) -> None:
        wait_s = self._backoff_s
        while True:
            child = self._child
            if child is not None:
                began = time.monotonic()
                code = await child.wait()
                await child.kill()  # whatever is left of its group
                self._child = None
                if time.monotonic() - began > _HEALTHY_AFTER_S:
                    wait_s = self._backoff_s
                reason = (
                    f"{self.name} ended unexpectedly: {child.log_tail(1) or 'no message'} (log: {child.command.log})"
                )
                if self._too_often(reason):
                    return
                self._say(f"{self.name} ended unexpectedly ({_ending(code)}); restarting it in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._backoff_max_s)
            try:
                self._child = await self._start_child()
            except Exception as error:  # noqa: BLE001 - whatever kept it from starting, the next try may do better
                if self._too_often(str(error)):
                    return
                self._say(f"{self.name} did not start: {error}; trying again in {wait_s:g} s")
            else:
                self.restarts += 1
                self._say(f"{self.name} is running again")

    def _too_often(self, reason: str) -> bool:
        """Record a failure; True if the limit is reached."""
        if self._limit is None:
            return False
        now, failures = time.monotonic(), self._failures
        failures.append(now)
        while now - failures[0] > self._limit.within_s:
            failures.popleft()
        if len(failures) < self._limit.failures:
            return False
        self._reason = reason
        self._given_up.set()
        return True


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
