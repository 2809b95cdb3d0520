"""Several connections read as one stream, for a venue that bounds the subscriptions of one connection.

It is connected while all of them are: `Connected` is told when the last one has come up, and `Disconnected` whenever
one is lost; the others go on. Each is read at the consumer's pace: while nothing is taken, no connection is read, and
none counts as silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import replace

from exchange.port import Connected, Disconnected, StreamEvent
from exchange.streams import ReconnectingStream

__all__ = ["JoinedStreams"]

_READ_AHEAD = 100
"""Events that are kept for the consumer, of all connections together."""


class JoinedStreams:
    """An endless iterator of the events of all `streams`; `aclose` ends them. A stream's own error ends it, too."""

    def __init__(self, streams: Sequence[ReconnectingStream]) -> None:
        self.streams = tuple(streams)
        self._events = self._run()

    def __aiter__(self) -> JoinedStreams:
        return self

    def __anext__(self) -> Awaitable[StreamEvent]:
        return self._events.__anext__()

    async def aclose(self) -> None:
        """End all connections and the iterator."""
        await self._events.aclose()

    async def _run(self) -> AsyncGenerator[StreamEvent, None]:
        queue: asyncio.Queue[tuple[int, StreamEvent]] = asyncio.Queue(_READ_AHEAD)

        async def read(place: int, stream: ReconnectingStream) -> None:
            async for event in stream:
                await queue.put((place, event))

        readers = [asyncio.create_task(read(place, stream)) for place, stream in enumerate(self.streams)]
        up: set[int] = set()
        times = 0
        try:
            while True:
                place, event = await self._next(queue, readers)
                if isinstance(event, Connected):
                    up.add(place)
                    if len(up) < len(readers):
                        continue
                    times += 1
                    yield replace(event, attempt=times)
                    continue
                if isinstance(event, Disconnected):
                    up.discard(place)
                yield event
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            for stream in self.streams:
                await stream.aclose()

    async def _next(
        self, queue: asyncio.Queue[tuple[int, StreamEvent]], readers: Sequence[asyncio.Task[None]]
    ) -> tuple[int, StreamEvent]:
        """The next event of any connection. Raises what has ended a reader."""
        if queue.empty():
            taking = asyncio.ensure_future(queue.get())
            try:
                await asyncio.wait({taking, *readers}, return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    return taking.result()
            finally:
                taking.cancel()
            for reader in readers:
                if reader.done():
                    reader.result()
            raise ConnectionError("a stream has ended")
        return queue.get_nowait()
