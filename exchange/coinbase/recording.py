"""A recording of Coinbase's streams, read by the production parsers: its contents, its gaps, its sums.

A recording is JSON Lines: `{"sent": message}`, `{"received": message}` or a bare message a line; a frame that was not
JSON is kept as a string; `{"disconnected": …}` ends a connection. Otherwise a connection ends where the sequence starts
again: at 0, or, after something was sent, at any number below the expected one with a newer timestamp.

Each numbered message counts once per connection. Repeats change nothing, and a late message is applied at its place, so
books, trades and orders are the same as if everything had arrived in order. Only an order's fills are its steps in
order of arrival, because they would be booked in that order. Prices and averages that don't divide evenly are rounded
half-even to 28 significant digits; everything else is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

from domain.money import plain
from domain.orders import AttemptStatus, Report, Side, Totals, fill_between, merge
from exchange.coinbase.messages import events_of, orders_in
from exchange.coinbase.recorded import RecordedBook, RecordedConnection, RecordedOrder, RecordedProduct
from exchange.coinbase.recorded_sums import candles, iso, order_report, plain_or_none, ratio, stamp_of, sum_of
from exchange.port import BookUpdate, MalformedMessage, OrderEvent, PublicTrade, StreamEvent, Ticker
from exchange.reading import MessageError
from exchange.sequence import SequenceTracker

__all__ = ["RecordingCheck"]


class RecordingCheck:
    """Reads a recording line by line; `report` summarises it."""

    def __init__(self) -> None:
        self._lines = 0
        self._sent = 0
        self._messages = 0
        self._channels: Counter[str] = Counter()
        self._connection: RecordedConnection | None = None
        self._ended = False
        self._sent_since = False
        self._missed_before = 0
        self._gaps: list[dict[str, int]] = []
        self._late: list[dict[str, int]] = []
        self._repeats: list[dict[str, int]] = []
        self._unknown: list[dict[str, Any]] = []
        self._malformed: list[dict[str, Any]] = []
        self._errors: list[dict[str, Any]] = []
        self._products: dict[str, RecordedProduct] = {}
        self._orders: dict[str, RecordedOrder] = {}
        self._user_connection: RecordedConnection | None = None

    @property
    def lines(self) -> int:
        """Lines read so far."""
        return self._lines

    def feed(self, line: bytes) -> None:
        """Read the next line. Any content is counted; nothing raises."""
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
            self._bad("not a JSON object")
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
            self._bad("the frame is not a JSON object")
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
            self._bad(f"sequence_num is not a number: {sequence!r}")
            return
        connection = self._connection_of(message, sequence)
        if self._placed(connection, sequence):
            self._read(connection, message, channel, sequence)

    # --- connections and sequence --------------------------------------------------------------------------------

    def _connection_of(self, message: Mapping[str, Any], sequence: int) -> RecordedConnection:
        """The connection that a message belongs to: the current one, or a new one."""
        now = self._connection
        stamp = stamp_of(message)
        if now is None or self._ended or self._starts_again(now, message, sequence, stamp):
            # A recording that begins without a sent message may be cut from the middle of a connection.
            cut = now is None and not self._sent_since and not self._ended and sequence > 0
            if now is not None:
                self._missed_before += now.tracker.missed
            number = now.number + 1 if now else 1
            first = sequence if cut else 0
            now = RecordedConnection(number, self._lines, SequenceTracker(first), first, cut)
            self._connection = now
        self._ended = self._sent_since = False
        if sequence == 0 and not now.first:
            now.first = orjson.dumps(message)
        now.newest = max(now.newest, stamp)
        return now

    def _starts_again(
        self, now: RecordedConnection, message: Mapping[str, Any], sequence: int, stamp: datetime
    ) -> bool:
        if sequence >= now.tracker.expected or (sequence in now.tracker.missing and not self._sent_since):
            return False
        if sequence > 0:
            return self._sent_since and stamp > now.newest
        if now.first:
            return self._sent_since or orjson.dumps(message) != now.first
        # Either later messages have overtaken the first one, or this is a new connection.
        return stamp > now.newest

    def _placed(self, connection: RecordedConnection, sequence: int) -> bool:
        """Whether the message is new on its connection; gaps, late messages and repeats are counted."""
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

    # --- contents of the messages -----------------------------------------------------------------------------------

    def _read(self, connection: RecordedConnection, message: Mapping[str, Any], channel: str, sequence: int) -> None:
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

    def _product(self, symbol: str) -> RecordedProduct:
        found = self._products.get(symbol)
        if found is None:
            found = self._products[symbol] = RecordedProduct()
        return found

    def _take_malformed(self, event: MalformedMessage, connection: RecordedConnection, sequence: int) -> None:
        self._bad(event.reason, unknown=event.reason.startswith("unknown"))

    def _take_book(self, event: BookUpdate, connection: RecordedConnection, sequence: int) -> None:
        product = self._product(event.symbol)
        if product.book is None:
            product.book = RecordedBook()
        product.book.apply(event, connection, sequence)

    def _take_trade(self, event: PublicTrade, connection: RecordedConnection, sequence: int) -> None:
        # Snapshots repeat trades, with the same ids.
        self._product(event.symbol).trades.setdefault(event.trade_id, event)

    def _take_ticker(self, event: Ticker, connection: RecordedConnection, sequence: int) -> None:
        product, place = self._product(event.symbol), (connection.number, sequence)
        if place >= product.ticker_place:
            product.ticker, product.ticker_place = event, place

    def _take_order(self, event: OrderEvent, connection: RecordedConnection, sequence: int) -> None:
        order = event.order
        totals = Totals(order.filled_size, order.filled_value, order.quote_fees, order.base_fees)
        news = Report.of_venue(order.status, totals)
        known = self._orders.get(order.exchange_order_id)
        venue_status = str(order.raw.get("status"))
        if known is None:
            known = self._orders[order.exchange_order_id] = RecordedOrder(
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
                    "price": ratio(fill.value, fill.size),
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
            "orders": {order_id: order_report(item) for order_id, item in self._orders.items()},
            "snapshot": self._snapshot_report(),
        }

    def _snapshot_report(self) -> dict[str, Any] | None:
        """The list of open orders on the newest connection with a user channel; None if there was none."""
        connection = self._user_connection
        if connection is None:
            return None
        snapshot = connection.snapshot()
        return {
            "complete": snapshot.complete,
            "orders": snapshot.orders,
            "connection": connection.number,
        }

    def _product_report(self, product: RecordedProduct) -> dict[str, Any]:
        ticker = product.ticker
        # Without a book, the touch is the ticker's.
        report: dict[str, Any] = {
            "best_bid": plain_or_none(ticker.bid) if ticker is not None else None,
            "best_bid_size": None,
            "best_ask": plain_or_none(ticker.ask) if ticker is not None else None,
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
                    "bids": {"levels": len(bids), "size": plain(sum_of(bids.values()))},
                    "asks": {"levels": len(asks), "size": plain(sum_of(asks.values()))},
                },
                "book_complete": book.complete(connection),
            }
        if ticker is not None:
            report["ticker"] = {
                "price": plain(ticker.price),
                "best_bid": plain_or_none(ticker.bid),
                "best_ask": plain_or_none(ticker.ask),
                "at": iso(ticker.at),
            }
        trades = product.trades.values()
        report["trades"] = {"count": len(trades), "size": plain(sum_of(trade.size for trade in trades))}
        report["candles"] = candles(product.trades)
        return report


_TAKE: Mapping[type, Callable[[RecordingCheck, Any, RecordedConnection, int], None]] = {
    MalformedMessage: RecordingCheck._take_malformed,
    BookUpdate: RecordingCheck._take_book,
    PublicTrade: RecordingCheck._take_trade,
    Ticker: RecordingCheck._take_ticker,
    OrderEvent: RecordingCheck._take_order,
}
