"""A Temporal that is slow or restarts once does not end a worker that is starting."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.service import RPCError, RPCStatusCode

from workers.errors import ExitCode, UnreachableError
from workers.once_at_start import until_taken
from workers.runner import _unless_told as unless_told


class Slow:
    """A call to Temporal that succeeds after this many refusals."""

    def __init__(self, refusals: int, status: RPCStatusCode) -> None:
        self.asked = 0
        self._refusals = refusals
        self._status = status

    async def ask(self) -> None:
        """Raises RPCError while refusals are left."""
        self.asked += 1
        if self.asked <= self._refusals:
            raise RPCError("Timeout expired", self._status, b"")


@pytest.mark.parametrize(
    "status",
    [
        RPCStatusCode.CANCELLED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.RESOURCE_EXHAUSTED,
    ],
)
async def test_what_passes_by_itself_is_asked_again(status: RPCStatusCode) -> None:
    """A timeout or a short outage of the server is retried silently."""
    slow = Slow(3, status)
    await until_taken("the schedules", slow.ask, pause=0)
    assert slow.asked == 4


async def test_trouble_that_lasts_is_one_sentence() -> None:
    """After the last try the sentence names the failed call and what to do, with the exit code for an outage."""
    slow = Slow(100, RPCStatusCode.CANCELLED)
    with pytest.raises(
        UnreachableError, match=r"did not accept the schedules in 3 tries .*Timeout expired.*start the worker again\.$"
    ) as found:
        await until_taken("the schedules", slow.ask, tries=3, pause=0)
    assert slow.asked == 3
    assert (found.value.code, found.value.exit_code) == ("NO_TEMPORAL", ExitCode.UNREACHABLE)


async def test_a_refusal_that_would_come_again_is_told_at_once() -> None:
    """A permission error is not retried."""
    slow = Slow(100, RPCStatusCode.PERMISSION_DENIED)
    with pytest.raises(RPCError):
        await until_taken("the schedules", slow.ask, pause=0)
    assert slow.asked == 1


async def test_who_is_told_to_stop_meanwhile_stops() -> None:
    """Retries don't delay a stop; calls that completed in time count, and failures are raised."""
    stop, left = asyncio.Event(), asyncio.Event()

    async def for_ever() -> None:
        try:
            stop.set()
            await asyncio.Event().wait()
        finally:
            left.set()

    async def at_once() -> None:
        return

    assert await unless_told(asyncio.Event(), at_once())
    assert not await unless_told(stop, for_ever())
    assert left.is_set()
    with pytest.raises(RPCError):
        await unless_told(asyncio.Event(), Slow(1, RPCStatusCode.UNAVAILABLE).ask())
