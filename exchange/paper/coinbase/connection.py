"""One stream connection: its subscriptions, its sequence counter, its outgoing queue, and the faults on its way out."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from exchange.paper.coinbase import render
from exchange.paper.faults import MESSAGE_FAULTS, Fault, FaultKind
from exchange.paper.venue import PaperVenue

__all__ = ["StreamConnection"]

_SLOW_CONSUMER = 50_000  # a client this many messages behind is disconnected


class StreamConnection:
    """One client's socket: its subscriptions, sequence counter and outgoing queue."""

    def __init__(self, venue: PaperVenue, socket: web.WebSocketResponse, request: web.Request, path: str) -> None:
        self.path = path
        self.subscriptions: dict[str, dict[str, None]] = {}
        self.half_open = False
        self.last_sent = time.monotonic()
        self.opened = self.last_sent
        self._venue = venue
        self._socket = socket
        self._request = request
        self._sequence = 0
        self._queue: deque[bytes | int] = deque()
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._held: bytes | None = None

    def wants(self, channel: str, product_id: str) -> bool:
        """True if this connection subscribed to `channel` for `product_id`."""
        products = self.subscriptions.get(channel)
        return products is not None and (product_id in products or not products)

    def send(self, channel: str, events: bytes) -> None:
        """Send one message on `channel`; `events` is the JSON list."""
        fault = None
        if self._venue.faults:
            fault = self._venue.faults.strike(MESSAGE_FAULTS, channel, time.monotonic())
        if fault is not None and fault.kind is FaultKind.STREAM_FROZEN:
            if channel == "heartbeats":
                fault = None
            else:
                return
        off = {FaultKind.STREAM_AHEAD: 1, FaultKind.STREAM_BEHIND: -1}.get(fault.kind, 0) if fault is not None else 0
        seconds = off * fault.delay if fault is not None else 0.0
        body = b'{"channel":"%s","timestamp":"%s","sequence_num":%d,"events":%s}' % (
            channel.encode(),
            render.nanoseconds(self._venue.now_ns() + int(seconds * 1e9)).encode(),
            self._sequence,
            events,
        )
        self._sequence += 1
        if fault is None or off:
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

    def error(self, message: str) -> None:
        """Send an error message (it has no channel and no sequence number)."""
        self._put(orjson.dumps({"type": "error", "message": message}))

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
