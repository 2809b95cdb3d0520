"""Crypto.com's side of a stream connection: logging in, subscribing, heartbeats, and the meaning of each frame.

The user stream logs in, then subscribes: executions, advanced orders, balances, and orders last, whose answer is the
list of those that are open. It is ready once orders and balances have answered, which they do at once; whether the
others are confirmed without anything to tell isn't documented, but a refusal is. The documents spell the channel of
advanced orders in two ways: both are subscribed to, and one may be refused. User channels have no sequence numbers, so
only REST can say what a lost connection missed. Books have: after a jump the book is requested again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import orjson

from domain.market import currencies
from exchange.cryptocom.answers import INVALID_NONCE, VenueAnswer
from exchange.cryptocom.known_orders import KnownOrders
from exchange.cryptocom.messages import book_events, each, malformed, malformed_row, market_events, subscribe
from exchange.cryptocom.parse import Row, balances_from, known_status, row_of, rows_of
from exchange.cryptocom.signing import CryptocomKey, RequestIds, envelope
from exchange.port import Balance, BalanceUpdate, Gap, Heartbeat, OrderEvent, SnapshotComplete, StreamEvent, VenueOrder
from exchange.reading import MessageError, number
from exchange.streams import StreamStats, SubscriptionError

__all__ = ["MOST_CHANNELS", "CryptocomMarketSession", "CryptocomUserSession"]

MOST_CHANNELS = 400
"""Subscriptions of one connection."""
_A_MESSAGE = 100
"""Channels in one message."""
_BOOK_AGAIN_SECONDS = 2.0
"""Shortest time between two requests for the same book, in seconds, however many jumps there are."""
_ORDERS, _TRADES, _BALANCE = "user.order", "user.trade", "user.balance"
_ADVANCED = ("user.advance.order", "user.advanced.order")


class _Session:
    """What both connections have in common.

    Args:
        ids: for requests; their time is the venue's.
        stats: counts messages.
        venue_time: the venue's time as far as known, Unix seconds; later times in messages are replaced by it.
    """

    def __init__(self, ids: RequestIds, stats: StreamStats, venue_time: Callable[[], float]) -> None:
        self._ids = ids
        self._stats = stats
        self._venue_time = venue_time
        self._replies: list[str] = []
        self._asked: dict[int, tuple[str, ...]] = {}
        """Subscriptions that were sent: id → channels."""
        self._answered: set[str] = set()

    @property
    def expects_heartbeats(self) -> bool:
        """The venue asks every half minute whether we are alive."""
        return True

    def replies(self) -> Sequence[str]:
        """What is to be sent: answers to heartbeats, and further subscriptions."""
        replies, self._replies = self._replies, []
        return replies

    def receive(self, frame: bytes) -> Sequence[StreamEvent]:
        """The events of a frame.

        Raises:
            SubscriptionError: the venue refused to log us in, or a subscription.
        """
        out: list[StreamEvent] = []
        try:
            message = orjson.loads(frame)
        except orjson.JSONDecodeError:
            return self._malformed(frame, "not JSON", out)
        if type(message) is not dict:
            return self._malformed(frame, "not a JSON object", out)
        method, identity = message.get("method"), message.get("id")
        if method == "public/heartbeat":
            self._heartbeat(identity, out)
            return out
        answer = VenueAnswer.of(200, message)
        if answer.code != 0:
            self._failed(frame, identity, answer, out)
            return out
        if method == "public/auth":
            self._logged_in()
            return out
        asked = self._asked.get(identity) if isinstance(identity, int) else None
        result = message.get("result")
        if not isinstance(result, Mapping) or "channel" not in result:
            if method == "subscribe" and asked is not None:
                self._answered.update(asked)
                return out
            return self._malformed(frame, f"neither a heartbeat nor a channel: {method!r}", out)
        self._read(frame, result, asked is not None, out)
        return out

    def _read(self, frame: bytes, result: Row, snapshot: bool, out: list[StreamEvent]) -> None:
        channel = str(result["channel"])
        channels = self._stats.channels
        channels[channel] = channels.get(channel, 0) + 1
        self._answered.add(str(result.get("subscription") or channel))
        latest = datetime.fromtimestamp(self._venue_time(), UTC)
        try:
            self._events(channel, result, snapshot, latest, out)
        except MessageError as problem:
            self._malformed(frame, str(problem), out)

    def _events(self, channel: str, result: Row, snapshot: bool, latest: datetime, out: list[StreamEvent]) -> None:
        raise NotImplementedError

    def _logged_in(self) -> None:
        """The venue knows who we are."""

    def _heartbeat(self, identity: object, out: list[StreamEvent]) -> None:
        self._stats.heartbeats += 1
        self._replies.append(orjson.dumps({"id": identity, "method": "public/respond-heartbeat"}).decode())
        out.append(Heartbeat(self._stats.heartbeats, datetime.fromtimestamp(self._venue_time(), UTC)))

    def _failed(self, frame: bytes, identity: object, answer: VenueAnswer, out: list[StreamEvent]) -> None:
        asked = self._asked.get(identity, ()) if isinstance(identity, int) else ()
        # Whose channel it was is known only where all that was asked for is one instrument's.
        symbols = {part for name in asked for part in name.split(".") if currencies(part)}
        words = f"{answer.message or answer.name} ({answer.code})" + (
            f" for {symbols.pop()}" if len(symbols) == 1 else ""
        )
        if not self._answered:
            raise SubscriptionError(words)
        self._malformed(frame, f"the venue reports an error: {words}", out)

    def _ask(self, *channels: str) -> str:
        identity, nonce = self._ids.next()
        self._asked[identity] = channels
        return subscribe(channels, identity, nonce)

    def _malformed(self, frame: bytes, reason: str, out: list[StreamEvent]) -> list[StreamEvent]:
        self._stats.malformed += 1
        out.append(malformed(frame, reason))
        return out


class CryptocomUserSession(_Session):
    """One connection for the account's own orders.

    Args:
        key: logs us in.
        known: the account's orders, shared with REST.
        refused: called if the venue refused the time of our log-in.
        account: called with the venue's id of the account, as often as it is told.
    """

    def __init__(
        self,
        key: CryptocomKey,
        known: KnownOrders,
        ids: RequestIds,
        stats: StreamStats,
        *,
        venue_time: Callable[[], float] = time.time,
        refused: Callable[[], None] | None = None,
        account: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(ids, stats, venue_time)
        self._key = key
        self._known = known
        self._refused = refused
        self._account = account
        self._spellings = set(_ADVANCED)
        self._balances: dict[str, Balance] = {}
        self._messages = 0

    @property
    def ready(self) -> bool:
        """Orders and balances have answered."""
        return {_ORDERS, _BALANCE} <= self._answered

    def opening(self) -> Sequence[str]:
        """The log-in."""
        return [orjson.dumps(envelope("public/auth", {}, self._ids, self._key)).decode()]

    def _logged_in(self) -> None:
        self._replies += [self._ask(name) for name in (_TRADES, *_ADVANCED, _BALANCE, _ORDERS)]

    def _failed(self, frame: bytes, identity: object, answer: VenueAnswer, out: list[StreamEvent]) -> None:
        asked = self._asked.get(identity, ()) if isinstance(identity, int) else ()
        self._spellings.difference_update(asked)
        if asked and asked[0] in _ADVANCED and self._spellings:
            return
        if answer.name == INVALID_NONCE and self._refused is not None:
            self._refused()
        if asked or not self.ready:
            # Without one of its channels the stream would be silent about a part of the account.
            raise SubscriptionError(f"{answer.message or answer.name} ({answer.code})")
        super()._failed(frame, identity, answer, out)

    def _events(self, channel: str, result: Row, snapshot: bool, latest: datetime, out: list[StreamEvent]) -> None:
        self._messages += 1
        if self._account is not None and isinstance(result.get("account_id"), str):
            self._account(str(result["account_id"]))
        kind = next((name for name in (_ORDERS, _TRADES, _BALANCE, *_ADVANCED) if channel.startswith(name)), "")
        if kind == _BALANCE:
            self._balance(result, latest, out)
        elif kind == _TRADES:
            self._trades(result, latest, out)
        elif kind:
            each(
                result, kind, latest, out, lambda row: self._order(row, snapshot, latest, out, advanced=kind != _ORDERS)
            )
            if kind == _ORDERS and snapshot:
                out.append(SnapshotComplete(len(rows_of(result, kind))))
        else:
            raise MessageError(f"unknown channel {channel!r}")

    def _order(
        self, row: Row, snapshot: bool, latest: datetime, out: list[StreamEvent], *, advanced: bool
    ) -> StreamEvent:
        order = self._known.order(row, advanced=advanced)
        if not known_status(row.get("status")):
            out.append(malformed_row(row, f"unknown order status {row.get('status')!r}, taken as pending", latest))
        if self._account is not None and isinstance(row.get("account_id"), str):
            self._account(str(row["account_id"]))
        return self._told(order, snapshot, latest)

    def _told(self, order: VenueOrder, snapshot: bool, latest: datetime) -> OrderEvent:
        return OrderEvent(order, snapshot, self._messages, min(order.updated_at or latest, latest))

    def _trades(self, result: Row, latest: datetime, out: list[StreamEvent]) -> None:
        """Each order that has traded is told once, with all executions of the message."""
        traded: dict[str, None] = {}
        for raw in rows_of(result, _TRADES):
            try:
                traded[self._known.fill(row_of(raw, "an execution")).exchange_order_id] = None
            except MessageError as problem:
                out.append(malformed_row(raw, str(problem), latest))
        for identity in traded:
            order = self._known.filled(identity)
            if order is not None:
                out.append(self._told(order, False, latest))

    def _balance(self, result: Row, latest: datetime, out: list[StreamEvent]) -> None:
        """Told every two seconds as prices move; news is only what changes an amount."""
        found = balances_from(result)
        if found != self._balances:
            self._balances = found
            out.append(BalanceUpdate(found, latest))


class CryptocomMarketSession(_Session):
    """One connection for public data.

    Args:
        channels: the venue's names, at most `MOST_CHANNELS`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        channels: Sequence[str],
        ids: RequestIds,
        stats: StreamStats,
        *,
        venue_time: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(ids, stats, venue_time)
        self._channels = tuple(channels)
        self._clock = clock
        self._book: dict[str, int | None] = {}
        """By subscription, the number of its last message; None while a new snapshot is awaited."""
        self._book_asked_at: dict[str, float] = {}

    @property
    def ready(self) -> bool:
        """Something was confirmed, or came."""
        return bool(self._answered)

    def opening(self) -> Sequence[str]:
        """Subscriptions, books apart from others."""
        books = [name for name in self._channels if name.startswith("book.")]
        others = [name for name in self._channels if not name.startswith("book.")]
        return [
            self._ask(*names[first : first + _A_MESSAGE])
            for names in (others, books)
            for first in range(0, len(names), _A_MESSAGE)
        ]

    def _events(self, channel: str, result: Row, snapshot: bool, latest: datetime, out: list[StreamEvent]) -> None:
        if channel in ("book", "book.update"):
            self._books(result, channel == "book", latest, out)
        elif not market_events(channel, result, snapshot, latest, out):
            raise MessageError(f"unknown channel {channel!r}")

    def _books(self, result: Row, snapshot: bool, latest: datetime, out: list[StreamEvent]) -> None:
        symbol, name = str(result.get("instrument_name") or ""), str(result.get("subscription") or "")
        for raw in rows_of(result, "the book"):
            row = row_of(raw, "a book")
            number_now = int(number(row.get("u"), "u"))
            if not snapshot:
                before, last = int(number(row.get("pu"), "pu")), self._book.get(name)
                if last is None:
                    self._book_again(name)
                    continue
                if before != last:
                    self._stats.gaps += 1
                    self._book[name] = None
                    out.append(Gap(last, before, datetime.now(UTC)))
                    self._book_again(name)
                    continue
            try:
                out.append(book_events(row, symbol, snapshot, latest))
            except MessageError:
                # What is left of the book is wrong now.
                self._book[name] = None
                self._book_again(name)
                raise
            self._book[name] = number_now

    def _book_again(self, name: str) -> None:
        now = self._clock()
        if name in self._channels and now - self._book_asked_at.get(name, float("-inf")) >= _BOOK_AGAIN_SECONDS:
            self._book_asked_at[name] = now
            self._replies.append(self._ask(name))
