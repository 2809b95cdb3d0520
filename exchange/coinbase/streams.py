"""Coinbase's side of a stream connection: subscriptions, and the meaning of each frame (PROTOCOLS, "Coinbase WS").

Rules: one sequence per connection over all channels. A jump is a `Gap`; a lower number is late or a repeat and is
dropped, except a late message of the user channel, whose totals are facts that can be merged at any time. After a gap
the order book is requested again. Market messages under another product's name are delivered for each product that was
subscribed to (`twins`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from exchange.coinbase.messages import SNAPSHOT_BATCH, events_of, malformed, orders_in, subscribe
from exchange.coinbase.twins import Twins
from exchange.port import BookUpdate, CandleUpdate, Gap, PublicTrade, SnapshotComplete, StreamEvent, Ticker
from exchange.reading import MessageError
from exchange.sequence import SequenceTracker
from exchange.streams import StreamStats, SubscriptionError

__all__ = ["CoinbaseSession", "SnapshotProgress"]

_BOOK_AGAIN_SECONDS = 2.0
"""Shortest time between two requests for the book, in seconds, however many gaps there are."""


class SnapshotProgress:
    """Follows the batches of the user channel's list of open orders on one connection, in any order of arrival.

    The list ends at the first user message with fewer than 50 orders; it is complete when no earlier message is
    missing.
    """

    __slots__ = ("_end", "_started", "complete", "orders")

    def __init__(self) -> None:
        self.complete = False
        self.orders = 0
        """Orders in the list so far."""
        self._started = False
        self._end: int | None = None

    def take(self, message: dict[str, Any], sequence: int, tracker: SequenceTracker) -> bool:
        """Note a user message that is new; True if it completes the list."""
        return self.note(*orders_in(message), sequence, tracker)

    def note(self, count: int, snapshot: bool, update: bool, sequence: int, tracker: SequenceTracker) -> bool:
        """The same for a message of which only the number of orders and the types of events are known."""
        if self.complete:
            return False
        if snapshot:
            self._started = True
            self.orders += count
        if (snapshot and count < SNAPSHOT_BATCH) or (update and self._started):
            self._end = sequence if self._end is None else min(self._end, sequence)
        return self.settle(tracker)

    def settle(self, tracker: SequenceTracker) -> bool:
        """True if the list has just become complete, for instance by a late message."""
        if self.complete or self._end is None or tracker.overflow:
            return False
        end = self._end
        self.complete = not any(number < end for number in tracker.missing)
        return self.complete


class CoinbaseSession:
    """One connection, from subscribing to its end.

    Args:
        channels: the venue's names, in order of subscription.
        symbols: products of the market channels; the user channel is always for all products.
        token: makes a new token for a subscription; needed for the user channel only.
        stats: counts messages.
        twins: the names under which the market channels report the products.
        refused: called if the first message of a connection is a refusal, for instance of its token.
        venue_time: the venue's time as far as known, Unix seconds; later times in messages are replaced by it.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        channels: Sequence[str],
        symbols: Sequence[str],
        token: Callable[[], str] | None,
        stats: StreamStats,
        *,
        twins: Twins | None = None,
        refused: Callable[[], None] | None = None,
        venue_time: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channels = tuple(channels)
        twins = twins or Twins()
        self._symbols = twins.subscribed(symbols)
        self._told_of = twins.heard(symbols)
        self._token = token
        self._stats = stats
        self._refused = refused
        self._venue_time = venue_time
        self._clock = clock
        self._sequence = SequenceTracker()
        self._snapshot = SnapshotProgress()
        self._book_wanted = False
        self._book_asked_at = float("-inf")

    @property
    def expects_heartbeats(self) -> bool:
        """Whether heartbeats were subscribed to."""
        return "heartbeats" in self._channels

    @property
    def ready(self) -> bool:
        """From the first message on: the venue sends snapshots before it confirms, and numbers every message."""
        return True

    def opening(self) -> Sequence[str]:
        """One subscribe message a channel, each with a new token if there is a key."""
        return [self._message(channel) for channel in self._channels]

    def _message(self, channel: str, verb: str = "subscribe") -> str:
        symbols = [] if channel in ("user", "heartbeats") else self._symbols
        return subscribe(channel, symbols, self._token() if self._token else None, verb=verb)

    def replies(self) -> Sequence[str]:
        """After a gap: drop the book and request it again."""
        if not self._book_wanted or self._clock() - self._book_asked_at < _BOOK_AGAIN_SECONDS:
            return ()
        self._book_wanted, self._book_asked_at = False, self._clock()
        return (self._message("level2", "unsubscribe"), self._message("level2"))

    def receive(self, frame: bytes) -> Sequence[StreamEvent]:
        """The events of a frame.

        Raises:
            SubscriptionError: the first message of the connection was an error.
        """
        out: list[StreamEvent] = []
        try:
            message = orjson.loads(frame)
        except orjson.JSONDecodeError:
            return self._malformed(frame, "not JSON", out)
        if type(message) is not dict:
            return self._malformed(frame, "not a JSON object", out)
        channel = message.get("channel")
        if type(channel) is not str:
            return self._without_channel(frame, message, out)
        sequence = message.get("sequence_num")
        if type(sequence) is not int or sequence < 0:
            return self._malformed(frame, f"sequence_num is not a number: {sequence!r}", out)
        channels = self._stats.channels
        channels[channel] = channels.get(channel, 0) + 1
        if sequence == self._sequence.expected:
            self._sequence.expected = sequence + 1
        elif not self._out_of_order(sequence, channel, out):
            return out
        try:
            events_of(message, sequence, out, latest=datetime.fromtimestamp(self._venue_time(), UTC))
        except MessageError as problem:
            return self._malformed(frame, str(problem), out)
        if self._told_of and channel != "user":
            out = self._by_product(out)
        if channel == "heartbeats":
            self._stats.heartbeats += 1
        elif channel == "user" and self._snapshot.take(message, sequence, self._sequence):
            out.append(SnapshotComplete(self._snapshot.orders))
        return out

    def _by_product(self, events: list[StreamEvent]) -> list[StreamEvent]:
        """The events under the names of the products that were subscribed to."""
        out: list[StreamEvent] = []
        for event in events:
            if isinstance(event, CandleUpdate):
                candle = event.candle
                out += [
                    replace(event, candle=replace(candle, symbol=symbol))
                    for symbol in self._told_of.get(candle.symbol, (candle.symbol,))
                ]
            elif isinstance(event, Ticker | PublicTrade | BookUpdate):
                out += [replace(event, symbol=symbol) for symbol in self._told_of.get(event.symbol, (event.symbol,))]
            else:
                out.append(event)
        return out

    def _out_of_order(self, sequence: int, channel: str, out: list[StreamEvent]) -> bool:
        """Note an unexpected number; True if the message should be read."""
        expected = self._sequence.expected
        arrival = self._sequence.place(sequence)
        stats = self._stats
        if arrival.missed:
            stats.gaps += 1
            stats.missed += arrival.missed
            self._book_wanted = "level2" in self._channels
            out.append(Gap(expected, sequence, datetime.now(UTC)))
            return True
        if arrival.late:
            stats.late += 1
            stats.missed -= 1
            if channel == "user":
                return True
            if self._snapshot.settle(self._sequence):
                out.append(SnapshotComplete(self._snapshot.orders))
            return False
        stats.repeats += 1
        return False

    def _without_channel(self, frame: bytes, message: dict[str, Any], out: list[StreamEvent]) -> list[StreamEvent]:
        if message.get("type") != "error":
            return self._malformed(frame, "neither a channel nor an error", out)
        words = str(message.get("message") or message.get("reason") or "no reason given")
        meant = [symbol for name, symbols in self._told_of.items() if name in words for symbol in symbols]
        if meant:
            words = f"{words} ({', '.join(meant)})"
        if not self._sequence.expected:
            if self._refused is not None:
                self._refused()
            raise SubscriptionError(words)
        return self._malformed(frame, f"the venue reports an error: {words}", out)

    def _malformed(self, frame: bytes, reason: str, out: list[StreamEvent]) -> list[StreamEvent]:
        self._stats.malformed += 1
        out.append(malformed(frame, reason))
        return out
