"""WebSocket connections of a venue's streams, and the server of them: what all protocols share.

A protocol derives from `SocketConnection` (how a message is framed) and `SocketServer` (what is subscribed and
published). Faults strike a message on its way out; `frozen`, `ahead` and `behind` are the protocol's, as they concern
what a message says.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from aiohttp import WSCloseCode, WSMsgType, web

from exchange.paper.faults import CONNECT_FAULTS, MESSAGE_FAULTS, Fault, FaultKind
from exchange.paper.venue import PaperVenue

__all__ = ["SocketConnection", "SocketServer", "admit"]

_SLOW_CONSUMER = 50_000  # a client this many messages behind is disconnected


class SocketConnection:
    """One client's socket and its queue of outgoing messages."""

    def __init__(self, venue: PaperVenue, socket: web.WebSocketResponse, request: web.Request, path: str) -> None:
        self.path = path
        self.half_open = False
        self.last_sent = time.monotonic()
        self.opened = self.last_sent
        self._venue = venue
        self._socket = socket
        self._request = request
        self._queue: deque[bytes | int] = deque()
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._held: bytes | None = None

    def shown(self) -> dict[str, object]:
        """The connection as the control interface lists it."""
        return {"path": self.path, "half_open": self.half_open}

    def strike(self, channel: str) -> Fault | None:
        """The fault on the next message of `channel`, counted as used."""
        return self._venue.faults.strike(MESSAGE_FAULTS, channel, time.monotonic()) if self._venue.faults else None

    @staticmethod
    def seconds_off(fault: Fault | None) -> float:
        """By how much a fault puts a message's time off, in seconds."""
        if fault is None:
            return 0.0
        return {FaultKind.STREAM_AHEAD: 1, FaultKind.STREAM_BEHIND: -1}.get(fault.kind, 0) * fault.delay

    def deliver(self, body: bytes, fault: Fault | None = None) -> None:
        """Queue a message, or what `fault` makes of it."""
        if fault is None or fault.kind in (FaultKind.STREAM_AHEAD, FaultKind.STREAM_BEHIND):
            self._put(body)
        elif fault.kind is FaultKind.STREAM_REORDERED:
            if self._held is None:
                self._held = body
                return
            self._put(body)  # the previous message was held for it
        else:
            self._spoil(body, fault)
        if self._held is not None:
            held, self._held = self._held, None
            self._put(held)

    def _spoil(self, body: bytes, fault: Fault) -> None:
        if fault.kind is FaultKind.STREAM_DUPLICATE:
            self._put(body)
            self._put(body)
        elif fault.kind is FaultKind.STREAM_LATE:
            asyncio.get_running_loop().call_later(fault.delay, self._put, body)
        elif fault.kind is FaultKind.STREAM_MALFORMED:
            self._put(body[: len(body) // 2])
        elif fault.kind is FaultKind.STREAM_DROP:
            self.drop()
        elif fault.kind is FaultKind.STREAM_CLOSE:
            self.close(fault.status or WSCloseCode.OK)
        elif fault.kind is FaultKind.STREAM_HALF_OPEN:
            self.half_open = True

    def close(self, code: int = 1000) -> None:
        """Close with `code` after the queued messages."""
        self._queue.append(code)
        self._waiting.set()

    def drop(self) -> None:
        """Reset the TCP connection."""
        if self._request.transport is not None:
            self._request.transport.abort()

    def _put(self, body: bytes) -> None:
        if self.half_open:
            return
        self.last_sent = time.monotonic()
        self._queue.append(body)
        self._idle.clear()
        self._waiting.set()
        if len(self._queue) > _SLOW_CONSUMER:
            self.drop()

    async def drained(self) -> None:
        """Wait until everything queued is written to the socket."""
        await self._idle.wait()

    async def write(self) -> None:
        """Write the queue to the socket until it closes."""
        try:
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                while self._queue:
                    item = self._queue.popleft()
                    if isinstance(item, int):
                        await self._socket.close(code=item)
                        return
                    await self._socket.send_frame(item, WSMsgType.TEXT)
                self._idle.set()
        except (ConnectionError, RuntimeError):
            return
        finally:
            self._idle.set()


ConnectionT = TypeVar("ConnectionT", bound=SocketConnection)


class SocketServer(ABC, Generic[ConnectionT]):
    """All connections, and the messages published to them."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self._connections: set[ConnectionT] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._connects: deque[float] = deque()

    @abstractmethod
    def start(self) -> None:
        """Start what is sent by the clock."""

    @abstractmethod
    def publish(self) -> None:
        """Send subscribers the changes of the last event."""

    @abstractmethod
    def product_changed(self, product_id: str) -> None:
        """A product has another trading status."""

    @abstractmethod
    def connect(self, socket: web.WebSocketResponse, request: web.Request, path: str) -> ConnectionT:
        """A new connection of this protocol."""

    @abstractmethod
    def receive(self, connection: ConnectionT, text: str) -> None:
        """A client's message."""

    def opened(self, connection: ConnectionT) -> list[asyncio.TimerHandle]:
        """Greet a new connection; the timers are cancelled when it ends."""
        return []

    def closed(self, connection: ConnectionT) -> None:
        """A connection has ended."""

    async def stop(self) -> None:
        """Stop publishing and close every connection with 1001."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.close(WSCloseCode.GOING_AWAY)

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` each so many seconds until `stop`."""

        async def run() -> None:
            due = time.monotonic()
            while True:
                due = max(due + seconds, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
                action()

        self._tasks.append(asyncio.create_task(run()))

    async def drained(self) -> None:
        """Wait until all connections have written what was published."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(
                    *(connection.drained() for connection in list(self._connections)), return_exceptions=True
                )

    def sockets(self, action: str, path: str, code: int) -> int:
        """Drop, close or make half-open every connection of `path` ("market", "user" or "*"). Returns their number."""
        chosen = [connection for connection in self._connections if path in ("*", connection.path)]
        for connection in chosen:
            if action == "drop":
                connection.drop()
            elif action == "close":
                connection.close(code)
            else:
                connection.half_open = True
        return len(chosen)

    def listed(self) -> list[dict[str, object]]:
        """The open connections and their subscriptions."""
        return [connection.shown() for connection in self._connections]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one WebSocket on the path "market" or "user" until it ends."""
        venue, path = self._venue, request.match_info["path"]
        now = time.monotonic()
        if venue.away or venue.faults.strike(CONNECT_FAULTS, path, now) is not None:
            return web.Response(status=503, text="Service Unavailable")
        rate = venue.config.connection_rate
        if rate and not admit(self._connects, now, rate):
            return web.Response(status=429, text="Too Many Requests")
        socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = self.connect(socket, request, path)
        self._connections.add(connection)
        writer = asyncio.create_task(connection.write())
        timers = self.opened(connection)
        try:
            async for message in socket:
                if connection.half_open:
                    continue
                if message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    self.receive(connection, message.data)
                elif message.type is WSMsgType.CLOSE:
                    await socket.close(code=message.data or 1000)
                    break
        except (ConnectionError, RuntimeError):
            pass
        finally:
            for timer in timers:
                timer.cancel()
            writer.cancel()
            self._connections.discard(connection)
            self.closed(connection)
        return socket


def admit(seen: deque[float], now: float, rate: float, span: float = 1.0) -> bool:
    """Whether one more event at `now` is within `rate` of them in any `span` seconds; it is then counted in `seen`."""
    while seen and now - seen[0] >= span:
        seen.popleft()
    if len(seen) >= rate:
        return False
    seen.append(now)
    return True
