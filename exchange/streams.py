"""A stream connection that restores itself, for any venue (INGEST-1).

One `ReconnectingStream` is one logical feed. It resolves the name and connects, lets the venue's `FrameSession`
subscribe and read, detects a dead connection (first frame, silence, missing heartbeats, pings), and connects again
after a jittered, exponentially growing pause. The consumer sees only events: `Connected`, the session's own, and
`Disconnected`. It reads at its own pace, and a slow consumer is never mistaken for a silent venue.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.frames import Opcode

from domain.errors import BotTraderError
from exchange.port import Connected, Disconnected, StreamEvent
from exchange.trust import client_context

__all__ = [
    "FrameSession",
    "FrameTap",
    "ReconnectSettings",
    "ReconnectingStream",
    "StreamStats",
    "SubscriptionError",
]

_JITTER = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectSettings:
    """All times in seconds of wall time."""

    open_timeout: float = 8.0
    """For name resolution, TCP, TLS and the WebSocket handshake."""
    settle: float = 0.0
    """From the handshake to our first message, where the venue asks for a pause."""
    first_frame: float = 8.0
    """From our first message until the venue has sent one and all subscriptions are confirmed."""
    idle: float = 90.0
    """Silence after which the connection counts as dead."""
    heartbeat: float = 8.0
    """Time without a heartbeat, if the venue sends them, after which the connection counts as dead; 0 = off."""
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    backoff_first: float = 0.5
    """Pause after the second consecutive failure; the first retry is within a quarter of a second."""
    backoff_cap: float = 60.0
    stable_after: float = 10.0
    """After a connection of this duration the pauses start at the shortest again."""
    max_message_bytes: int = 64 * 1024 * 1024
    """A full book is 5 MB."""
    compression: bool = False
    """permessage-deflate: less traffic, about twice the CPU time a message (19 µs against 10 µs for a ticker, both
    ends)."""


@dataclass(slots=True)
class StreamStats:
    """A stream's counters since it was opened; they only grow."""

    connections: int = 0
    disconnects: int = 0
    failures: int = 0
    """Consecutive attempts that ended before they were subscribed."""
    messages: int = 0
    gaps: int = 0
    missed: int = 0
    """Messages missed in gaps, less those that arrived late."""
    late: int = 0
    repeats: int = 0
    malformed: int = 0
    heartbeats: int = 0
    channels: dict[str, int] = field(default_factory=dict)
    connected: bool = False
    last_frame_at: datetime | None = None
    """When the newest frame before the last watchdog check arrived."""


class SubscriptionError(BotTraderError):
    """The venue refused a session's subscription as its first answer: connect again later."""

    code = "SUBSCRIPTION_REFUSED"


class FrameSession(Protocol):
    """The venue's protocol on one connection: what to send, and the meaning of frames. A new one for each
    connection."""

    @property
    def expects_heartbeats(self) -> bool:
        """Whether heartbeats were subscribed to; they are counted in the stats."""
        ...

    @property
    def ready(self) -> bool:
        """Whether everything is subscribed to: from then on nothing is missed. Asked after each message."""
        ...

    def opening(self) -> Sequence[str]:
        """Messages to send once connected."""
        ...

    def receive(self, frame: bytes) -> Sequence[StreamEvent]:
        """The events in a frame; a frame that can't be parsed is an event, not an error.

        Raises:
            SubscriptionError: the venue refused the subscription.
        """
        ...

    def replies(self) -> Sequence[str]:
        """Messages to send in reply to what was received; each is returned once. They are sent before the events of
        the message are handled, so that a slow consumer doesn't delay the answer to a heartbeat."""
        ...


class FrameTap(Protocol):
    """Gets every frame unchanged, for recordings."""

    def sent(self, text: str) -> None:
        """A message was sent."""
        ...

    def received(self, frame: bytes) -> None:
        """A frame was received."""
        ...

    def disconnected(self, reason: str) -> None:
        """The connection is gone; what follows belongs to another one."""
        ...


class _Connection(ClientConnection):
    """Keeps frames received before the end: the library drops unread frames when a connection ends."""

    unread: deque[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.unread = deque()

    def connection_lost(self, exc: Exception | None) -> None:
        frames = self.recv_messages.frames.queue
        parts: list[bytes] = []
        for frame in frames:
            parts = [*parts, bytes(frame.data)] if frame.opcode is Opcode.CONT else [bytes(frame.data)]
            if frame.fin:
                self.unread.append(b"".join(parts))
        frames.clear()
        super().connection_lost(exc)

    async def next_frame(self) -> bytes:
        """The next message.

        Raises:
            ConnectionClosed: there are no more.
        """
        try:
            return await self.recv(decode=False)  # type: ignore[return-value]
        except (ConnectionClosed, IndexError):
            # IndexError: the frame that woke the reader was moved to `unread` in the meantime.
            if self.unread:
                return self.unread.popleft()
            await self.wait_closed()
            raise self.protocol.close_exc from None


class _Watchdog:
    """Ends a connection that is silent while we read. Time in which the consumer is busy doesn't count."""

    def __init__(self, connection: ClientConnection, settings: ReconnectSettings, stats: StreamStats, heartbeats: bool):
        self._connection = connection
        self._idle = settings.idle
        self._heartbeat = settings.heartbeat if heartbeats else 0.0
        self._stats = stats
        limits = [limit for limit in (self._idle, self._heartbeat) if limit > 0]
        self._step = max(0.01, min(limits) / 16) if limits else 0.0
        self._seen_messages = stats.messages
        self._seen_heartbeats = stats.heartbeats
        self._silent = 0.0
        self._without_heartbeat = 0.0
        self._last_look = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.listening = True
        self.verdict = ""

    def start(self) -> None:
        self._last_look = asyncio.get_running_loop().time()
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._step:
            self._timer = asyncio.get_running_loop().call_later(self._step, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        # A process that was stopped or starved saw nothing because it did not read: one step counts, not the whole
        # pause.
        passed = min(now - self._last_look, 2 * self._step) if self.listening else 0.0
        self._last_look = now
        if self._stats.messages != self._seen_messages:
            self._seen_messages = self._stats.messages
            self._stats.last_frame_at = datetime.now(UTC)
            self._silent = 0.0
        else:
            self._silent += passed
        if self._stats.heartbeats != self._seen_heartbeats:
            self._seen_heartbeats = self._stats.heartbeats
            self._without_heartbeat = 0.0
        else:
            self._without_heartbeat += passed
        if self._idle and self._silent >= self._idle:
            self.verdict = f"nothing came for {self._idle:g} s"
        elif self._heartbeat and self._without_heartbeat >= self._heartbeat:
            self.verdict = f"no heartbeat for {self._heartbeat:g} s"
        if self.verdict:
            self._connection.transport.abort()
        else:
            self._arm()


class ReconnectingStream:
    """An endless iterator of events; `aclose` (or dropping it) ends the connection.

    Args:
        url: ws:// or wss:// address.
        open_session: makes the venue's side of one connection.
        prepare: awaited before each connection, to fetch what a session needs; it is bounded and raises nothing.
        stats: shared with the sessions, which count parsed messages.
        ca_file: PEM file to trust instead of the public authorities (wss only).
        tap: gets the frames unchanged.
        jitter: a number in 0…1, for the pauses.

    Raises:
        ValueError: the address is not a WebSocket address, or the CA file can't be read.
    """

    def __init__(
        self,
        url: str,
        open_session: Callable[[], FrameSession],
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        settings: ReconnectSettings,
        stats: StreamStats,
        ca_file: Path | str | None = None,
        tap: FrameTap | None = None,
        jitter: Callable[[], float] = _JITTER.random,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"a stream address looks like wss://host, not {url!r}")
        self._url = url
        self._open_session = open_session
        self._prepare = prepare
        self._settings = settings
        self._tap = tap
        self._jitter = jitter
        self.stats = stats
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "wss":
            try:
                self._tls = client_context(ca_file)
            except OSError as problem:
                raise ValueError(f"the CA file {ca_file} can't be used: {problem.strerror or problem}") from None
        self._events = self._run()

    def __aiter__(self) -> ReconnectingStream:
        return self

    def __anext__(self) -> Awaitable[StreamEvent]:
        return self._events.__anext__()

    async def aclose(self) -> None:
        """End the connection and the iterator."""
        await self._events.aclose()

    async def _run(self) -> AsyncGenerator[StreamEvent, None]:
        loop = asyncio.get_running_loop()
        stats, streak = self.stats, 0
        while True:
            stats.connections += 1
            started, reason, subscribed = loop.time(), "", False
            connection = self._connection()
            try:
                async for event in connection:
                    yield event
                reason = "the connection ended"
            except ConnectionClosed as closed:
                reason = _close_reason(closed)
            except (OSError, TimeoutError, WebSocketException, SubscriptionError) as problem:
                reason = _failure_reason(problem)
            finally:
                subscribed, stats.connected = stats.connected, False
                await connection.aclose()
            stats.disconnects += 1
            stats.failures = 0 if subscribed else stats.failures + 1
            streak = 0 if loop.time() - started >= self._settings.stable_after else streak + 1
            pause = self._pause(streak)
            if self._tap is not None:
                self._tap.disconnected(reason)
            yield Disconnected(reason, stats.failures, pause, datetime.now(UTC))
            await asyncio.sleep(pause)

    def _pause(self, streak: int) -> float:
        """Seconds: at first at most a quarter, then doubling up to the cap; each between half and all of that."""
        if streak <= 1:
            return min(0.25, self._settings.backoff_cap) * self._jitter()
        full = min(self._settings.backoff_cap, self._settings.backoff_first * 2.0 ** min(streak - 2, 32))
        return full * (0.5 + 0.5 * self._jitter())

    async def _connection(self) -> AsyncGenerator[StreamEvent, None]:
        settings, stats = self._settings, self.stats
        if self._prepare is not None:
            await self._prepare()
        session = self._open_session()
        connection = await self._connect()
        watchdog = _Watchdog(connection, settings, stats, session.expects_heartbeats)
        try:
            if settings.settle:
                await asyncio.sleep(settings.settle)
            events = await self._subscribed(connection, session)
            stats.failures, stats.connected = 0, True
            stats.last_frame_at = datetime.now(UTC)
            watchdog.start()
            watchdog.listening = False
            yield Connected(stats.connections, datetime.now(UTC))
            while True:
                for event in events:
                    yield event
                watchdog.listening = True
                frame = await connection.next_frame()
                watchdog.listening = False
                events = await self._received(connection, session, frame)
        except ConnectionClosed:
            if watchdog.verdict:
                raise TimeoutError(watchdog.verdict) from None
            raise
        finally:
            watchdog.stop()
            await connection.close()

    async def _subscribed(self, connection: _Connection, session: FrameSession) -> Sequence[StreamEvent]:
        """Subscribe. Returns the events of all messages up to the one that made the session ready.

        Raises:
            TimeoutError: it took too long.
        """
        events: list[StreamEvent] = []
        before = self.stats.messages
        try:
            async with asyncio.timeout(self._settings.first_frame):
                # Messages that the venue sent just before closing are still read.
                with contextlib.suppress(ConnectionClosed):
                    await self._send(connection, session.opening())
                events += await self._received(connection, session, await connection.next_frame())
                while not session.ready:
                    events += await self._received(connection, session, await connection.next_frame())
        except TimeoutError:
            missing = "no message" if self.stats.messages == before else "not every subscription confirmed"
            raise TimeoutError(f"{missing} within {self._settings.first_frame:g} s of subscribing") from None
        return events

    async def _received(self, connection: _Connection, session: FrameSession, frame: bytes) -> Sequence[StreamEvent]:
        """The events of a frame; what it has to be answered with is sent first."""
        if self._tap is not None:
            self._tap.received(frame)
        events = session.receive(frame)
        self.stats.messages += 1
        replies = session.replies()
        if replies:
            with contextlib.suppress(ConnectionClosed):
                await self._send(connection, replies)
        return events

    async def _connect(self) -> _Connection:
        """Each attempt resolves the name again: no address is cached here."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.open_timeout):
                connection = await connect(
                    self._url,
                    ssl=self._tls,
                    open_timeout=None,
                    close_timeout=1.0,
                    ping_interval=settings.ping_interval or None,
                    ping_timeout=settings.ping_timeout or None,
                    max_size=settings.max_message_bytes,
                    max_queue=1024,
                    compression="deflate" if settings.compression else None,
                    user_agent_header="bottrader",
                    create_connection=_Connection,
                )
            return cast(_Connection, connection)
        except (OSError, TimeoutError, WebSocketException):
            raise
        except Exception as problem:
            # Errors in reading the handshake are passed on unchanged: EOFError, ValueError and others.
            raise ConnectionError(f"the server does not speak WebSocket: {problem}") from problem

    async def _send(self, connection: ClientConnection, texts: Sequence[str]) -> None:
        for text in texts:
            await connection.send(text)
            if self._tap is not None:
                self._tap.sent(text)


def _close_reason(closed: ConnectionClosed) -> str:
    frame = closed.rcvd
    if frame is None:
        if closed.sent is None:
            return "the connection was cut"
        return f"closed by us: {closed.sent.reason or closed.sent.code}"
    return f"the venue closed the connection ({frame.code}{': ' + frame.reason if frame.reason else ''})"


def _failure_reason(problem: BaseException) -> str:
    if isinstance(problem, TimeoutError):
        return str(problem) or "connecting took too long"
    if isinstance(problem, InvalidStatus):
        return f"the venue refused the connection with status {problem.response.status_code}"
    if isinstance(problem, SubscriptionError):
        return f"the venue refused the subscription: {problem}"
    if isinstance(problem, InvalidURI):
        return "its address is not one of a stream"  # the library's text repeats it, and it may hold a password
    if isinstance(problem, ssl.SSLError):
        return f"TLS failed: {problem.reason or problem}"
    return str(problem) or type(problem).__name__
