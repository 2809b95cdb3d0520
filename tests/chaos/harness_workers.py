"""Worker processes that a run kills, stops and starts again: each one in its own process, as in production."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from activities.crash_points import CRASH_AT
from workers.stack.processes import Child, Command, python_environment, python_module

__all__ = ["WorkerSlot"]

_RESTART_SECONDS = 0.5


class WorkerSlot:
    """A slot for one worker with every role. A worker that ends by itself is restarted, a killed one when `start` is
    called. `died` is called for each death at a named point, when the next worker runs: with the time of the death.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        environment: Mapping[str, str],
        role: str = "all",
        died: Callable[[datetime], None] = lambda since: None,
    ) -> None:
        self.name = name
        self._log = log
        self._environment = environment
        self._role = role
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._crash_at = ""
        self._crashes = 0
        self._died = died
        self._is_to_die = False
        """The running worker dies at a named point."""
        self.ended_by_itself = 0

    @property
    def pid(self) -> int | None:
        """The process id; None if it doesn't run."""
        return self._child.pid if self._child is not None and self._child.running else None

    async def start(self) -> None:
        """Start the worker unless it runs."""
        if self.pid is None:
            await self._launch()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def release(self) -> None:
        """Stop watching, and leave the worker to whoever kills it; `kill` and `start` still work."""
        await self._stop_keeping()

    async def kill(self) -> None:
        """SIGKILL; it stays down until `start`."""
        await self._stop_keeping()
        if self._child is not None:
            await self._child.kill()
            self._child = None

    async def stop(self) -> None:
        """Drain and end, for good."""
        await self._stop_keeping()
        if self._child is not None:
            self.wake()
            await self._child.stop()
            self._child = None

    def freeze(self) -> None:
        """SIGSTOP: it stops, with all its connections open."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def crash_at(self, point: str) -> None:
        """Make the next worker in this slot die at a named point; the one after it lives."""
        self._crashes += 1
        self._crash_at = f"{point}={self._log.with_suffix(f'.crash-{self._crashes}')}"
        await self.kill()
        await self.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    async def _launch(self) -> None:
        environment = dict(self._environment)
        self._is_to_die = bool(self._crash_at)
        if self._crash_at:
            environment[CRASH_AT], self._crash_at = self._crash_at, ""
        self._child = await Child.start(
            Command(
                name=self.name,
                argv=python_module("tests.chaos.harness_names", "worker", "--role", self._role),
                log=self._log,
                env={**python_environment(), **environment, "PATH": os.environ.get("PATH", "")},
                grace_s=15.0,
            )
        )

    async def _keep(self) -> None:
        while True:
            child = self._child
            if child is not None:
                await child.wait()
                self.ended_by_itself += 1
            since, at_a_point = datetime.now(UTC), self._is_to_die
            await asyncio.sleep(_RESTART_SECONDS)
            await self._launch()
            if at_a_point:
                self._died(since)

    async def _stop_keeping(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
