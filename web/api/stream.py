"""`GET /api/stream`: changes as they happen, by server-sent events.

The ledger is read once for all streams, and only while there is one. Each stream keeps the newest state of each key,
not a queue: a slow reader gets fewer, newer states and needs no more memory. All others get the same bytes. An event's
id is the number of the read; a client that comes back with another id than the last one gets `reset` and has to read
everything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Header
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from web.api.callers import Caller
from web.api.door import caller_of
from web.api.plain import as_plain
from web.api.problems import RESPONSES
from web.api.reads import Sources, event_line
from web.api.sessions import Sessions
from web.refusals import Refused
from web.views import Json, lists
from web.views.changes import SeenChanges, changes_since

__all__ = ["Streams", "stream_routes"]

_log = structlog.get_logger()

_MOST = 16
_LOOK_S = 1.0
_SESSION_S = 60.0
_COUNT_S = 10.0
"""The day's result and the closed trades are read so often at least: also an import or a changed limit changes them."""
_EVENTS = 200


@dataclass(eq=False)
class _News:
    """What one look found, or several together: the newest of each topic and key; None: the key is gone."""

    id: str
    topics: Mapping[str, Mapping[str, Any]]
    _encoded: bytes = b""

    def after(self, older: _News) -> _News:
        """Both, as one that is sent later."""
        topics = {topic: dict(items) for topic, items in older.topics.items()}
        for topic, items in self.topics.items():
            topics.setdefault(topic, {}).update(items)
        return _News(self.id, topics)

    def encoded(self) -> bytes:
        """Its events, made once however many streams they go to."""
        if not self._encoded:
            self._encoded = b"".join(_event(topic, _grouped(items), self.id) for topic, items in self.topics.items())
        return self._encoded


@dataclass(eq=False)
class Watcher:
    """One stream, and what has not been sent to it yet."""

    waits: _News | None = None
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, news: _News) -> None:
        """Have it sent."""
        self.waits = news if self.waits is None else news.after(self.waits)
        self.called.set()

    def taken(self) -> _News | None:
        """What is to be sent now."""
        found, self.waits = self.waits, None
        self.called.clear()
        return found


class Streams:
    """All open streams, and the task that reads the ledger for them. `stop()` ends them."""

    def __init__(
        self, sources: Sources, sessions: Sessions, *, look_s: float = _LOOK_S, session_s: float = _SESSION_S
    ) -> None:
        self._sources = sources
        self._sessions = sessions
        self._look_s = look_s
        self._session_s = session_s
        self._watchers: set[Watcher] = set()
        self._looker: asyncio.Task[None] | None = None
        self._seen = SeenChanges()
        self._based = False
        self._missed = False
        self._number = 0
        self._boot = secrets.token_hex(4)
        self._stopped = asyncio.Event()
        self._looked = asyncio.Event()
        self._summary: Json | None = None
        self._today: Json = {}
        self._counted = -math.inf

    def stop(self) -> None:
        """End every stream, so that the server can end."""
        self._stopped.set()
        self._looked.set()
        for watcher in self._watchers:
            watcher.called.set()

    @property
    def watchers(self) -> int:
        """The number of open streams."""
        return len(self._watchers)

    @property
    def looks(self) -> bool:
        """Whether the ledger is being read."""
        return self._looker is not None and not self._looker.done()

    def enter(self) -> Watcher:
        """Take the place of a new stream, until `leave`. Raises Refused(503, TOO_MANY_STREAMS)."""
        if len(self._watchers) >= _MOST:
            raise Refused(503, "TOO_MANY_STREAMS", f"{_MOST} pages are open already: close one.", retry_after=30)
        watcher = Watcher()
        self._watchers.add(watcher)
        if not self.looks:
            self._seen = SeenChanges()
            self._based = self._missed = False
            self._looked.clear()
            self._looker = asyncio.create_task(self._look())
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Give the place back. Idempotent."""
        self._watchers.discard(watcher)

    async def events(self, watcher: Watcher, caller: Caller, last: str | None) -> AsyncIterator[bytes]:
        """The events of a stream; `last`: the id that the client says it had."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        # After the first read: a client that reads the lists now misses nothing, as later changes are all sent.
        await self._looked.wait()
        yield _event("reset" if last is not None and last != self._id() else "hello", {}, self._id())
        while not self._stopped.is_set():
            await watcher.called.wait()
            if caller.session is not None and loop.time() - looked >= self._session_s:
                looked = loop.time()
                if not self._sessions.lives(caller.session):
                    yield _event("logged-out", {}, self._id())
                    return
            if (news := watcher.taken()) is not None:
                yield news.encoded()

    def _id(self) -> str:
        return f"{self._boot}-{self._number}"

    async def _look(self) -> None:
        """Read each second while a stream is open. If the ledger is away, say so and try again."""
        while self._watchers and not self._stopped.is_set():
            try:
                news = await self._news()
                if self._missed:  # changes since `hello` are compared with nothing: everything is read anew
                    news = {"reset": {"": {}}, **news}
                self._based, self._missed = True, False
            except Exception as error:  # noqa: BLE001 - whatever it is, the page has to show that its data is old
                _log.warning("api_stream_look_failed", kind=type(error).__name__)
                news = {"away": {"": {"at": datetime.now(UTC)}}}
                self._missed = not self._based
            self._number += 1
            self._looked.set()
            news.setdefault("tick", {"": {"at": datetime.now(UTC)}})
            told = _News(self._id(), news)
            for watcher in self._watchers:
                watcher.tell(told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._stopped.wait()

    async def _news(self) -> dict[str, dict[str, Any]]:
        ledger, account = self._sources.ledger, self._sources.account
        now = asyncio.get_running_loop().time()
        count = now - self._counted >= _COUNT_S
        seen = replace(self._seen)  # where something below fails, the next look finds the same changes again
        found = await changes_since(ledger, account, seen, self._sources.unwatched, count=count)
        news: dict[str, dict[str, Any]] = {}
        if found.orders or found.orders_gone:
            changed = {row["order_key"]: lists.described_order_line(row) for row in found.orders}
            news["orders"] = {**dict.fromkeys(found.orders_gone), **changed}
        if found.trades or found.trades_gone:
            changed = {row["entry_key"]: lists.described_trade_line(row, found.alone) for row in found.trades}
            news["trades"] = {**dict.fromkeys(found.trades_gone), **changed}
        if found.prices:
            news["prices"] = {price["symbol"]: price for price in found.prices}
        if found.events_from is not None:
            rows = await lists.events(ledger, account, limit=_EVENTS)
            fresh = [event_line(row) for row in rows if row["id"] > found.events_from]
            news["audit"] = {str(line["id"]): line for line in reversed(fresh)}
        if count or found.trades_gone or found.turned:
            self._today = await self._sources.today()
            self._counted = now
        self._seen = seen
        summary = found.summary | {"today": self._today}
        if summary != self._summary:
            self._summary = summary
            news["summary"] = {"": summary}
        return news


def _grouped(items: Mapping[str, Any]) -> dict[str, Any]:
    """Changed rows and the keys of those that are gone; for a topic without keys, its one value."""
    if set(items) == {""}:
        value: dict[str, Any] = items[""]
        return value
    changed = [item for item in items.values() if item is not None]
    return {"changed": changed, "gone": [key for key, item in items.items() if item is None]}


def _event(topic: str, data: dict[str, Any], number: str) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (topic.encode(), number.encode(), orjson.dumps(as_plain(data)))


class _Stream(StreamingResponse):
    """A stream as an answer. It has its place from the moment in which it is let in: of many that come at once no more
    are let in than there are places, and one whose client left before the first event gives its place back, too.
    """

    def __init__(self, streams: Streams, caller: Caller, last: str | None) -> None:
        self._streams, self._watcher = streams, streams.enter()
        events = streams.events(self._watcher, caller, last)
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it until it ends or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.leave(self._watcher)


def stream_routes(streams: Streams) -> APIRouter:
    """The address of the stream."""
    router = APIRouter(tags=["stream"], responses=RESPONSES)

    @router.get(
        "/api/stream",
        operation_id="stream",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def stream(
        request: Request, last_event_id: Annotated[str | None, Header(max_length=100)] = None
    ) -> StreamingResponse:
        """Changes of open orders and trades, prices, the summary and new events, at most once a second."""
        return _Stream(streams, caller_of(request), last_event_id)

    return router
