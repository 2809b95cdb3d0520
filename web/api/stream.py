"""`GET /api/stream`: changes as they happen, by server-sent events.

The ledger is read once for all streams, and only while there is one. Each stream keeps the newest state of each key,
not a queue: a slow reader gets fewer, newer states and needs no more memory. An event's id is the number of the read; a
client that comes back with another id than the last one gets `reset` and has to read everything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Header
from starlette.requests import Request
from starlette.responses import StreamingResponse

from web.api.callers import Caller
from web.api.door import caller_of
from web.api.plain import as_plain
from web.api.problems import RESPONSES
from web.api.reads import Sources, event_line
from web.api.sessions import Sessions
from web.refusals import Refused
from web.views import lists
from web.views.changes import SeenChanges, changes_since
from web.views.standing import read_standing

__all__ = ["Streams", "stream_routes"]

_log = structlog.get_logger()

_MOST = 16
_LOOK_S = 1.0
_SESSION_S = 60.0
_EVENTS = 200
_IN_SUMMARY = ("counts", "switch", "risks", "unprotected")


@dataclass(eq=False)
class _Watcher:
    """What has not been sent to one stream yet: the newest of each topic and key; None: the key is gone."""

    waits: dict[str, dict[str, Any]] = field(default_factory=dict)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = 0

    def tell(self, number: int, news: dict[str, dict[str, Any]]) -> None:
        for topic, items in news.items():
            self.waits.setdefault(topic, {}).update(items)
        self.number = number
        self.called.set()

    def taken(self) -> dict[str, dict[str, Any]]:
        found, self.waits = self.waits, {}
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
        self._watchers: set[_Watcher] = set()
        self._looker: asyncio.Task[None] | None = None
        self._seen = SeenChanges()
        self._number = 0
        self._boot = secrets.token_hex(4)
        self._stopped = asyncio.Event()
        self._looked = asyncio.Event()
        self._standing: Any = None

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

    def watch(self, caller: Caller, last: str | None) -> AsyncIterator[bytes]:
        """The events of a new stream. Raises Refused(503, TOO_MANY_STREAMS)."""
        if len(self._watchers) >= _MOST:
            raise Refused(503, "TOO_MANY_STREAMS", f"{_MOST} pages are open already: close one.", retry_after=30)
        return self._events(caller, last)

    async def _events(self, caller: Caller, last: str | None) -> AsyncIterator[bytes]:
        watcher = _Watcher()
        self._watchers.add(watcher)
        if not self.looks:
            self._seen = SeenChanges()
            self._looked.clear()
            self._looker = asyncio.create_task(self._look())
        loop = asyncio.get_running_loop()
        looked = loop.time()
        try:
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
                for topic, items in watcher.taken().items():
                    yield _event(topic, _grouped(items), f"{self._boot}-{watcher.number}")
        finally:
            self._watchers.discard(watcher)

    def _id(self) -> str:
        return f"{self._boot}-{self._number}"

    async def _look(self) -> None:
        """Read each second while a stream is open. If the ledger is away, say so and try again."""
        while self._watchers and not self._stopped.is_set():
            try:
                news = await self._news()
            except Exception as error:  # noqa: BLE001 - whatever it is, the page has to show that its data is old
                _log.warning("api_stream_look_failed", kind=type(error).__name__)
                news = {"away": {"": {"at": datetime.now(UTC)}}}
            self._number += 1
            self._looked.set()
            news.setdefault("tick", {"": {"at": datetime.now(UTC)}})
            for watcher in self._watchers:
                watcher.tell(self._number, news)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._stopped.wait()

    async def _news(self) -> dict[str, dict[str, Any]]:
        ledger, account = self._sources.ledger, self._sources.account
        found = await changes_since(ledger, account, self._seen)
        news: dict[str, dict[str, Any]] = {}
        if found.orders or found.orders_gone:
            changed = {row["order_key"]: lists.described_order_line(row) for row in found.orders}
            news["orders"] = {**dict.fromkeys(found.orders_gone), **changed}
        if found.trades or found.trades_gone:
            alone = await self._sources.unwatched({row["symbol"] for row in found.trades})
            changed = {row["entry_key"]: lists.described_trade_line(row, alone) for row in found.trades}
            news["trades"] = {**dict.fromkeys(found.trades_gone), **changed}
        if found.prices:
            news["prices"] = {price["symbol"]: price for price in found.prices}
        if found.events_from is not None:
            rows = await lists.events(ledger, account, limit=_EVENTS)
            fresh = [event_line(row) for row in rows if row["id"] > found.events_from]
            news["audit"] = {str(line["id"]): line for line in reversed(fresh)}
        standing = await read_standing(ledger, account, self._sources.streams, self._sources.unwatched)
        shown = {name: standing[name] for name in _IN_SUMMARY} | {"today": await self._sources.today()}
        if shown != self._standing:
            self._standing = shown
            news["summary"] = {"": shown}
        return news


def _grouped(items: dict[str, Any]) -> dict[str, Any]:
    """Changed rows and the keys of those that are gone; for a topic without keys, its one value."""
    if set(items) == {""}:
        value: dict[str, Any] = items[""]
        return value
    changed = [item for item in items.values() if item is not None]
    return {"changed": changed, "gone": [key for key, item in items.items() if item is None]}


def _event(topic: str, data: dict[str, Any], number: str) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (topic.encode(), number.encode(), orjson.dumps(as_plain(data)))


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
        events = streams.watch(caller_of(request), last_event_id)
        return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return router
