"""The self-restoring connection, with servers that misbehave on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from exchange.coinbase.streams import CoinbaseSession
from exchange.port import BookUpdate, Connected, Disconnected, Gap, Heartbeat, MalformedMessage, StreamEvent, Ticker
from exchange.streams import ReconnectingStream, ReconnectSettings, StreamStats
from tests.support.waiting import SLACK

FAST = ReconnectSettings(backoff_first=0.01, backoff_cap=0.05)
Handler = Callable[[ServerConnection], Awaitable[None]]


def tick(sequence: int, price: str = "2") -> str:
    """A ticker message."""
    row = {"product_id": "BTC-USD", "price": price, "best_bid": "1", "best_ask": "3"}
    return json.dumps(
        {
            "channel": "ticker",
            "timestamp": "2026-08-09T21:05:48.298032046Z",
            "sequence_num": sequence,
            "events": [{"type": "update", "tickers": [row]}],
        }
    )


@contextlib.asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[str]:
    """A WebSocket server. Yields its address."""
    async with serve(handler, "127.0.0.1", 0, ssl=tls, compression=None, **options) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"


def stream_of(
    url: str, settings: ReconnectSettings = FAST, *, channels: Sequence[str] = ("ticker",), **options: Any
) -> ReconnectingStream:
    """A ticker stream."""
    stats = StreamStats()
    return ReconnectingStream(
        url, lambda: CoinbaseSession(channels, ["BTC-USD"], None, stats), settings=settings, stats=stats, **options
    )


async def take(stream: ReconnectingStream, count: int, seconds: float = 8.0) -> list[StreamEvent]:
    """The next events."""
    async with asyncio.timeout(SLACK * seconds):
        return [await anext(stream) for _ in range(count)]


def kinds(events: list[StreamEvent]) -> list[str]:
    """Their names."""
    return [type(event).__name__ for event in events]


async def test_tls_is_checked_against_the_given_root(tmp_path: Path) -> None:
    """With the right root the stream runs; with another it says why not."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    good, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(str(good))
    trustme.CA().cert_pem.write_to_path(str(other))

    async def handler(connection: ServerConnection) -> None:
        await connection.send(tick(0))
        await connection.wait_closed()

    async with server(handler, tls) as url:
        stream = stream_of(url, ca_file=good)
        assert kinds(await take(stream, 2)) == ["Connected", "Ticker"]
        await stream.aclose()
        for wrong in (other, None):
            stream = stream_of(url, ca_file=wrong)
            (event,) = await take(stream, 1)
            assert isinstance(event, Disconnected)
            assert "TLS failed" in event.reason
            await stream.aclose()


async def test_a_frame_of_many_megabytes_is_read() -> None:
    """A full book is 5 MB, above the libraries' usual limits."""
    levels = [
        {"side": "bid", "event_time": "2026-08-09T21:05:48.170326Z", "price_level": f"{n}.25", "new_quantity": "0.5"}
        for n in range(1, 46001)
    ]
    event = {"type": "snapshot", "product_id": "BTC-USD", "updates": levels}
    text = json.dumps({"channel": "l2_data", "timestamp": "2026-08-09T21:05:48Z", "sequence_num": 0, "events": [event]})
    assert len(text) > 4 << 20

    async def handler(connection: ServerConnection) -> None:
        await connection.send(text)
        await connection.wait_closed()

    async with server(handler) as url:
        stream = stream_of(url, channels=["level2"])
        events = await take(stream, 2)
        assert isinstance(events[1], BookUpdate)
        assert len(events[1].levels) == 46000
        await stream.aclose()


async def test_a_frame_beyond_the_limit_is_a_lost_connection() -> None:
    """The limit protects memory; the stream continues with a new connection."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(tick(0))
        await connection.send("x" * 100_000)
        await connection.wait_closed()

    async with server(handler) as url:
        stream = stream_of(url, ReconnectSettings(backoff_first=0.01, max_message_bytes=10_000))
        assert kinds(await take(stream, 4)) == ["Connected", "Ticker", "Disconnected", "Connected"]
        await stream.aclose()


async def test_silence_is_noticed_by_the_idle_watchdog() -> None:
    """A connected but silent server is disconnected after the idle time."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(tick(0))
        await connection.wait_closed()

    async with server(handler) as url:
        stream = stream_of(url, ReconnectSettings(idle=0.4, backoff_first=0.01))
        events = await take(stream, 4)
        assert kinds(events) == ["Connected", "Ticker", "Disconnected", "Connected"]
        assert isinstance(events[2], Disconnected)
        assert events[2].reason == "nothing came for 0.4 s"
        assert events[2].failures == 0
        await stream.aclose()


async def test_a_peer_that_answers_no_ping_is_left() -> None:
    """Without heartbeats, pings detect a half-open socket."""
    closing = asyncio.Event()

    async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import base64
        import hashlib

        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(
            line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())  # noqa: S324 - defined by the protocol
        text = tick(0).encode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            b"\x81\x7e" + len(text).to_bytes(2, "big") + text
        )
        await closing.wait()
        writer.close()

    running = await asyncio.start_server(raw, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    stream = stream_of(url, ReconnectSettings(ping_interval=0.2, ping_timeout=0.2, backoff_first=0.01))
    events = await take(stream, 3)
    assert kinds(events) == ["Connected", "Ticker", "Disconnected"]
    assert isinstance(events[2], Disconnected)
    assert "ping" in events[2].reason
    await stream.aclose()
    closing.set()
    running.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\nhello", b"\x16\x03\x01 not http\r\n\r\n"])
async def test_a_server_that_speaks_something_else_is_a_failure(answer: bytes) -> None:
    """Neither a closed port nor another protocol ends the stream."""

    async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    running = await asyncio.start_server(raw, "127.0.0.1", 0)
    stream = stream_of(f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}")
    events = await take(stream, 2)
    assert [event.failures for event in events if isinstance(event, Disconnected)] == [1, 2]
    await stream.aclose()
    running.close()


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    """A server that accepts and never answers costs only the open timeout."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"ws://127.0.0.1:{mute.getsockname()[1]}"
        stream = stream_of(url, ReconnectSettings(open_timeout=0.2, backoff_first=0.01))
        (event,) = await take(stream, 1, 3)
        assert isinstance(event, Disconnected)
        assert "too long" in event.reason
        await stream.aclose()


async def test_the_name_is_looked_up_at_every_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the venue's address changes, the next connection uses it."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(tick(0))

    async with server(handler) as url:
        port = int(url.rpartition(":")[2])
        asked: list[str] = []
        real = asyncio.get_running_loop().getaddrinfo

        async def look_up(host: str, *rest: Any, **more: Any) -> Any:
            asked.append(host)
            return await real("127.0.0.1" if host == "venue.test" else host, *rest, **more)

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        stream = stream_of(f"ws://venue.test:{port}")
        await take(stream, 6)
        await stream.aclose()
    assert asked == ["venue.test"] * 2


async def test_an_unknown_name_is_a_failure_with_its_reason() -> None:
    """A name that does not resolve is tried again and reported."""
    stream = stream_of("ws://no-such-host.invalid")
    (event,) = await take(stream, 1, 20)
    assert isinstance(event, Disconnected)
    assert event.failures == 1
    assert event.reason
    await stream.aclose()


async def test_pauses_grow_and_start_anew_after_a_stable_connection() -> None:
    """Short connections lead to growing pauses, even if each had a frame; a stable one resets them."""
    lives = iter([0.0, 0.0, 0.0, 0.4, 0.0])

    async def handler(connection: ServerConnection) -> None:
        await connection.send(tick(0))
        await asyncio.sleep(next(lives))

    async with server(handler) as url:
        settings = ReconnectSettings(backoff_first=0.02, backoff_cap=10, stable_after=0.3)
        stream = stream_of(url, settings, jitter=lambda: 1.0)
        events = await take(stream, 14)
        lost = [event for event in events if isinstance(event, Disconnected)]
        # The fourth connection was stable, so the pause after it is the shortest again, a quarter of a second.
        assert [event.retry_in for event in lost] == [0.25, 0.02, 0.04, 0.25]
        assert {event.failures for event in lost} == {0}
        await stream.aclose()


async def test_closing_the_iterator_closes_the_connection() -> None:
    """Nothing is left running, whether the consumer ends the stream or is cancelled while it waits."""
    gone: asyncio.Queue[bool] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        await connection.send(tick(0))
        with contextlib.suppress(ConnectionClosed):
            await connection.wait_closed()
        gone.put_nowait(True)

    async def consume(stream: ReconnectingStream) -> None:
        async for _ in stream:
            pass

    async with server(handler) as url:
        stream = stream_of(url)
        await take(stream, 2)
        await stream.aclose()
        assert await asyncio.wait_for(gone.get(), SLACK * 5)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        second = stream_of(url)
        task = asyncio.create_task(consume(second))
        async with asyncio.timeout(SLACK * 5):
            while True:
                if second.stats.connected:
                    break
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await asyncio.wait_for(gone.get(), SLACK * 5)
        await second.aclose()


async def test_each_subscription_has_its_own_token_and_comes_first() -> None:
    """A connection's subscribe messages are sent before anything is read, again for every connection."""
    seen: list[str] = []

    async def handler(connection: ServerConnection) -> None:
        seen.extend([json.loads(await connection.recv())["channel"] for _ in range(2)])
        await connection.send(tick(0))

    async with server(handler) as url:
        stream = stream_of(url, channels=["ticker", "heartbeats"])
        await take(stream, 6)
        await stream.aclose()
    assert seen[:4] == ["ticker", "heartbeats"] * 2


async def test_binary_and_broken_frames_are_read_as_they_are() -> None:
    """Bytes that are not text are malformed, not the end; a binary frame with JSON is read like text."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(tick(0).encode())
        await connection.send(b"\xff\xfe\x00")
        await connection.send(tick(2))
        await connection.wait_closed()

    async with server(handler) as url:
        stream = stream_of(url)
        events = await take(stream, 5)
        assert [type(event) for event in events] == [Connected, Ticker, MalformedMessage, Gap, Ticker]
        assert (stream.stats.messages, stream.stats.malformed) == (3, 1)
        await stream.aclose()


@pytest.mark.parametrize("url", ["http://host", "ws://", "host:80", ""])
def test_a_wrong_address_is_an_error_at_once(url: str) -> None:
    """A stream that could never run is not created."""
    with pytest.raises(ValueError, match="stream address"):
        stream_of(url)


def test_a_ca_file_that_is_missing_is_an_error_at_once(tmp_path: Path) -> None:
    """The trust root is read when the stream is created."""
    with pytest.raises(ValueError, match="CA file"):
        stream_of("wss://host", ca_file=tmp_path / "none.pem")


async def test_what_was_sent_before_the_end_is_delivered_to_a_slow_reader() -> None:
    """Unread frames when the venue closes are not lost; the reason of the end comes after them."""
    closed = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        for number in range(50):
            await connection.send(tick(number))
        await connection.close(1001, "going away")
        closed.set()

    async with server(handler) as url:
        stream = stream_of(url)
        events = await take(stream, 2)
        await asyncio.wait_for(closed.wait(), SLACK * 5)
        events += await take(stream, 50)
        assert kinds(events) == ["Connected", *["Ticker"] * 50, "Disconnected"]
        assert isinstance(events[-1], Disconnected)
        assert events[-1].reason == "the venue closed the connection (1001: going away)"
        await stream.aclose()


class Confirmed:
    """A session of a venue that confirms each of two subscriptions, the second after a question of its own."""

    expects_heartbeats = False

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._replies: list[str] = []

    @property
    def ready(self) -> bool:
        """Both are confirmed."""
        return {"first", "second"} <= set(self.seen)

    def opening(self) -> Sequence[str]:
        """The first subscription."""
        return ["first?"]

    def receive(self, frame: bytes) -> Sequence[StreamEvent]:
        """Each message is an event; a question has a reply."""
        text = frame.decode()
        self.seen.append(text)
        if text.endswith("?"):
            self._replies.append(text[:-1] + "!")
        elif text == "first":
            self._replies.append("second?")
        return [Heartbeat(len(self.seen), datetime.now(UTC))]

    def replies(self) -> Sequence[str]:
        """What is to be answered."""
        replies, self._replies = self._replies, []
        return replies


async def test_a_stream_is_connected_once_every_subscription_is_confirmed() -> None:
    """`Connected` comes after the last confirmation, and what came before it is delivered after it."""

    async def handler(connection: ServerConnection) -> None:
        assert await connection.recv() == "first?"
        await connection.send("first")
        assert await connection.recv() == "second?"
        await connection.send("something")
        await connection.send("second")
        await connection.wait_closed()

    async with server(handler) as url:
        stream = ReconnectingStream(url, Confirmed, settings=FAST, stats=StreamStats())
        events = await take(stream, 4)
        assert kinds(events) == ["Connected", "Heartbeat", "Heartbeat", "Heartbeat"]
        assert [event.counter for event in events if isinstance(event, Heartbeat)] == [1, 2, 3]
        await stream.aclose()


async def test_a_subscription_that_is_never_confirmed_is_a_failure_each_time() -> None:
    """Messages alone don't make a connection: without all confirmations it ends, and the failures add up."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send("first")
        await connection.wait_closed()

    async with server(handler) as url:
        settings = ReconnectSettings(backoff_first=0.01, backoff_cap=0.05, first_frame=0.2)
        stream = ReconnectingStream(url, Confirmed, settings=settings, stats=StreamStats())
        events = await take(stream, 2)
        assert [event.failures for event in events if isinstance(event, Disconnected)] == [1, 2]
        assert "not every subscription confirmed within 0.2 s" in str(events[0])
        await stream.aclose()


async def test_a_question_is_answered_before_its_event_is_handled() -> None:
    """A consumer that is busy with an event delays no answer that the venue is waiting for."""
    answered = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("first")
        await connection.recv()
        await connection.send("second")
        await connection.send("alive?")
        assert await connection.recv() == "alive!"
        answered.set()
        await connection.wait_closed()

    async with server(handler) as url:
        stream = ReconnectingStream(url, Confirmed, settings=FAST, stats=StreamStats())
        await take(stream, 4)  # up to the question's event, after which nobody reads
        async with asyncio.timeout(SLACK * 8):
            await answered.wait()
        await stream.aclose()


async def test_the_first_message_goes_out_after_the_pause_that_the_venue_asks_for() -> None:
    """With `settle` nothing is sent so long after the handshake."""
    times: list[float] = []

    def shaking_hands(*_: object) -> None:
        times.append(asyncio.get_running_loop().time())

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        times.append(asyncio.get_running_loop().time())
        await connection.send("first")
        await connection.recv()
        await connection.send("second")
        await connection.wait_closed()

    async with server(handler, process_request=shaking_hands) as url:
        settings = ReconnectSettings(backoff_first=0.01, settle=0.3)
        stream = ReconnectingStream(url, Confirmed, settings=settings, stats=StreamStats())
        await take(stream, 1)
        assert times[1] - times[0] >= 0.29
        await stream.aclose()
