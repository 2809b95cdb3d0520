"""Batches: in order of arrival, never two at a time, each item with its own answer or error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from activities.orders.batches import Batches


class Till:
    """Handles numbers; while it is closed, callers wait."""

    def __init__(self, most: int = 50) -> None:
        self.open, self.busy = asyncio.Event(), asyncio.Event()
        self.batches: list[list[int]] = []
        self.running = 0
        self.line = Batches[int, int](self.handle, most=most)

    async def handle(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        """Twice the number; 13 makes the whole batch fail, a negative number gets its own error."""
        self.batches.append(list(numbers))
        self.running += 1
        assert self.running == 1
        self.busy.set()
        await self.open.wait()
        self.running -= 1
        if 13 in numbers:
            raise RuntimeError(f"13 among {len(numbers)}")
        return [ValueError(str(number)) if number < 0 else 2 * number for number in numbers]


async def test_who_comes_during_a_batch_is_in_the_next_one() -> None:
    """The first item goes alone, the others together, in their order and within the limit per batch."""
    till = Till(most=3)
    first = asyncio.create_task(till.line.join(1))
    await till.busy.wait()
    others = [asyncio.create_task(till.line.join(number)) for number in range(2, 7)]
    await asyncio.sleep(0)
    till.open.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10, 12]
    assert till.batches == [[1], [2, 3, 4], [5, 6]]


async def test_an_error_is_the_items_own() -> None:
    """The items of a failed batch are tried alone, so only the caller of the failing item gets the error."""
    till = Till()
    till.open.set()
    found = await asyncio.gather(*(till.line.join(number) for number in (1, 13, -2, 3)), return_exceptions=True)
    assert [found[0], found[3]] == [2, 6]
    assert [str(found[1]), str(found[2])] == ["13 among 1", "-2"]
    assert till.batches == [[1, 13, -2, 3], [1], [13], [-2], [3]]
    assert await till.line.join(4) == 8


async def test_who_leaves_does_not_stop_the_others() -> None:
    """A cancelled caller leaves its item to the batch; the others get their answers, later ones too."""
    till = Till()
    leaving, staying = asyncio.create_task(till.line.join(1)), asyncio.create_task(till.line.join(2))
    await till.busy.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    till.open.set()
    assert await staying == 4
    assert await till.line.join(5) == 10
    assert till.batches == [[1, 2], [5]]
