"""What Crypto.com's market channels say, as the port's events. Pure.

A message is read row by row: one that can't be parsed becomes a `MalformedMessage`, and the others are still delivered.
The venue tells the taker's side of a trade, the port the maker's. A ticker without a last price says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import orjson

from domain.orders import Side
from exchange.cryptocom.parse import Row, candle, levels, moment, row_of, rows_of, size_for_sure
from exchange.port import BookUpdate, CandleUpdate, MalformedMessage, PublicTrade, StreamEvent, Ticker
from exchange.reading import MessageError, not_negative, number_or_none, positive, side_of, text_of

__all__ = ["CHANNELS", "book_events", "each", "malformed", "malformed_row", "market_events", "subscribe"]

CHANNELS: Mapping[str, str] = {
    "ticker": "ticker.{}",
    "trades": "trade.{}",
    "candles": "candlestick.5m.{}",
    "book": "book.{}.50",
}
"""The port's channel → the venue's, with the instrument's name."""

_OTHER_SIDE: Mapping[Side, Side] = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


def subscribe(channels: Sequence[str], identity: int, nonce: int) -> str:
    """The text of a subscription. Books are sent as a snapshot and changes."""
    params: dict[str, object] = {"channels": list(channels)}
    if any(name.startswith("book.") for name in channels):
        params |= {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 100}
    return orjson.dumps({"id": identity, "method": "subscribe", "params": params, "nonce": nonce}).decode()


def malformed(frame: bytes, reason: str) -> MalformedMessage:
    """A frame that could not be parsed at all."""
    return MalformedMessage(frame.decode("utf-8", "backslashreplace"), reason, datetime.now(UTC))


def malformed_row(raw: object, reason: str, at: datetime) -> MalformedMessage:
    """A row that could not be parsed, with what is certain of it all the same."""
    try:
        text = orjson.dumps(raw).decode()
    except TypeError:  # nested too deeply to be serialized
        text = str(raw)
    return MalformedMessage(text, reason, at, *size_for_sure(raw))


def each(
    result: Row, what: str, at: datetime, out: list[StreamEvent], read: Callable[[Row], StreamEvent | None]
) -> None:
    """Append what `read` makes of each row."""
    for raw in rows_of(result, what):
        try:
            event = read(row_of(raw, f"a row of {what}"))
        except MessageError as problem:
            out.append(malformed_row(raw, str(problem), at))
        else:
            if event is not None:
                out.append(event)


def market_events(channel: str, result: Row, snapshot: bool, latest: datetime, out: list[StreamEvent]) -> bool:
    """Append the events of a message of a market channel but the book's. Whether the channel is known.

    Times after `latest` are replaced by it. Raises MessageError if the message has no list of rows.
    """
    name = str(result.get("instrument_name") or "")
    if channel == "ticker":
        each(result, channel, latest, out, lambda row: _ticker(row, name, latest))
    elif channel == "trade":
        first = len(out)
        each(result, channel, latest, out, lambda row: _trade(row, name, latest))
        out[first:] = out[first:][::-1]  # the venue's newest are first
    elif channel == "candlestick":
        first = len(out)
        each(result, channel, latest, out, lambda row: CandleUpdate(candle(row, name), snapshot))
        # In the port a symbol's last candle is the open one.
        out[first:] = sorted(
            out[first:], key=lambda item: item.candle.start.timestamp() if isinstance(item, CandleUpdate) else 0.0
        )
    else:
        return False
    return True


def _ticker(row: Row, name: str, latest: datetime) -> Ticker | None:
    if row.get("a") in (None, ""):
        return None
    return Ticker(
        str(row.get("i") or name) or text_of(row, "i"),
        positive(row.get("a"), "a"),
        _touch(row, "b"),
        _touch(row, "k"),
        min(moment(row.get("t"), "t"), latest),
        number_or_none(row.get("c")),
        number_or_none(row.get("v")),
    )


def _touch(row: Row, name: str) -> Decimal | None:
    # An empty side of the book has no price: a bid of zero would trigger every stop.
    return not_negative(row.get(name), name) or None


def _trade(row: Row, name: str, latest: datetime) -> PublicTrade:
    return PublicTrade(
        str(row.get("i") or name) or text_of(row, "i"),
        str(row.get("d") or "") or text_of(row, "d"),
        positive(row.get("p"), "p"),
        positive(row.get("q"), "q"),
        _OTHER_SIDE[side_of(row, "s")],
        min(moment(row.get("t"), "t"), latest),
    )


def book_events(row: Row, symbol: str, snapshot: bool, latest: datetime) -> BookUpdate:
    """A book, or the changes of one. Raises MessageError: a book with an unreadable level is no book."""
    sides = row if snapshot else row_of(row.get("update"), "update")
    found = [*levels(sides.get("bids"), Side.BUY), *levels(sides.get("asks"), Side.SELL)]
    at = min(moment(row["t"], "t"), latest) if row.get("t") else latest
    return BookUpdate(symbol, snapshot, found, at)
