"""Keep a process running: start it, start it again with back-off when it ends by itself, stop it for good when told."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from workers.processes import Child

_HEALTHY_AFTER_S = 30.0  # a run this long resets the back-off

Say = Callable[[str], None]


class Supervised:
    """One supervised child. `start_child` starts it and returns once it is ready."""

    def __init__(
        self,
        name: str,
        start_child: Callable[[], Awaitable[Child]],
        say: Say,
        *,
        backoff_s: float = 0.5,
        backoff_max_s: float = 30.0,
    ) -> None:
        self.name = name
        self._start_child = start_child
        self._say = say
        self._backoff_s = backoff_s
        self._backoff_max_s = backoff_max_s
        self._child: Child | None = None
        self._watch: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def child(self) -> Child | None:
        """The running child; None when stopped or between two runs."""
        return self._child

    async def start(self) -> None:
        """Start and watch. Raises what `start_child` raises; then nothing is left running."""
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
                self._say(f"{self.name} ended by itself ({_ending(code)}); starting it again in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._backoff_max_s)
            try:
                self._child = await self._start_child()
            except Exception as error:  # noqa: BLE001 - whatever kept it from starting, the next try may do better
                self._say(f"{self.name} did not start: {error}; trying again in {wait_s:g} s")
            else:
                self.restarts += 1
                self._say(f"{self.name} is running again")


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
