"""One Coinbase stream connection: its subscriptions, and messages in the venue's envelope with sequence numbers."""

from __future__ import annotations

from collections import deque

import orjson
from aiohttp import web

from exchange.paper.coinbase import render
from exchange.paper.faults import FaultKind
from exchange.paper.sockets import SocketConnection
from exchange.paper.venue import PaperVenue

__all__ = ["StreamConnection"]


class StreamConnection(SocketConnection):
    """One client's socket: its subscriptions and sequence counter."""

    def __init__(self, venue: PaperVenue, socket: web.WebSocketResponse, request: web.Request, path: str) -> None:
        super().__init__(venue, socket, request, path)
        self.subscriptions: dict[str, dict[str, None]] = {}
        self.unauthenticated: deque[float] = deque()
        """When messages without a token arrived."""
        self._sequence = 0

    def wants(self, channel: str, product_id: str) -> bool:
        """True if this connection subscribed to `channel` for `product_id`."""
        products = self.subscriptions.get(channel)
        return products is not None and (product_id in products or not products)

    def shown(self) -> dict[str, object]:
        """With the products of each channel."""
        return {**super().shown(), "subscriptions": {name: list(ids) for name, ids in self.subscriptions.items()}}

    def send(self, channel: str, events: bytes) -> None:
        """Send one message on `channel`; `events` is the JSON list."""
        fault = self.strike(channel)
        if fault is not None and fault.kind is FaultKind.STREAM_FROZEN:
            if channel != "heartbeats":
                return
            fault = None
        body = b'{"channel":"%s","timestamp":"%s","sequence_num":%d,"events":%s}' % (
            channel.encode(),
            render.nanoseconds(self._venue.now_ns() + int(self.seconds_off(fault) * 1e9)).encode(),
            self._sequence,
            events,
        )
        self._sequence += 1
        self.deliver(body, fault)

    def error(self, message: str) -> None:
        """Send an error message (it has no channel and no sequence number)."""
        self._put(orjson.dumps({"type": "error", "message": message}))
