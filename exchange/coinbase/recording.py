"""A recording of Coinbase's streams, read by the production parsers: what came, what is missing, what it adds up to.

A recording is JSON Lines: `{"sent": message}`, `{"received": message}` or a bare message a line; a frame that was no
JSON is kept as a string; `{"disconnected": …}` ends a connection. Otherwise a connection ends where the sequence starts
again: at 0, or, after something was sent, at any number below the expected one with a newer timestamp.

Each numbered message counts once per connection: repeats change nothing, and a late one is put in its place, so that
books, trades and orders come out as if everything had arrived in order; only an order's fills are its steps as they
came, because that is how they would be booked. Prices and averages that don't divide evenly
are rounded half-even to 28 significant digits; everything else is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import orjson

from domain.money import EXACT, ZERO, plain
from domain.orders import AttemptStatus, Report, Side, Totals, fill_between, merge
from exchange.coinbase.messages import events_of, orders_in
from exchange.coinbase.parse import MessageError, time_of
from exchange.coinbase.streams import SnapshotProgress
from exchange.port import (
    BookLevel,
    BookUpdate,
    MalformedMessage,
    OrderEvent,
    PublicTrade,
    StreamEvent,
    Ticker,
)
from exchange.sequence import Arrival, SequenceTracker

__all__ = ["RecordingCheck"]

_RATIO = Context(prec=28, rounding=ROUND_HALF_EVEN)
_CANDLE = timedelta(minutes=5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_MISSING = 100_000
"""Missing numbers remembered one by one below a recording's first; more are only counted."""


def _ratio(numerator: Decimal, denominator: Decimal) -> str | None:
    return plain(_RATIO.divide(numerator, denominator)) if denominator else None


class _Book:
    """One product's book. Levels carry the number of the message that set them while an earlier one is missing."""

    __slots__ = ("_newest", "_since", "connection", "sides")

    def __init__(self) -> None:
        self.sides: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}
        self.connection = 0
        self._since: int | None = None
        self._newest: dict[tuple[Side, Decimal], int] = {}

    def apply(self, update: BookUpdate, connection: _Connection, sequence: int) -> None:
        """Take an update in its place, whenever it comes."""
        if connection.number != self.connection:
            self.sides = {Side.BUY: {}, Side.SELL: {}}
            self._since, self.connection = None, connection.number
            self._newest.clear()
        late = connection.late
        keep = late or connection.cut or bool(connection.tracker.missing)
        if not keep:
            self._newest.clear()
        if self._since is not None and sequence < self._since:
            return
        if update.snapshot:
            self._replace(update, sequence)
            return
        newest, sides = self._newest, self.sides
        for level in update.levels:
            key = (level.side, level.price)
            if late and newest.get(key, -1) > sequence:
                continue
            if keep:
                newest[key] = sequence
            _set(sides[level.side], level)

    def _replace(self, update: BookUpdate, sequence: int) -> None:
        # What a later message set stays, if the snapshot is the late one.
        later = {key: number for key, number in self._newest.items() if number > sequence}
        kept = [BookLevel(side, price, self.sides[side].get(price, ZERO)) for side, price in later]
        self.sides = {Side.BUY: {}, Side.SELL: {}}
        for level in (*update.levels, *kept):
            _set(self.sides[level.side], level)
        self._since, self._newest = sequence, later

    def complete(self, connection: _Connection) -> bool:
        """Whether it began with a snapshot on this connection and no message has been missed since."""
        since, tracker = self._since, connection.tracker
        return (
            since is not None
            and self.connection == connection.number
            and not tracker.overflow
            and not any(number > since for number in tracker.missing)
        )


def _set(side: dict[Decimal, Decimal], level: BookLevel) -> None:
    if level.size:
        side[level.price] = level.size
    else:
        side.pop(level.price, None)


@dataclass(slots=True)
class _Product:
    book: _Book | None = None
    trades: dict[str, PublicTrade] = field(default_factory=dict)
    ticker: Ticker | None = None
    ticker_place: tuple[int, int] = (0, -1)


@dataclass(slots=True)
class _Order:
    symbol: str
    side: Side
    client_order_id: str
    report: Report
    status: str
    status_place: tuple[int, int] = (0, -1)
    fills: list[dict[str, Any]] = field(default_factory=list)
    updates: int = 0


@dataclass(slots=True)
class _Connection:
    number: int
    line: int
    tracker: SequenceTracker
    lowest: int
    """The lowest number seen, or the first expected one."""
    cut: bool
    """The recording begins in its middle: numbers below the lowest may still come."""
    newest: datetime = _EPOCH
    """The newest message time."""
    first: bytes = b""
    late: bool = False
    """The message at hand is late."""
    user_messages: list[tuple[int, tuple[int, bool, bool]]] = field(default_factory=list)
    """Number and content (orders, in a snapshot, in an update) of the user channel's messages."""

    def reach_back(self, sequence: int) -> Arrival:
        """Take a number below the lowest: what lies between is missing."""
        first = max(sequence + 1, self.lowest - _MOST_MISSING)
        self.tracker.missing.update(range(first, self.lowest))
        self.tracker.overflow += first - sequence - 1
        self.lowest, self.cut = sequence, sequence > 0
        return Arrival(late=True)

    def snapshot(self) -> SnapshotProgress:
        """How far the list of open orders came, its messages taken in order."""
        progress = SnapshotProgress()
        for sequence, content in sorted(self.user_messages):
            progress.note(*content, sequence, self.tracker)
        return progress


class RecordingCheck:
    """Takes a recording line by line; `report` says what it holds."""

    def __init__(self) -> None:
        self._lines = 0
        self._sent = 0
        self._messages = 0
        self._channels: Counter[str] = Counter()
        self._connection: _Connection | None = None
        self._ended = False
        self._sent_since = False
        self._missed_before = 0
        self._gaps: list[dict[str, int]] = []
        self._late: list[dict[str, int]] = []
        self._repeats: list[dict[str, int]] = []
        self._unknown: list[dict[str, Any]] = []
        self._malformed: list[dict[str, Any]] = []
        self._errors: list[dict[str, Any]] = []
        self._products: dict[str, _Product] = {}
        self._orders: dict[str, _Order] = {}
        self._user_connection: _Connection | None = None

    @property
    def lines(self) -> int:
        """Lines taken so far."""
        return self._lines

    def feed(self, line: bytes) -> None:
        """Take the next line; whatever it holds, it is counted and never raises."""
        self._lines += 1
        line = line.strip()
        if not line:
            return
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._bad("not JSON, or cut off")
            return
        if not isinstance(entry, dict):
            self._bad("no JSON object")
        elif "received" in entry:
            self._messages += 1
            self._received(entry["received"])
        elif "sent" in entry:
            self._sent += 1
            self._sent_since = True
        elif "channel" in entry or "type" in entry:
            if entry.get("type") in ("subscribe", "unsubscribe") and "sequence_num" not in entry:
                self._sent += 1
                self._sent_since = True
                return
            self._messages += 1
            self._received(entry)
        elif "disconnected" in entry or "connected" in entry:
            self._ended = True
        else:
            self._bad("neither a message nor a recorder's line")

    def _bad(self, reason: str, *, unknown: bool = False) -> None:
        (self._unknown if unknown else self._malformed).append({"line": self._lines, "reason": reason})

    def _received(self, message: object) -> None:
        if isinstance(message, str):
            try:
                message = orjson.loads(message)
            except orjson.JSONDecodeError:
                self._bad("the frame is not JSON")
                return
        if not isinstance(message, dict):
            self._bad("the frame is no JSON object")
            return
        channel = message.get("channel")
        if not isinstance(channel, str):
            if message.get("type") == "error":
                words = str(message.get("message") or message.get("reason") or "")
                self._errors.append({"line": self._lines, "message": words})
            else:
                self._bad("neither a channel nor an error")
            return
        self._channels[channel] += 1
        sequence = message.get("sequence_num")
        if type(sequence) is not int or sequence < 0:
            self._bad(f"sequence_num is no number: {sequence!r}")
            return
        connection = self._connection_of(message, sequence)
        if self._placed(connection, sequence):
            self._read(connection, message, channel, sequence)

    # --- connections and sequence --------------------------------------------------------------------------------

    def _connection_of(self, message: Mapping[str, Any], sequence: int) -> _Connection:
        """The connection that a message belongs to: the one at hand, or a new one."""
        now = self._connection
        stamp = _stamp(message)
        if now is None or self._ended or self._starts_again(now, message, sequence, stamp):
            # A recording that begins without a word of ours may be cut from the middle of a connection.
            cut = now is None and not self._sent_since and not self._ended and sequence > 0
            if now is not None:
                self._missed_before += now.tracker.missed
            number = now.number + 1 if now else 1
            first = sequence if cut else 0
            now = _Connection(number, self._lines, SequenceTracker(first), first, cut)
            self._connection = now
        self._ended = self._sent_since = False
        if sequence == 0 and not now.first:
            now.first = orjson.dumps(message)
        now.newest = max(now.newest, stamp)
        return now

    def _starts_again(self, now: _Connection, message: Mapping[str, Any], sequence: int, stamp: datetime) -> bool:
        if sequence >= now.tracker.expected or (sequence in now.tracker.missing and not self._sent_since):
            return False
        if sequence > 0:
            return self._sent_since and stamp > now.newest
        if now.first:
            return self._sent_since or orjson.dumps(message) != now.first
        # The first message has been overtaken by later ones, or this is a new start.
        return stamp > now.newest

    def _placed(self, connection: _Connection, sequence: int) -> bool:
        """Whether the message is new on its connection; gaps, late ones and repeats are noted."""
        tracker = connection.tracker
        expected = tracker.expected
        below = connection.cut and sequence < connection.lowest
        arrival = connection.reach_back(sequence) if below else tracker.place(sequence)
        connection.late = arrival.late
        where = {"line": self._lines, "connection": connection.number, "sequence": sequence}
        if arrival.missed:
            self._gaps.append(
                {
                    "line": self._lines,
                    "connection": connection.number,
                    "expected": expected,
                    "received": sequence,
                    "missed": arrival.missed,
                }
            )
        elif arrival.late:
            self._late.append(where)
        elif arrival.repeat:
            self._repeats.append(where)
            return False
        return True

    # --- what the messages say -----------------------------------------------------------------------------------

    def _read(self, connection: _Connection, message: Mapping[str, Any], channel: str, sequence: int) -> None:
        events: list[StreamEvent] = []
        try:
            events_of(message, sequence, events)
        except MessageError as problem:
            self._bad(str(problem), unknown=str(problem).startswith("unknown"))
            return
        for event in events:
            take = _TAKE.get(type(event))
            if take is not None:
                take(self, event, connection, sequence)
        if channel == "user":
            self._user_connection = connection
            connection.user_messages.append((sequence, orders_in(message)))

    def _product(self, symbol: str) -> _Product:
        found = self._products.get(symbol)
        if found is None:
            found = self._products[symbol] = _Product()
        return found

    def _take_malformed(self, event: MalformedMessage, connection: _Connection, sequence: int) -> None:
        self._bad(event.reason, unknown=event.reason.startswith("unknown"))

    def _take_book(self, event: BookUpdate, connection: _Connection, sequence: int) -> None:
        product = self._product(event.symbol)
        if product.book is None:
            product.book = _Book()
        product.book.apply(event, connection, sequence)

    def _take_trade(self, event: PublicTrade, connection: _Connection, sequence: int) -> None:
        # Snapshots repeat trades; their ids say so.
        self._product(event.symbol).trades.setdefault(event.trade_id, event)

    def _take_ticker(self, event: Ticker, connection: _Connection, sequence: int) -> None:
        product, place = self._product(event.symbol), (connection.number, sequence)
        if place >= product.ticker_place:
            product.ticker, product.ticker_place = event, place

    def _take_order(self, event: OrderEvent, connection: _Connection, sequence: int) -> None:
        order = event.order
        totals = Totals(order.filled_size, order.filled_value, order.quote_fees, order.base_fees)
        news = Report.of_venue(order.status, totals)
        known = self._orders.get(order.exchange_order_id)
        venue_status = str(order.raw.get("status"))
        if known is None:
            known = self._orders[order.exchange_order_id] = _Order(
                order.symbol, order.side, order.client_order_id, Report(AttemptStatus.SUBMITTING), venue_status
            )
        before = known.report
        after = merge(before, news)
        place = (connection.number, sequence)
        if after.status is not before.status or (after.status is news.status and place >= known.status_place):
            known.status, known.status_place = venue_status, place
        known.report = after
        known.updates += 1
        fill = fill_between(before.totals, after.totals)
        if fill is not None:
            known.fills.append(
                {
                    "size": plain(fill.size),
                    "price": _ratio(fill.value, fill.size),
                    "value": plain(fill.value),
                    "fee": plain(fill.quote_fees),
                    "line": self._lines,
                }
            )

    # --- the report ----------------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Everything found so far, ready for JSON: counts are numbers; prices, sizes and money are strings."""
        now = self._connection
        missed = self._missed_before + (now.tracker.missed if now else 0)
        return {
            "lines": self._lines,
            "messages": self._messages,
            "sent": self._sent,
            "connections": now.number if now else 0,
            "channels": dict(sorted(self._channels.items())),
            "counts": {
                "gaps": len(self._gaps),
                "missed": missed,
                "late": len(self._late),
                "repeats": len(self._repeats),
                "unknown": len({item["line"] for item in self._unknown}),
                "malformed": len({item["line"] for item in self._malformed}),
                "errors": len(self._errors),
            },
            "gaps": self._gaps,
            "late": self._late,
            "repeats": self._repeats,
            "unknown": self._unknown,
            "malformed": self._malformed,
            "errors": self._errors,
            "products": {symbol: self._product_report(item) for symbol, item in sorted(self._products.items())},
            "orders": {order_id: _order_report(item) for order_id, item in self._orders.items()},
            "snapshot": self._snapshot_report(),
        }

    def _snapshot_report(self) -> dict[str, Any] | None:
        """The list of open orders on the newest connection with a user channel; None where there was none."""
        connection = self._user_connection
        if connection is None:
            return None
        snapshot = connection.snapshot()
        return {
            "complete": snapshot.complete,
            "orders": snapshot.orders,
            "connection": connection.number,
        }

    def _product_report(self, product: _Product) -> dict[str, Any]:
        ticker = product.ticker
        # Without a book, the touch is the ticker's.
        report: dict[str, Any] = {
            "best_bid": _plain_or_none(ticker.bid) if ticker is not None else None,
            "best_bid_size": None,
            "best_ask": _plain_or_none(ticker.ask) if ticker is not None else None,
            "best_ask_size": None,
            "depth": None,
            "book_complete": None,
        }
        book, connection = product.book, self._connection
        if book is not None and connection is not None:
            bids, asks = book.sides[Side.BUY], book.sides[Side.SELL]
            best_bid, best_ask = max(bids, default=None), min(asks, default=None)
            report |= {
                "best_bid": plain(best_bid) if best_bid is not None else None,
                "best_bid_size": plain(bids[best_bid]) if best_bid is not None else None,
                "best_ask": plain(best_ask) if best_ask is not None else None,
                "best_ask_size": plain(asks[best_ask]) if best_ask is not None else None,
                "depth": {
                    "bids": {"levels": len(bids), "size": plain(_sum(bids.values()))},
                    "asks": {"levels": len(asks), "size": plain(_sum(asks.values()))},
                },
                "book_complete": book.complete(connection),
            }
        if ticker is not None:
            report["ticker"] = {
                "price": plain(ticker.price),
                "best_bid": _plain_or_none(ticker.bid),
                "best_ask": _plain_or_none(ticker.ask),
                "at": _iso(ticker.at),
            }
        trades = product.trades.values()
        report["trades"] = {"count": len(trades), "size": plain(_sum(trade.size for trade in trades))}
        report["candles"] = _candles(product.trades)
        return report


def _plain_or_none(price: Decimal | None) -> str | None:
    return None if price is None else plain(price)


def _order_report(order: _Order) -> dict[str, Any]:
    totals = order.report.totals
    return {
        "client_order_id": order.client_order_id,
        "product_id": order.symbol,
        "side": order.side.value,
        "status": order.status,
        "filled_size": plain(totals.size),
        "average_price": _ratio(totals.value, totals.size),
        "filled_value": plain(totals.value),
        "fees": plain(totals.quote_fees),
        "updates": order.updates,
        "fills": order.fills,
    }


def _candles(trades: Mapping[str, PublicTrade]) -> list[dict[str, Any]]:
    """Five-minute candles of the trades, oldest first; a period without trades has none."""
    periods: dict[int, list[PublicTrade]] = {}
    for trade in sorted(trades.values(), key=_trade_order):
        periods.setdefault((trade.at - _EPOCH) // _CANDLE, []).append(trade)
    return [
        {
            "start": _iso(_EPOCH + period * _CANDLE),
            "open": plain(items[0].price),
            "high": plain(max(item.price for item in items)),
            "low": plain(min(item.price for item in items)),
            "close": plain(items[-1].price),
            "volume": plain(_sum(item.size for item in items)),
            "trades": len(items),
        }
        for period, items in sorted(periods.items())
    ]


def _trade_order(trade: PublicTrade) -> tuple[datetime, int, str]:
    return trade.at, int(trade.trade_id) if trade.trade_id.isdigit() else 0, trade.trade_id


def _sum(values: Any) -> Decimal:
    total = ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total


def _stamp(message: Mapping[str, Any]) -> datetime:
    try:
        return time_of(message.get("timestamp"), "timestamp")
    except MessageError:
        return _EPOCH


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


_TAKE: Mapping[type, Callable[[RecordingCheck, Any, _Connection, int], None]] = {
    MalformedMessage: RecordingCheck._take_malformed,
    BookUpdate: RecordingCheck._take_book,
    PublicTrade: RecordingCheck._take_trade,
    Ticker: RecordingCheck._take_ticker,
    OrderEvent: RecordingCheck._take_order,
}
