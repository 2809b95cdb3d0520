"""The process's share of the account's rate: never exceeded, urgent requests first."""

from __future__ import annotations

import asyncio
import time

import pytest

from exchange.rate_limit import RateLimiter


async def test_no_more_than_the_rate_in_any_second() -> None:
    """Of 12 quick requests at 5 a second, the sixth and the eleventh wait for a second each."""
    limiter = RateLimiter(5)
    starts: list[float] = []

    async def request() -> None:
        async with limiter.turn():
            starts.append(time.monotonic())

    await asyncio.gather(*(request() for _ in range(12)))
    assert starts[4] - starts[0] < 0.5
    assert all(later - earlier >= 0.999 for earlier, later in zip(starts, starts[5:], strict=False))
    assert starts[-1] - starts[0] < 3


async def test_a_venue_that_counts_in_tenths_of_a_second() -> None:
    """Of 7 quick requests at 3 a tenth, the fourth and the seventh wait for a tenth each, not for a second."""
    limiter = RateLimiter(30, burst=3)
    starts: list[float] = []

    async def request() -> None:
        async with limiter.turn():
            starts.append(time.monotonic())

    await asyncio.gather(*(request() for _ in range(7)))
    assert all(later - earlier >= 0.099 for earlier, later in zip(starts, starts[3:], strict=False))
    assert len(starts) == 7


async def test_urgent_requests_go_first() -> None:
    """An exit that arrives last is served before waiting entries."""
    limiter = RateLimiter(2)
    served: list[str] = []

    async def request(name: str, urgent: bool) -> None:
        async with limiter.turn(urgent=urgent):
            served.append(name)

    tasks = [asyncio.create_task(request(name, name == "exit")) for name in ("a", "b", "c", "d", "exit")]
    await asyncio.gather(*tasks)
    assert served == ["a", "b", "exit", "c", "d"]


async def test_a_waiter_that_is_cancelled_takes_no_turn() -> None:
    """A cancelled request leaves its place to the next."""
    limiter = RateLimiter(1)
    async with limiter.turn():
        pass
    given_up = asyncio.create_task(limiter._next(False))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    assert limiter.waiting == 0
    async with asyncio.timeout(1.5), limiter.turn():
        pass


async def test_slow_answers_hold_a_turn_for_half_a_second_at_most() -> None:
    """While the venue is slow, the next turn is a second and a half after the start."""
    limiter = RateLimiter(1)
    release = asyncio.Event()
    started = time.monotonic()

    async def slow() -> None:
        async with limiter.turn():
            await release.wait()

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    async with limiter.turn(urgent=True):
        assert 1.45 <= time.monotonic() - started < 2.5
    release.set()
    await task


async def test_zero_means_no_limit_and_less_is_an_error() -> None:
    """Paper at high speed runs without a limit."""
    limiter = RateLimiter(0)
    for _ in range(1000):
        async with limiter.turn():
            pass
    with pytest.raises(ValueError, match="negative"):
        RateLimiter(-1)
