"""Each method of Crypto.com has its own limit, of which a process takes its share."""

from __future__ import annotations

import asyncio

import pytest

from exchange.cryptocom.limits import MethodLimits

METHODS = {
    "private/create-order": (15, 0.1),
    "private/cancel-order": (15, 0.1),
    "private/get-order-detail": (30, 0.1),
    "private/user-balance": (3, 0.1),
    "private/advanced/create-order": (3, 0.1),
    "private/get-trades": (1, 1.0),
    "private/get-order-history": (1, 1.0),
    "public/get-book": (100, 1.0),
}


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("method", METHODS)
async def test_a_share_is_never_more_than_the_venue_allows(method: str, share: float) -> None:
    """In any window of the venue's there are at most so many turns, rounded down; less than one is one in more time."""
    most, window = METHODS[method]
    limiter = MethodLimits(share).of(method)
    assert limiter._allowed == max(1, int(most * share))
    assert limiter._allowed / limiter._window <= most * share / window + 1e-9
    assert limiter._window >= window - 1e-9


async def test_methods_wait_for_themselves_only() -> None:
    """A method whose turns are used up delays no other; without limits none waits."""
    limits = MethodLimits(1.0)
    async with limits.of("private/get-trades").turn():
        waiting = asyncio.create_task(limits.of("private/get-trades")._next(False))
        await asyncio.sleep(0)
        async with limits.of("private/create-order").turn():
            assert limits.of("private/get-trades").waiting == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    free = MethodLimits(0)
    for _ in range(100):
        async with free.of("private/get-trades").turn():
            pass
    with pytest.raises(ValueError, match="from 0 to 1"):
        MethodLimits(1.5)
