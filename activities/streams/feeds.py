"""Market streams for a changing set of symbols, without interrupting the prices of those that stay.

A new symbol gets its own connection at once. When there are many connections, one for all symbols is opened, and the
others are closed only once it delivers: make before break. A symbol that the venue refuses by name (delisted or
mistyped) is left out, so that the others are not affected, and tried again each minute.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from activities.streams.positions import StreamPosition
from exchange.port import Connected, Disconnected, ExchangeError, Heartbeat, StreamEvent, Ticker

__all__ = ["Feed", "Feeds", "close_stream", "follow"]

log = structlog.get_logger(__name__)

_YIELD_EVERY = 100
_LONGEST_PAUSE = 30.0
_REFUSED_SECONDS = 60.0
_PRODUCT = re.compile(r"[A-Z0-9]+[-_][A-Z0-9]+")
_AHEAD = timedelta(days=1)
"""The market of a paper exchange may be a little ahead of its clock."""
_NOTHING_WANTED = timedelta(seconds=10)
"""Without symbols nothing can be missed; this is recorded this often."""
_HANDOVER_SECONDS = 1.0
"""A combined feed gets this long to deliver each symbol's first price before the feeds it replaces are closed."""


async def close_stream(stream: AsyncIterator[StreamEvent]) -> None:
    """End a stream's connection."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


async def follow(
    open_stream: Callable[[], AsyncIterator[StreamEvent]],
    take: Callable[[StreamEvent], Awaitable[None] | None],
    failed: Callable[[str, int], None],
) -> None:
    """Handle every event of a stream, for ever. A stream that ends or breaks is reopened with backoff.

    Streams reconnect automatically; this handles the remaining failures (`failed` is called with the reason and the
    number in a row).
    """
    failures = 0
    while True:
        stream: AsyncIterator[StreamEvent] | None = None
        try:
            stream = open_stream()
            count = 0
            async for event in stream:
                waiting = take(event)
                if waiting is not None:
                    await waiting
                if not isinstance(event, Disconnected):
                    failures = 0
                count += 1
                if count % _YIELD_EVERY == 0:
                    # A stream with much in hand never waits by itself, and signals must not wait for it.
                    await asyncio.sleep(0)
            reason = "the stream ended"
        except (ExchangeError, OSError, ValueError) as problem:
            reason = str(problem) or type(problem).__name__
        finally:
            if stream is not None:
                await close_stream(stream)
        failures += 1
        log.warning("stream broke", reason=reason, failures=failures)
        failed(reason, failures)
        await asyncio.sleep(min(_LONGEST_PAUSE, 0.5 * 2 ** min(failures, 8)))


def _mostly_idle(symbols: frozenset[str], wanted: frozenset[str]) -> bool:
    return len(symbols - wanted) > max(10, len(wanted))


@dataclass(slots=True, eq=False)
class Feed:
    """One connection and its symbols."""

    symbols: frozenset[str]
    connected: bool = False
    delivering: bool = False
    opened: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None
    heard: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it last received anything or was opened (our clock)."""
    clock: datetime | None = None
    """The exchange's time of the last message."""
    behind: bool = False
    """Its last message was older than `clock`."""

    def hears(self, at: datetime) -> None:
        """Record the exchange's time. One older message is late; two in a row mean that the clock was set back."""
        self.behind = self.clock is not None and at < self.clock and not self.behind
        if not self.behind:
            self.clock = at


class Feeds:
    """Keeps a connection for every wanted symbol.

    Args:
        open_stream: opens a stream of the given symbols.
        take: gets each event, with the feed that it came by.
        most: how many connections there may be before they are made one.
    """

    def __init__(
        self,
        open_stream: Callable[[Sequence[str]], AsyncIterator[StreamEvent]],
        take: Callable[[Feed, StreamEvent], None],
        failed: Callable[[Feed, str, int], None],
        *,
        most: int = 4,
    ) -> None:
        self._open_stream = open_stream
        self._take = take
        self._failed = failed
        self._most = most
        self._refused: dict[str, float] = {}
        self.feeds: list[Feed] = []

    @property
    def connected(self) -> bool:
        """Whether all connections are up."""
        return all(feed.connected for feed in self.feeds)

    @property
    def clock(self) -> datetime | None:
        """The exchange's time, by the most advanced feed; None before the first message."""
        return max((feed.clock for feed in self.feeds if feed.clock is not None), default=None)

    def note_heard(self, position: StreamPosition) -> None:
        """Record up to when all symbols were received: by the feed with the oldest message, not the newest."""
        now = datetime.now(UTC)
        if self.feeds:
            position.last_message_at = min(feed.heard for feed in self.feeds)
        elif position.last_message_at is None or now - position.last_message_at > _NOTHING_WANTED:
            position.last_message_at = now

    def ahead(self, start: datetime) -> bool:
        """Whether a candle opens long after the exchange's latest time (in a market that isn't sped up).

        It is left out, because as the newest one it would make all correct later ones look old.
        """
        clock = self.clock
        return clock is not None and start > clock + _AHEAD

    @property
    def refused(self) -> frozenset[str]:
        """Wanted symbols that the venue has refused by name."""
        return frozenset(self._refused)

    async def want(self, symbols: Iterable[str]) -> None:
        """Deliver all of `symbols` as soon as possible. Idempotent."""
        wanted = frozenset(symbols)
        self._refused = {symbol: until for symbol, until in self._refused.items() if symbol in wanted}
        waiting = {symbol for symbol, until in self._refused.items() if until > time.monotonic()}
        if waiting:
            wanted -= waiting
            await self._close([feed for feed in self.feeds if feed.symbols & waiting and not feed.delivering])
        for feed in self.feeds:
            if feed.task is not None and feed.task.done():
                feed.task.result()  # a defect of ours: the whole watcher starts anew
        await self._hand_over(wanted)
        covered = frozenset[str]().union(*(feed.symbols for feed in self.feeds))
        missing = wanted - covered
        if not wanted:
            await self._close(list(self.feeds))
        elif len(self.feeds) + bool(missing) > self._most or _mostly_idle(covered, wanted):
            # While a feed for all is there, or on its way, another one would only start the wait anew.
            if not any(wanted <= feed.symbols and not _mostly_idle(feed.symbols, wanted) for feed in self.feeds):
                self._start(wanted)
        elif missing:
            self._start(missing)

    async def close(self) -> None:
        """End all connections."""
        await self._close(list(self.feeds))

    def _start(self, symbols: frozenset[str]) -> None:
        feed = Feed(symbols)
        feed.task = asyncio.create_task(
            follow(
                lambda: self._open_stream(sorted(symbols)),
                lambda event: self._on_event(feed, event),
                lambda reason, failures: self._failed(feed, reason, failures),
            ),
            name=f"feed of {len(symbols)} symbols",
        )
        self.feeds.append(feed)

    def _on_event(self, feed: Feed, event: StreamEvent) -> None:
        if not isinstance(event, Disconnected):
            feed.heard = datetime.now(UTC)
        if isinstance(event, Ticker | Heartbeat):
            feed.hears(event.at)
        if isinstance(event, Ticker):
            feed.delivering = True
            if self._refused:
                self._refused.pop(event.symbol, None)
        elif isinstance(event, Connected):
            feed.connected = True
        elif isinstance(event, Disconnected):
            feed.connected = feed.delivering = feed.behind = False
            feed.clock = None
            for symbol in feed.symbols.intersection(_PRODUCT.findall(event.reason)):
                self._refused[symbol] = time.monotonic() + _REFUSED_SECONDS
        self._take(feed, event)

    async def _hand_over(self, wanted: frozenset[str]) -> None:
        """Close the feeds whose symbols a newer feed delivers."""
        now = time.monotonic()
        for index, feed in reversed(list(enumerate(self.feeds))):
            older = [other for other in self.feeds[:index] if other.symbols & wanted <= feed.symbols]
            if older and feed.delivering and now - feed.opened >= _HANDOVER_SECONDS:
                await self._close(older)
                return

    async def _close(self, feeds: list[Feed]) -> None:
        self.feeds = [feed for feed in self.feeds if feed not in feeds]
        tasks = [feed.task for feed in feeds if feed.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
