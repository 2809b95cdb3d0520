"""Reads a venue's stream in the background, for tests that wait for its events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from exchange.joined_streams import JoinedStreams
from exchange.port import Connected, StreamEvent
from exchange.streams import ReconnectingStream
from tests.support.waiting import SLACK

__all__ = ["Reader", "reading"]


Streamed = TypeVar("Streamed", bound=ReconnectingStream | JoinedStreams)


class Reader(Generic[Streamed]):
    """Reads a stream in the background and keeps its events."""

    def __init__(self, stream: Streamed) -> None:
        self.stream = stream
        self.events: list[StreamEvent] = []
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.stream:
            self.events.append(event)
            self._news.set()

    def of(self, kind: type[Any]) -> list[Any]:
        """Events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], bool], seconds: float = 8.0) -> None:
        """Wait for a condition on the events."""
        async with asyncio.timeout(SLACK * seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        """Stop reading and end the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.stream.aclose()


@contextlib.asynccontextmanager
async def reading(stream: Streamed) -> AsyncIterator[Reader[Streamed]]:
    """A reader that has had its first connection."""
    reader = Reader(stream)
    try:
        await reader.until(lambda: bool(reader.of(Connected)))
        yield reader
    finally:
        await reader.close()
