"""One stream connection: whose it is, its subscriptions, its heartbeat, and how its messages are framed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from decimal import Decimal

import orjson
from aiohttp import web

from exchange.paper.cryptocom.answers import envelope
from exchange.paper.faults import FaultKind
from exchange.paper.sockets import SocketConnection
from exchange.paper.venue import PaperVenue

__all__ = ["ChannelSubscription", "PaperSession"]


@dataclass(slots=True)
class ChannelSubscription:
    """One subscribed channel: its `base` (such as book), instrument ("" for all), and for a book how it is sent."""

    name: str
    base: str
    instrument: str = ""
    depth: int = 0
    seconds: int = 0
    """Length of a candle."""
    updates: bool = False
    """Of a book: changes only, after one snapshot."""
    every: float = 0.5
    """Least seconds between two messages of a book."""
    due: float = 0.0
    stale: bool = False
    known: dict[tuple[str, Decimal], Decimal] = field(default_factory=dict)
    sequence: int = 0
    mark: Decimal | None = None
    """The mark price that was sent last."""


class PaperSession(SocketConnection):
    """One client's socket. `scope` is what its end cancels: "ACCOUNT", "CONNECTION", or "" for nothing."""

    def __init__(self, venue: PaperVenue, socket: web.WebSocketResponse, request: web.Request, path: str) -> None:
        super().__init__(venue, socket, request, path)
        self.authorized = False
        self.channels: dict[str, ChannelSubscription] = {}
        self.scope = ""
        self.timers: list[asyncio.TimerHandle] = []
        self.unanswered: set[int] = set()
        """The heartbeats that the client has not answered yet."""
        self._second = int(time.time())
        self._used = 0
        self._first_share = 1.0 - time.time() % 1.0

    def shown(self) -> dict[str, object]:
        """With its subscriptions, and how many heartbeats the client has not answered yet."""
        channels: dict[str, list[str]] = {name: [] for name in self.channels}
        return {**super().shown(), "subscriptions": channels, "unanswered": len(self.unanswered)}

    def admit(self, rate: int) -> bool:
        """Whether one more message is within `rate` a calendar second; the first one counts by what is left of it."""
        second = int(time.time())
        if second != self._second:
            self._second, self._used, self._first_share = second, 0, 1.0
        self._used += 1
        return self._used <= rate * self._first_share

    def reply(
        self, request_id: object, method: str, code: int = 0, *, message: str = "", result: object = None
    ) -> None:
        """Answer a request."""
        self.deliver(envelope(request_id, method, code, message=message, result=result))

    def acknowledge(self, request_id: object, channel: str) -> None:
        """Answer a subscription to a channel that begins without data."""
        self.deliver(envelope(request_id, "subscribe", channel=channel))

    def heartbeat(self, number: int) -> None:
        """Ask for a sign of life; the client answers with the same id."""
        self.unanswered.add(number)
        self.deliver(orjson.dumps({"id": number, "method": "public/heartbeat", "code": 0}))

    def push(
        self,
        subscription: ChannelSubscription,
        data: object,
        *,
        request_id: object = -1,
        channel: str = "",
        **more: object,
    ) -> None:
        """Send data of a subscription: unasked with the id -1, at its beginning with the request's."""
        fault = self.strike(subscription.base)
        if fault is not None and fault.kind is FaultKind.STREAM_FROZEN:
            return
        result: dict[str, object] = {"subscription": subscription.name, "channel": channel or subscription.base}
        if subscription.instrument:
            result["instrument_name"] = subscription.instrument
        self.deliver(envelope(request_id, "subscribe", result={**result, **more, "data": data}), fault)
