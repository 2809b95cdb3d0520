"""A process's share of a venue's request rate: at most N arrivals in any one-second window (or a shorter one, where the
venue counts so), urgent ones first.

A sliding window rather than a token bucket: a bucket of N that refills at N lets 2 N through in its first second. The
venue counts arrivals, and we only know when a request started and when its answer arrived. So a turn is free again one
second after the answer, but no later than a second and a half after the start, so that a slow venue doesn't delay
exits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

__all__ = ["RateLimiter"]

_LONGEST_TRAVEL = 0.5


class _Turn:
    __slots__ = ("free_at",)

    def __init__(self, free_at: float) -> None:
        self.free_at = free_at


class RateLimiter:
    """Hands out turns, first come first served within its class.

    Args:
        per_second: requests allowed in any window of one second; below 1, one each `1 / per_second` seconds; 0 means no
            limit.
        burst: the venue counts in shorter windows: at most so many requests in any `burst / per_second` seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self, per_second: float, *, burst: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if per_second < 0:
            raise ValueError(f"a rate can't be negative: {per_second}; 0 means no limit")
        self._clock = clock
        self._allowed = max(1, int(per_second) if burst is None else burst)
        self._window = self._allowed / per_second if per_second else 0.0
        self._turns: list[_Turn] = []
        self._urgent: deque[asyncio.Future[_Turn]] = deque()
        self._normal: deque[asyncio.Future[_Turn]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._urgent) + len(self._normal)

    @asynccontextmanager
    async def turn(self, *, urgent: bool = False) -> AsyncIterator[None]:
        """Wait for a turn, and hold it until the request has ended; `urgent` ones (exits) go before all others."""
        if not self._window:
            yield
            return
        turn = await self._next(urgent)
        try:
            yield
        finally:
            turn.free_at = min(turn.free_at, self._clock() + self._window)
            self._arm()

    async def _next(self, urgent: bool) -> _Turn:
        if not self.waiting and self._free():
            return self._take()
        waiter: asyncio.Future[_Turn] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._normal).append(waiter)
        self._arm()
        try:
            return await waiter
        except asyncio.CancelledError:
            for queue in (self._urgent, self._normal):
                if waiter in queue:
                    queue.remove(waiter)
            if waiter.done() and not waiter.cancelled():
                # Granted but not used: nothing was sent.
                waiter.result().free_at = self._clock()
                self._arm()
            raise

    def _free(self) -> bool:
        now = self._clock()
        self._turns = [turn for turn in self._turns if turn.free_at > now]
        return len(self._turns) < self._allowed

    def _take(self) -> _Turn:
        turn = _Turn(self._clock() + _LONGEST_TRAVEL + self._window)
        self._turns.append(turn)
        return turn

    def _arm(self) -> None:
        """Check again when the next turn is free; a turn that ended early brings that forward."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.waiting:
            first = min((turn.free_at for turn in self._turns), default=0.0)
            self._timer = asyncio.get_running_loop().call_later(max(0.0, first - self._clock()), self._grant)

    def _grant(self) -> None:
        self._timer = None
        while self.waiting and self._free():
            waiter = (self._urgent or self._normal).popleft()
            if not waiter.done():
                waiter.set_result(self._take())
        self._arm()
