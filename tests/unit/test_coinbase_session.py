"""The frames of one connection: sequence, snapshot batches, odd and broken messages."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.orders import Side
from exchange.coinbase.recording import RecordingCheck
from exchange.coinbase.streams import CoinbaseSession
from exchange.coinbase.twins import Twins
from exchange.port import (
    BookUpdate,
    CandleUpdate,
    Gap,
    Heartbeat,
    MalformedMessage,
    OrderEvent,
    PublicTrade,
    SnapshotComplete,
    StreamEvent,
    Ticker,
)
from exchange.sequence import SequenceTracker
from exchange.streams import StreamStats, SubscriptionError

D = Decimal
STAMP = "2026-08-09T21:05:48.228568804Z"


def frame(channel: str, sequence: Any, *events: dict[str, Any], **more: Any) -> bytes:
    """A message as sent."""
    envelope = {"channel": channel, "timestamp": STAMP, "sequence_num": sequence, "events": list(events), **more}
    return json.dumps(envelope).encode()


def order(number: int, **more: Any) -> dict[str, Any]:
    """An order of the user channel."""
    return {
        "order_id": f"o-{number}", "client_order_id": f"c-{number}", "product_id": "BTC-USD", "order_side": "BUY",
        "status": "OPEN", "cumulative_quantity": "0", "avg_price": "0", "total_fees": "0", "number_of_fills": "0",
        **more,
    }  # fmt: skip


def batch(sequence: int, first: int, count: int, kind: str = "snapshot") -> bytes:
    """A user message with some orders."""
    return frame("user", sequence, {"type": kind, "orders": [order(first + number) for number in range(count)]})


def user_session() -> tuple[CoinbaseSession, StreamStats]:
    """A session of the user channel."""
    stats = StreamStats()
    return CoinbaseSession(["user", "heartbeats"], [], None, stats), stats


def names(events: list[StreamEvent]) -> list[str]:
    """The kinds of events."""
    return [type(event).__name__ for event in events]


def all_events(session: CoinbaseSession, frames: list[bytes]) -> list[StreamEvent]:
    """The events of frames, one after the other."""
    return [event for item in frames for event in session.receive(item)]


def test_a_snapshot_of_109_orders_is_complete_at_the_third_message() -> None:
    """50, 50 and 9 orders: the first message with fewer than 50 is the last."""
    session, _ = user_session()
    assert names(list(session.receive(batch(0, 0, 50)))) == ["OrderEvent"] * 50
    assert "SnapshotComplete" not in names(list(session.receive(batch(1, 50, 50))))
    last = session.receive(batch(2, 100, 9))
    assert last[-1] == SnapshotComplete(109)
    assert all(isinstance(event, OrderEvent) and event.snapshot for event in last[:-1])


def test_an_account_without_orders_has_a_complete_snapshot() -> None:
    """An empty list is complete at once."""
    session, _ = user_session()
    assert session.receive(batch(0, 0, 0)) == [SnapshotComplete(0)]


def test_exactly_fifty_orders_are_complete_at_the_next_user_message() -> None:
    """A full batch may have a successor; the first update shows that it had none."""
    session, _ = user_session()
    assert "SnapshotComplete" not in names(list(session.receive(batch(0, 0, 50))))
    events = session.receive(batch(1, 7, 1, "update"))
    assert names(list(events)) == ["OrderEvent", "SnapshotComplete"]
    assert events[-1] == SnapshotComplete(50)


def test_a_snapshot_with_a_missing_message_is_never_complete() -> None:
    """The gap is reported, the received orders are delivered, and the list is not reported as complete."""
    session, stats = user_session()
    events = all_events(session, [batch(0, 0, 50), batch(2, 100, 9), batch(3, 0, 1, "update")])
    assert [event for event in events if isinstance(event, Gap | SnapshotComplete)] == [
        Gap(1, 2, next(event.at for event in events if isinstance(event, Gap)))
    ]
    assert (stats.gaps, stats.missed) == (1, 1)


@pytest.mark.parametrize("order_of", list(permutations(range(3))))
def test_a_snapshot_is_complete_in_whatever_order_its_messages_come(order_of: tuple[int, ...]) -> None:
    """Late snapshot messages count when they arrive."""
    session, stats = user_session()
    frames = [batch(0, 0, 50), batch(1, 50, 50), batch(2, 100, 9)]
    events = all_events(session, [frames[number] for number in order_of])
    assert len({event.order.exchange_order_id for event in events if isinstance(event, OrderEvent)}) == 109
    assert [event for event in events if isinstance(event, SnapshotComplete)] == [SnapshotComplete(109)]
    assert stats.missed == 0


def test_a_repeat_is_dropped_and_a_late_order_is_delivered() -> None:
    """Totals of an order can be merged at any time; the same message twice is one message."""
    session, stats = user_session()
    events = all_events(
        session, [batch(0, 0, 1), batch(2, 2, 1, "update"), batch(1, 1, 1, "update"), batch(1, 1, 1, "update")]
    )
    assert [event.order.exchange_order_id for event in events if isinstance(event, OrderEvent)] == ["o-0", "o-2", "o-1"]
    assert (stats.gaps, stats.late, stats.repeats, stats.missed) == (1, 1, 1, 0)


def test_a_late_price_is_dropped() -> None:
    """A late ticker must not count as a new one."""
    stats = StreamStats()
    session = CoinbaseSession(["ticker"], ["BTC-USD"], None, stats)
    tick = {"type": "update", "tickers": [{"product_id": "BTC-USD", "price": "2", "best_bid": "1", "best_ask": "3"}]}
    assert names(
        all_events(session, [frame("ticker", 0, tick), frame("ticker", 2, tick), frame("ticker", 1, tick)])
    ) == [
        "Ticker",
        "Gap",
        "Ticker",
    ]
    assert stats.late == 1


def test_sequence_runs_over_all_channels() -> None:
    """Heartbeats and acknowledgements are numbered too: a jump in their numbers is a gap."""
    session, stats = user_session()
    beat = {"current_time": "2026-08-09 21:05:48.85 +0000 UTC m=+41691.2", "heartbeat_counter": 41691}
    text_beat = {**beat, "heartbeat_counter": "41692"}
    events = all_events(
        session,
        [batch(0, 0, 0), frame("subscriptions", 1, {"subscriptions": {"user": ["x"]}}), frame("heartbeats", 2, beat),
         frame("heartbeats", 4, text_beat)],
    )  # fmt: skip
    assert names(events) == ["SnapshotComplete", "Heartbeat", "Gap", "Heartbeat"]
    assert [event.counter for event in events if isinstance(event, Heartbeat)] == [41691, 41692]
    assert stats.heartbeats == 2


def test_market_messages() -> None:
    """Ticker, trades (oldest first), candles (oldest first) and book levels are read with exact numbers."""
    stats = StreamStats()
    session = CoinbaseSession(["ticker"], ["BTC-USD"], None, stats)
    trades = [
        {"product_id": "BTC-USD", "trade_id": str(number), "price": "2.5", "size": "1", "side": "SELL", "time": STAMP}
        for number in (12, 11)
    ]
    candles = [
        {"product_id": "BTC-USD", "start": start, "open": "1", "high": "2", "low": "1", "close": "2", "volume": "0"}
        for start in ("1786279800", "1786279500")
    ]
    levels = [
        {"side": "bid", "price_level": "1.50", "new_quantity": "3", "event_time": STAMP},
        {"side": "offer", "price_level": "2", "new_quantity": "0"},
    ]
    events = all_events(
        session,
        [
            frame("market_trades", 0, {"type": "snapshot", "trades": trades}),
            frame("candles", 1, {"type": "update", "candles": candles}),
            frame("l2_data", 2, {"type": "snapshot", "product_id": "BTC-USD", "updates": levels}),
            frame("status", 3, {"type": "snapshot", "products": []}),
        ],
    )
    assert [event.trade_id for event in events if isinstance(event, PublicTrade)] == ["11", "12"]
    starts = [event.candle.start for event in events if isinstance(event, CandleUpdate)]
    assert starts == sorted(starts)
    (book,) = [event for event in events if isinstance(event, BookUpdate)]
    assert [(level.side, level.price, level.size) for level in book.levels] == [
        (Side.BUY, D("1.5"), D(3)),
        (Side.SELL, D(2), D(0)),
    ]
    assert len(events) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "not JSON"), (b"", "not JSON"), (b"\xff\xfe", "not JSON"), (b"[1]", "not a JSON object"),
        (b"{}", "neither a channel"), (frame("user", None), "sequence_num"), (frame("user", True), "sequence_num"),
        (frame("user", -1), "sequence_num"), (frame("news", 0), "unknown channel 'news'"),
        (frame("user", 0, timestamp="soon"), "timestamp"), (b'{"channel": 5}', "neither a channel"),
        (frame("user", 0, events={"a": 1}), "events is not a list"),
        (frame("user", 0, {"type": "surprise"}), "unknown event type"),
        (frame("user", 0, {"type": "update", "orders": [5]}), "not an object"),
        (frame("user", 0, {"type": "update", "orders": {}}), "orders is not a list"),
        (frame("l2_data", 0, {"type": "update", "product_id": "A", "updates": [{"side": "up"}]}), "price_level"),
        (frame("l2_data", 0, {"type": "update", "product_id": "A", "updates": [
            {"side": "up", "price_level": "1", "new_quantity": "1"}]}), "side is neither"),
        (frame("l2_data", 0, {"type": "update", "product_id": "A", "updates": [
            {"side": "bid", "price_level": "1"}]}), "new_quantity is missing"),
        (frame("ticker", 0, {"type": "update", "tickers": [
            {"product_id": "A", "price": "1", "best_bid": "-1", "best_ask": "2"}]}), "best_bid can't be negative"),
        (frame("heartbeats", 0, {"heartbeat_counter": "x"}), "heartbeat_counter"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_an_event_and_the_stream_goes_on(text: bytes, words: str) -> None:
    """A broken or unknown message is kept with a reason, and the next one is read normally."""
    session, _ = user_session()
    # A message first, so that an error of the venue is not the first message.
    events = [event for event in session.receive(text) if isinstance(event, MalformedMessage)]
    assert len(events) == 1
    assert words in events[0].reason
    after = session.receive(batch(session._sequence.expected, 0, 1))
    assert "OrderEvent" in names(list(after))


def test_one_bad_order_does_not_take_the_others_with_it() -> None:
    """The good orders of a message are delivered, and the batch counts as received."""
    session, _ = user_session()
    bad = order(1, cumulative_quantity="lots")
    events = list(session.receive(frame("user", 0, {"type": "snapshot", "orders": [order(0), bad, order(2)]})))
    assert names(events) == ["OrderEvent", "MalformedMessage", "OrderEvent", "SnapshotComplete"]


def test_an_unknown_status_is_told_and_its_fills_are_kept() -> None:
    """The order is delivered as pending, and the unknown status is kept for inspection."""
    session, _ = user_session()
    odd = order(0, status="ON_HOLD", cumulative_quantity="1", filled_value="5")
    events = list(session.receive(frame("user", 0, {"type": "update", "orders": [odd]})))
    assert names(events) == ["MalformedMessage", "OrderEvent"]


def test_an_error_as_the_first_word_ends_the_connection_and_later_ones_do_not() -> None:
    """A refused subscription ends the connection; an error on a working connection is kept for inspection."""
    session, _ = user_session()
    error = b'{"type":"error","message":"authentication failure"}'
    with pytest.raises(SubscriptionError, match="authentication failure"):
        session.receive(error)
    session.receive(batch(0, 0, 0))
    assert names(list(session.receive(error))) == ["MalformedMessage"]


def test_the_book_is_asked_for_again_after_a_gap_but_not_at_each() -> None:
    """After a gap the book is unsubscribed and subscribed once, and again no sooner than two seconds later."""
    moment = 0.0
    session = CoinbaseSession(["level2"], ["BTC-USD"], None, StreamStats(), clock=lambda: moment)
    book = {"type": "update", "product_id": "BTC-USD", "updates": []}
    session.receive(frame("l2_data", 0, book))
    assert session.replies() == ()
    session.receive(frame("l2_data", 2, book))
    assert [json.loads(text)["type"] for text in session.replies()] == ["unsubscribe", "subscribe"]
    session.receive(frame("l2_data", 5, book))
    assert session.replies() == ()
    moment = 2.0
    assert [json.loads(text)["channel"] for text in session.replies()] == ["level2", "level2"]
    assert session.replies() == ()


def test_places_of_numbers() -> None:
    """New, after a gap, late, and repeated; each number is new once."""
    tracker = SequenceTracker()
    places = [tracker.place(number) for number in (0, 1, 4, 3, 3, 1, 2, 5)]
    assert [place.missed for place in places] == [0, 0, 2, 0, 0, 0, 0, 0]
    assert [place.late for place in places] == [False, False, False, True, False, False, True, False]
    assert [place.repeat for place in places] == [False, False, False, False, True, True, False, False]
    assert tracker.missed == 0


def test_a_huge_jump_is_counted_without_remembering_every_number() -> None:
    """An absurd sequence number uses no memory."""
    tracker = SequenceTracker()
    assert tracker.place(10**12).missed == 10**12
    assert tracker.missed == 10**12
    assert len(tracker.missing) <= 100_000


def test_a_ticker_carries_the_messages_time() -> None:
    """The venue's ticker has no time of its own."""
    session = CoinbaseSession(["ticker"], ["BTC-USD"], None, StreamStats())
    tick = {"type": "update", "tickers": [{"product_id": "BTC-USD", "price": "2", "best_bid": "1", "best_ask": "3"}]}
    (event,) = session.receive(frame("ticker", 0, tick))
    assert isinstance(event, Ticker)
    assert event.at.isoformat() == "2026-08-09T21:05:48.228568+00:00"


@pytest.mark.parametrize("nothing", ["", "0", None])
def test_an_empty_side_of_the_book_has_no_price_and_the_other_one_stands(nothing: object) -> None:
    """Stops use the bid, independent of asks, and a missing bid is None, never zero."""
    session = CoinbaseSession(["ticker"], ["BTC-USD"], None, StreamStats())
    row = {"product_id": "BTC-USD", "price": "2", "best_bid": "1", "best_ask": "3"}
    tickers = [row | {"best_ask": nothing}, row | {"best_bid": nothing}]
    events = session.receive(frame("ticker", 0, {"type": "update", "tickers": tickers}))
    assert [(event.bid, event.ask) for event in events if isinstance(event, Ticker)] == [(D(1), None), (None, D(3))]


def test_a_time_from_the_future_is_cut_to_ours_by_the_known_offset() -> None:
    """If the venue's clock is known to be a minute ahead, times up to a minute ahead are accepted, and no more."""
    told = datetime(2026, 8, 9, 21, 5, 48, tzinfo=UTC)
    session = CoinbaseSession(["ticker"], ["BTC-USD"], None, StreamStats(), venue_time=lambda: told.timestamp() + 60)
    beat = {"heartbeat_counter": 1}
    trade = {"product_id": "A", "trade_id": "1", "price": "1", "size": "1", "side": "BUY"}
    events = all_events(
        session,
        [
            frame("heartbeats", 0, beat, timestamp=(told + timedelta(seconds=59)).isoformat()),
            frame("heartbeats", 1, beat, timestamp=(told + timedelta(seconds=600)).isoformat()),
            frame("market_trades", 2, {"type": "update", "trades": [trade | {"time": "2027-01-01T00:00:00Z"}]}),
        ],
    )
    ahead = [(event.at - told).total_seconds() for event in events if isinstance(event, Heartbeat)]
    assert ahead == [59, 60]
    assert events[2].at <= told + timedelta(seconds=60)  # type: ignore[union-attr]


def twins(**aliases: str) -> Twins:
    """The twins by products that were read: BTC_USDC="BTC-USD"."""
    found = Twins()
    for symbol, alias in aliases.items():
        found.learn({"product_id": symbol.replace("_", "-"), "alias": alias})
    return found


def market_frames(name: str) -> list[bytes]:
    """One message of each market channel about the product."""
    row = {"product_id": name, "price": "2", "best_bid": "1", "best_ask": "3"}
    trade = {"product_id": name, "trade_id": "1", "price": "1", "size": "1", "side": "BUY", "time": STAMP}
    candle = {
        "product_id": name, "start": "1786279800", "open": "1", "high": "2", "low": "1", "close": "2", "volume": "0",
    }  # fmt: skip
    return [
        frame("ticker", 0, {"type": "update", "tickers": [row]}),
        frame("market_trades", 1, {"type": "update", "trades": [trade]}),
        frame("candles", 2, {"type": "update", "candles": [candle]}),
        frame("l2_data", 3, {"type": "update", "product_id": name, "updates": []}),
    ]


@pytest.mark.parametrize(
    ("symbols", "known", "asked", "told"),
    [
        (["BTC-USDC"], {"BTC_USDC": "BTC-USD"}, ["BTC-USD"], ["BTC-USDC"]),
        (["BTC-USD", "BTC-USDC"], {"BTC_USDC": "BTC-USD", "BTC_USD": ""}, ["BTC-USD"], ["BTC-USD", "BTC-USDC"]),
        (["BTC-USD", "ETH-USDC"], {"BTC_USDC": "BTC-USD", "ETH_USDC": "ETH-USD"}, ["BTC-USD", "ETH-USD"], ["BTC-USD"]),
        (["BTC-USDC"], {}, ["BTC-USDC"], ["BTC-USDC"]),
    ],
)
def test_what_comes_under_the_twins_name_is_told_of_each_product(
    symbols: list[str], known: dict[str, str], asked: list[str], told: list[str]
) -> None:
    """BTC-USDC is subscribed as BTC-USD, and messages of BTC-USD are delivered as its own; both may be watched at
    once."""
    session = CoinbaseSession(["ticker"], symbols, None, StreamStats(), twins=twins(**known))
    (opening,) = session.opening()
    assert json.loads(opening)["product_ids"] == asked
    events = all_events(session, market_frames("BTC-USD"))
    found = [event.candle.symbol if isinstance(event, CandleUpdate) else event.symbol for event in events]  # type: ignore[union-attr]
    assert found == told * 4


def test_a_product_without_a_twin_keeps_its_own_price() -> None:
    """USDT-USDC is a separate market: messages of USDT-USD are not its prices."""
    known = twins(USDT_USDC="", USDT_USD="")
    session = CoinbaseSession(["ticker"], ["USDT-USDC", "USDT-USD"], None, StreamStats(), twins=known)
    assert [event.symbol for event in session.receive(market_frames("USDT-USD")[0])] == ["USDT-USD"]  # type: ignore[union-attr]
    assert [event.symbol for event in session.receive(market_frames("USDT-USDC")[1])] == ["USDT-USDC"]  # type: ignore[union-attr]


def test_a_refusal_of_the_twins_name_names_the_product_too() -> None:
    """Only the refused product is left out of the stream of the others."""
    known = twins(BTC_USDC="BTC-USD")
    session = CoinbaseSession(["ticker"], ["BTC-USDC", "ETH-USD"], None, StreamStats(), twins=known)
    with pytest.raises(SubscriptionError, match="BTC-USDC"):
        session.receive(b'{"type": "error", "message": "BTC-USD is not a valid product"}')


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["update", "BTC-USD"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_no_message_however_strange_stops_a_stream(data: st.DataObject) -> None:
    """Any value in any place of any real message gives events, never an exception."""
    row = {
        "user": ("orders", order(0)),
        "ticker": ("tickers", {"product_id": "A", "price": "1", "best_bid": "1", "best_ask": "2"}),
        "market_trades": (
            "trades",
            {"product_id": "A", "trade_id": "1", "price": "1", "size": "1", "side": "BUY", "time": STAMP},
        ),
        "candles": (
            "candles",
            {"product_id": "A", "start": "1", "open": "1", "high": "1", "low": "1", "close": "1", "volume": "1"},
        ),
        "l2_data": ("updates", {"side": "bid", "price_level": "1", "new_quantity": "1"}),
        "heartbeats": ("heartbeat_counter", {}),
    }
    channel = data.draw(st.sampled_from(sorted(row)))
    name, item = row[channel]
    for key in [key for key in item if data.draw(st.integers(0, 4)) == 0]:
        item = {**item, key: data.draw(JSON)}
    event = {"type": "update", "product_id": "A", name: [item] if data.draw(st.integers(0, 5)) else data.draw(JSON)}
    message = {"channel": channel, "timestamp": STAMP, "sequence_num": 0, "events": [event]}
    for key in ("channel", "timestamp", "sequence_num", "events"):
        if data.draw(st.integers(0, 9)) == 0:
            message[key] = data.draw(JSON)
    session, _ = user_session()
    with contextlib.suppress(SubscriptionError):
        for result in session.receive(json.dumps(message).encode()):
            assert not isinstance(result, MalformedMessage) or "Error:" not in result.reason
    found = RecordingCheck()
    found.feed(json.dumps(message).encode())
    found.report()


def test_a_message_nested_beyond_reason_is_malformed() -> None:
    """A message that can be parsed but not serialized is kept all the same."""
    session, _ = user_session()
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    events = session.receive(frame("user", 0, {"type": "update", "orders": [deep]}))
    assert names(list(events)) == ["MalformedMessage"]
