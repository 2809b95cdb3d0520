"""A process's share of a venue's request rate: never more than N starts in any one-second window, urgent ones first.

A sliding window rather than a token bucket: a bucket of N that refills at N lets 2 N through in its first second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

__all__ = ["RateLimiter"]


class RateLimiter:
    """Hands out permission to start a request, first come first served within its class.

    Args:
        per_second: starts allowed in any window of one second; below 1, one start each `1 / per_second` seconds;
            0 means no limit.
        clock: monotonic seconds.
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        if per_second < 0:
            raise ValueError(f"a rate can't be negative: {per_second}; 0 means no limit")
        self._clock = clock
        self._allowed = max(1, int(per_second))
        self._window = self._allowed / per_second if per_second else 0.0
        self._starts: deque[float] = deque()
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._normal: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._urgent) + len(self._normal)

    async def acquire(self, *, urgent: bool = False) -> None:
        """Return when a request may start; `urgent` ones (exits) go before all others."""
        if not self._window:
            return
        if not self.waiting and self._free():
            self._starts.append(self._clock())
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._normal).append(turn)
        self._arm()
        try:
            await turn
        except asyncio.CancelledError:
            # A turn that was granted and not used goes to the next in line at the window's end: never above the rate.
            self._forget(turn)
            raise

    def _free(self) -> bool:
        horizon = self._clock() - self._window
        while self._starts and self._starts[0] <= horizon:
            self._starts.popleft()
        return len(self._starts) < self._allowed

    def _arm(self) -> None:
        if self._timer is None and self.waiting:
            delay = max(0.0, self._starts[0] + self._window - self._clock()) if self._starts else 0.0
            self._timer = asyncio.get_running_loop().call_later(delay, self._grant)

    def _grant(self) -> None:
        self._timer = None
        while self.waiting and self._free():
            turn = (self._urgent or self._normal).popleft()
            if not turn.done():
                self._starts.append(self._clock())
                turn.set_result(None)
        self._arm()

    def _forget(self, turn: asyncio.Future[None]) -> None:
        for queue in (self._urgent, self._normal):
            if turn in queue:
                queue.remove(turn)
