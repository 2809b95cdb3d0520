"""Messages of Coinbase's streams, turned into the port's events. Pure; used for live streams and for recordings.

A message is parsed item by item: an order that can't be parsed becomes a `MalformedMessage`, and the others are still
delivered. An unknown channel or type becomes one, too; known channels without data for us give no events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from domain.orders import Side
from exchange.coinbase.parse import candle, fraction_of_percent, known_status, order_from_stream, size_for_sure, time_of
from exchange.port import (
    BookLevel,
    BookUpdate,
    CandleUpdate,
    Heartbeat,
    MalformedMessage,
    OrderEvent,
    PublicTrade,
    StreamEvent,
    Ticker,
)
from exchange.reading import MessageError, UnknownMessageError, not_negative, number_or_none, positive, side_of, text_of

__all__ = ["CHANNELS", "SNAPSHOT_BATCH", "events_of", "malformed", "orders_in", "subscribe"]

CHANNELS: Mapping[str, str] = {"ticker": "ticker", "trades": "market_trades", "candles": "candles", "book": "level2"}
"""The port's channel → the venue's name for it."""

SNAPSHOT_BATCH = 50
"""The user channel's snapshot is split into messages of this many orders; the first with fewer is the last."""

_ZERO = Decimal(0)


def subscribe(channel: str, symbols: list[str], token: str | None = None, *, verb: str = "subscribe") -> str:
    """The text of one subscribe (or unsubscribe) message."""
    message: dict[str, Any] = {"type": verb, "product_ids": symbols, "channel": channel}
    if token is not None:
        message["jwt"] = token
    return orjson.dumps(message).decode()


def events_of(
    message: Mapping[str, Any], sequence: int, out: list[StreamEvent], *, latest: datetime | None = None
) -> None:
    """Append the events of a message to `out`. A time after `latest` is replaced by it.

    Raises:
        UnknownMessageError: the channel is unknown.
        MessageError: the envelope can't be parsed.
    """
    channel = message.get("channel")
    read = _READERS.get(channel) if isinstance(channel, str) else None
    if read is None:
        raise UnknownMessageError(f"unknown channel {channel!r}")
    at = time_of(message.get("timestamp"), "timestamp")
    if latest is not None and at > latest:
        # A time in the future would make all later facts look old.
        at = latest
    events = message.get("events")
    if not isinstance(events, list):
        raise MessageError("events is not a list")
    for event in events:
        if not isinstance(event, dict):
            _malformed(event, "an event is not an object", at, out)
            continue
        try:
            read(event, sequence, at, out)
        except Exception as problem:  # noqa: BLE001 - no message may stop a stream
            _malformed(event, f"{type(problem).__name__}: {problem}", at, out)


def orders_in(message: Mapping[str, Any]) -> tuple[int, bool, bool]:
    """The number of orders in a user message, and whether it has snapshot and update events."""
    count, snapshot, update = 0, False, False
    for event in message.get("events", ()):
        if isinstance(event, dict):
            orders = event.get("orders")
            count += len(orders) if isinstance(orders, list) else 0
            snapshot = snapshot or event.get("type") == "snapshot"
            update = update or event.get("type") == "update"
    return count, snapshot, update


def _malformed(raw: object, reason: str, at: datetime, out: list[StreamEvent]) -> None:
    try:
        text = orjson.dumps(raw).decode()
    except TypeError:  # nested too deeply to be serialized
        text = str(raw)
    out.append(MalformedMessage(text, reason, at, *size_for_sure(raw)))


def _is_snapshot(event: Mapping[str, Any]) -> bool:
    kind = event.get("type")
    if kind == "update":
        return False
    if kind == "snapshot":
        return True
    raise UnknownMessageError(f"unknown event type {kind!r}")


def _items(
    event: Mapping[str, Any],
    name: str,
    at: datetime,
    out: list[StreamEvent],
    read: Callable[[Mapping[str, Any], bool], StreamEvent],
    *,
    newest_first: bool = False,
) -> None:
    """Read every item of the list `name`; those that can't be parsed become `MalformedMessage`."""
    try:
        snapshot = _is_snapshot(event)
        items = event.get(name)
        if not isinstance(items, list):
            # The venue omits an empty list, or sends null.
            if items is None:
                return
            raise MessageError(f"{name} is not a list")
    except MessageError as problem:
        _malformed(event, str(problem), at, out)
        return
    for item in reversed(items) if newest_first else items:
        try:
            out.append(read(item, snapshot))
        except (MessageError, AttributeError) as problem:
            reason = str(problem) if isinstance(problem, MessageError) else f"an item of {name} is not an object"
            _malformed(item, reason, at, out)


def _user(event: Mapping[str, Any], sequence: int, at: datetime, out: list[StreamEvent]) -> None:
    def read(item: Mapping[str, Any], snapshot: bool) -> StreamEvent:
        order = order_from_stream(item, at)
        if not known_status(item.get("status")):
            _malformed(item, f"unknown order status {item.get('status')!r}, taken as pending", at, out)
        return OrderEvent(order, snapshot, sequence, at)

    _items(event, "orders", at, out, read)


def _ticker(event: Mapping[str, Any], sequence: int, at: datetime, out: list[StreamEvent]) -> None:
    def read(item: Mapping[str, Any], _: bool) -> StreamEvent:
        # An empty side of the book has no price (a bid of zero would trigger every stop); the other side is kept.
        return Ticker(
            text_of(item, "product_id"),
            positive(item.get("price"), "price"),
            _touch(item, "best_bid"),
            _touch(item, "best_ask"),
            at,
            fraction_of_percent(item.get("price_percent_chg_24_h")),
            number_or_none(item.get("volume_24_h")),
        )

    _items(event, "tickers", at, out, read)


def _touch(item: Mapping[str, Any], name: str) -> Decimal | None:
    return not_negative(item.get(name), name) or None


def _trades(event: Mapping[str, Any], sequence: int, at: datetime, out: list[StreamEvent]) -> None:
    def read(item: Mapping[str, Any], _: bool) -> StreamEvent:
        return PublicTrade(
            text_of(item, "product_id"),
            text_of(item, "trade_id"),
            positive(item.get("price"), "price"),
            positive(item.get("size"), "size"),
            side_of(item, "side"),
            min(time_of(item.get("time"), "time"), at),
        )

    _items(event, "trades", at, out, read, newest_first=True)


def _candles(event: Mapping[str, Any], sequence: int, at: datetime, out: list[StreamEvent]) -> None:
    first = len(out)

    def read(item: Mapping[str, Any], snapshot: bool) -> StreamEvent:
        return CandleUpdate(candle(item, text_of(item, "product_id")), snapshot)

    _items(event, "candles", at, out, read)
    # The venue's order varies; in the port, a symbol's last candle is the open one.
    if len(out) - first > 1:
        out[first:] = sorted(
            out[first:], key=lambda item: item.candle.start.timestamp() if isinstance(item, CandleUpdate) else 0.0
        )


_BOOK_SIDE: Mapping[object, Side] = {"bid": Side.BUY, "offer": Side.SELL, "ask": Side.SELL}


def _book(event: Mapping[str, Any], sequence: int, at: datetime, out: list[StreamEvent]) -> None:
    try:
        snapshot = _is_snapshot(event)
        symbol = text_of(event, "product_id")
        updates = event.get("updates") or []
        if not isinstance(updates, list):
            raise MessageError("updates is not a list")
    except MessageError as problem:
        _malformed(event, str(problem), at, out)
        return
    levels: list[BookLevel] = []
    for item in updates:
        try:
            price = positive(item.get("price_level"), "price_level")
            if item.get("new_quantity") in (None, ""):
                raise MessageError("new_quantity is missing")
            size = not_negative(item["new_quantity"], "new_quantity")
            levels.append(BookLevel(_BOOK_SIDE[item.get("side")], price, size))
        except (KeyError, TypeError):
            _malformed(item, f"side is neither bid nor offer: {item.get('side')!r}", at, out)
        except AttributeError:
            _malformed(item, "a level is not an object", at, out)
        except MessageError as problem:
            _malformed(item, str(problem), at, out)
    out.append(BookUpdate(symbol, snapshot, levels, at))


def _heartbeat(event: Mapping[str, Any], sequence: int, at: datetime, out: list[StreamEvent]) -> None:
    counter = event.get("heartbeat_counter")
    try:
        out.append(Heartbeat(int(counter), at))  # type: ignore[arg-type]
    except (OverflowError, TypeError, ValueError):
        _malformed(event, f"heartbeat_counter is not a number: {counter!r}", at, out)


def _nothing(event: Mapping[str, Any], sequence: int, at: datetime, out: list[StreamEvent]) -> None:
    """A known channel without data for us."""


_READERS: Mapping[str, Callable[[Mapping[str, Any], int, datetime, list[StreamEvent]], None]] = {
    "user": _user,
    "ticker": _ticker,
    "ticker_batch": _ticker,
    "market_trades": _trades,
    "candles": _candles,
    "l2_data": _book,
    "heartbeats": _heartbeat,
    "subscriptions": _nothing,
    "status": _nothing,
    "futures_balance_summary": _nothing,
}


def malformed(frame: bytes, reason: str) -> MalformedMessage:
    """A frame that could not be parsed at all."""
    return MalformedMessage(frame.decode("utf-8", "backslashreplace"), reason, datetime.now(UTC))
