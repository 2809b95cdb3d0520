"""Batches, one after the other: an item that arrives while a batch is handled is in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Batches"]

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Items wait here and are handled together, in the order in which they arrived, never two batches at a time.

    `handle` gives an answer or an error for each item. If it raises, each item of that batch is handled again alone,
    so that nobody gets another's error: what it does must be safe to do again after an error.
    """

    def __init__(self, handle: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]], *, most: int) -> None:
        self._handle = handle
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    async def join(self, item: T) -> R:
        """The item's answer. A cancelled caller leaves its item to the batch. Raises the item's error."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        now: list[tuple[T, asyncio.Future[R]]] = []
        try:
            while self._waiting:
                now, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                for (_, answer), found in zip(now, await self._batch([item for item, _ in now]), strict=True):
                    if answer.done():
                        continue
                    if isinstance(found, Exception):
                        answer.set_exception(found)
                    else:
                        answer.set_result(found)
        finally:
            self._running = None
            # Only when this task itself is cancelled is anybody left.
            for _, answer in (*now, *self._waiting):
                answer.cancel()
            self._waiting.clear()

    async def _batch(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return await self._handle(items)
        except Exception as error:  # noqa: BLE001 - it becomes the item's own
            if len(items) == 1:
                return [error]
            return [(await self._batch([item]))[0] for item in items]
