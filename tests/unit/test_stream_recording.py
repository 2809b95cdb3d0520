"""The contents of a recording: counted per connection, never twice, and in sequence however late."""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.coinbase.recording import RecordingCheck

D = Decimal


def message(channel: str, sequence: int, *events: dict[str, Any], second: int = 0) -> dict[str, Any]:
    """A message; `second` sets its time."""
    stamp = f"2026-08-09T21:{second // 60:02d}:{second % 60:02d}.228568804Z"
    return {"channel": channel, "timestamp": stamp, "sequence_num": sequence, "events": list(events)}


def received(channel: str, sequence: int, *events: dict[str, Any], second: int = 0) -> dict[str, Any]:
    """A recorder's line."""
    return {"received": message(channel, sequence, *events, second=second)}


def check(*lines: Any) -> dict[str, Any]:
    """The report of some lines: objects are written as JSON, bytes as they are."""
    found = RecordingCheck()
    for line in lines:
        found.feed(line if isinstance(line, bytes) else json.dumps(line).encode())
    return found.report()


SENT = {"sent": {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"}}


def level(side: str, price: str, size: str) -> dict[str, Any]:
    """A change of a book level."""
    return {"side": side, "event_time": "2026-08-09T21:05:48Z", "price_level": price, "new_quantity": size}


def book(kind: str, *levels: dict[str, Any]) -> dict[str, Any]:
    """A level-2 event for BTC-USD."""
    return {"type": kind, "product_id": "BTC-USD", "updates": list(levels)}


def user(kind: str, **order: Any) -> dict[str, Any]:
    """A user event with one order."""
    full = {
        "order_id": "o", "client_order_id": "c", "product_id": "BTC-USD", "order_side": "BUY", "status": "OPEN",
        "cumulative_quantity": "0", "avg_price": "0", "total_fees": "0", **order,
    }  # fmt: skip
    return {"type": kind, "orders": [full]}


def trade(number: int, price: str, size: str, at: str) -> dict[str, Any]:
    """A public trade."""
    return {
        "product_id": "BTC-USD", "trade_id": str(number), "price": price, "size": size, "side": "BUY",
        "time": f"2026-08-09T{at}Z",
    }  # fmt: skip


BOOK = [
    received(
        "l2_data", 0, book("snapshot", level("bid", "99", "1"), level("bid", "98", "2"), level("offer", "101", "3"))
    ),
    received("l2_data", 1, book("update", level("bid", "99", "0"), level("offer", "100.5", "4"))),
    received("l2_data", 2, book("update", level("bid", "99.5", "5"), level("bid", "99", "7"))),
    received("l2_data", 3, book("update", level("bid", "99.5", "0"), level("offer", "100.5", "1"))),
]


def test_a_book_in_order() -> None:
    """Levels are absolute, zero removes, and depth is what remains."""
    item = check(SENT, *BOOK)["products"]["BTC-USD"]
    assert (item["best_bid"], item["best_bid_size"], item["best_ask"], item["best_ask_size"]) == (
        "99",
        "7",
        "100.5",
        "1",
    )
    assert item["depth"] == {"bids": {"levels": 2, "size": "9"}, "asks": {"levels": 2, "size": "4"}}
    assert item["book_complete"] is True


@pytest.mark.parametrize("order_of", list(permutations(range(4))))
def test_a_book_in_any_order_with_repeats(order_of: tuple[int, ...]) -> None:
    """Late and repeated messages give the same book as the right order."""
    lines = [BOOK[number] for number in order_of]
    doubled = [line for line in lines for _ in range(2)]
    report = check(SENT, *doubled)
    assert report["products"] == check(SENT, *BOOK)["products"]
    assert report["counts"]["missed"] == 0
    assert report["counts"]["repeats"] == 4
    assert report["connections"] == 1


def test_a_book_with_a_missing_message_is_not_called_complete() -> None:
    """A message missed after the snapshot may have changed it; a new snapshot completes it."""
    broken = check(SENT, BOOK[0], BOOK[1], BOOK[3])
    assert broken["products"]["BTC-USD"]["book_complete"] is False
    assert broken["gaps"] == [{"line": 4, "connection": 1, "expected": 2, "received": 3, "missed": 1}]
    assert broken["counts"]["missed"] == 1
    anew = received("l2_data", 4, book("snapshot", level("bid", "1", "1"), level("offer", "2", "1")))
    healed = check(SENT, BOOK[0], BOOK[1], BOOK[3], anew)["products"]["BTC-USD"]
    assert (healed["book_complete"], healed["best_bid"], healed["best_ask"]) == (True, "1", "2")


def test_an_empty_side_has_no_best_price() -> None:
    """Empty is not zero."""
    item = check(received("l2_data", 0, book("snapshot", level("bid", "1", "1"))))["products"]["BTC-USD"]
    assert (item["best_bid"], item["best_ask"], item["best_ask_size"]) == ("1", None, None)


def test_without_a_book_the_touch_is_the_tickers() -> None:
    """The newest ticker, whatever the order of arrival."""

    def tick(number: int, bid: str) -> dict[str, Any]:
        row = {"product_id": "BTC-USD", "price": "5", "best_bid": bid, "best_ask": "9"}
        return received("ticker", number, {"type": "update", "tickers": [row]}, second=number)

    item = check(SENT, tick(0, "1"), tick(2, "3"), tick(1, "2"))["products"]["BTC-USD"]
    assert (item["best_bid"], item["best_ask"], item["depth"], item["book_complete"]) == ("3", "9", None, None)
    assert item["ticker"]["price"] == "5"


def test_gaps_count_over_all_channels() -> None:
    """One sequence for all channels: a missing heartbeat between two tickers is a gap."""
    beat = {"current_time": "x", "heartbeat_counter": 1}
    report = check(received("ticker", 0), received("heartbeats", 1, beat), received("ticker", 4), received("ticker", 7))
    assert (report["counts"]["gaps"], report["counts"]["missed"]) == (2, 4)
    assert report["channels"] == {"heartbeats": 1, "ticker": 3}


@pytest.mark.parametrize(
    "between",
    [[SENT], [{"disconnected": "cut"}], [], [SENT, SENT, SENT]],
    ids=["subscribed again", "marked", "restarted at 0", "subscribed to three channels"],
)
def test_a_new_connection_starts_its_own_sequence(between: list[dict[str, Any]]) -> None:
    """A restart at 0 is neither a repeat nor a gap, with or without a subscribe line or a marker."""
    first = [received("ticker", number, second=number) for number in range(5)]
    second = [received("ticker", number, second=60 + number) for number in range(3)]
    report = check(SENT, *first, *between, *second)
    assert report["connections"] == 2
    assert {report["counts"][name] for name in ("gaps", "repeats", "late", "malformed")} == {0}


def test_a_gap_at_the_start_of_a_second_connection() -> None:
    """After a subscribe the first message should be 0; a newer message with a lower number is a new connection."""
    first = [received("ticker", number, second=number) for number in range(5)]
    second = [received("ticker", number, second=60 + number) for number in (2, 3)]
    report = check(SENT, *first, SENT, *second)
    assert report["connections"] == 2
    assert report["gaps"] == [{"line": 8, "connection": 2, "expected": 0, "received": 2, "missed": 2}]


def test_subscribing_again_on_the_same_connection_is_no_new_one() -> None:
    """The sequence continues: one connection."""
    report = check(SENT, received("ticker", 0), SENT, received("ticker", 1, second=1), received("ticker", 1, second=1))
    assert (report["connections"], report["counts"]["repeats"]) == (1, 1)


def test_the_first_message_twice_is_a_repeat() -> None:
    """A repeat of number 0 is not a new connection."""
    report = check(SENT, received("ticker", 0), received("ticker", 0), received("ticker", 1, second=1))
    assert (report["connections"], report["counts"]["repeats"], report["counts"]["gaps"]) == (1, 1, 0)


def test_a_recording_cut_from_the_middle_has_no_gap_at_its_start() -> None:
    """If nothing was sent before, the sequence starts at the first number."""
    report = check(message("ticker", 500), message("ticker", 501, second=1))
    assert (report["counts"]["gaps"], report["messages"]) == (0, 2)


def test_bare_messages_are_messages() -> None:
    """Lines without the recorder's wrapper are read the same, and subscribe lines among them count as sent."""
    bare = [line["received"] for line in BOOK]
    assert check(SENT["sent"], *bare) == check(SENT, *BOOK)


def test_what_is_broken_is_counted_by_line() -> None:
    """Every kind of broken line has its number and a reason; a frame that was not JSON is kept as text."""
    report = check(
        SENT,
        b'{"received": {"channel": "tick',
        {"received": "{broken"},
        {"received": [1]},
        [1],
        {"something": "else"},
        received("news", 0),
        received("ticker", 1, {"type": "update", "tickers": [{"product_id": "A", "price": "x"}]}),
        {"received": {"type": "error", "message": "no"}},
        {"received": message("ticker", 2) | {"sequence_num": "2"}},
        b"",
        b"\xff",
    )
    assert [item["line"] for item in report["malformed"]] == [2, 3, 4, 5, 6, 8, 10, 12]
    assert report["unknown"] == [{"line": 7, "reason": "unknown channel 'news'"}]
    assert report["errors"] == [{"line": 9, "message": "no"}]
    assert report["counts"]["malformed"] == 8
    assert report["counts"]["gaps"] == 0


def test_trades_and_their_candles() -> None:
    """A trade counts once however often it is repeated, and candles follow trade time, not arrival."""
    early = [trade(2, "11", "2", "21:04:59.9"), trade(1, "10", "1", "21:03:00")]
    report = check(
        received("market_trades", 0, {"type": "snapshot", "trades": early}, second=300),
        received("market_trades", 1, {"type": "update", "trades": [trade(5, "9", "1.5", "21:05:30")]}, second=331),
        received(
            "market_trades", 2, {"type": "update", "trades": [trade(4, "13", "1", "21:05:00"), early[0]]}, second=332
        ),
    )["products"]["BTC-USD"]
    assert report["trades"] == {"count": 4, "size": "5.5"}
    assert report["candles"] == [
        {"start": "2026-08-09T21:00:00Z", "open": "10", "high": "11", "low": "10", "close": "11", "volume": "3",
         "trades": 2},
        {"start": "2026-08-09T21:05:00Z", "open": "13", "high": "13", "low": "9", "close": "9", "volume": "2.5",
         "trades": 2},
    ]  # fmt: skip


def test_fills_are_the_differences_of_totals() -> None:
    """Each step is one booking: its price (v2 - v1) / (q2 - q1), its fee the increase of the fees."""
    steps = [
        ("1", "100", "100", "0.6", "OPEN"),
        ("3", "110", "330", "1.98", "OPEN"),
        ("3", "110", "330", "2", "FILLED"),
    ]
    lines = [
        received("user", number, user("update", cumulative_quantity=size, avg_price=average, filled_value=value,
                                      total_fees=fees, status=status), second=number)
        for number, (size, average, value, fees, status) in enumerate(steps)
    ]  # fmt: skip
    order = check(*lines)["orders"]["o"]
    assert [(fill["size"], fill["price"], fill["fee"]) for fill in order["fills"]] == [
        ("1", "100", "0.6"),
        ("2", "115", "1.38"),
        ("0", None, "0.02"),
    ]
    assert (order["status"], order["filled_size"], order["average_price"], order["fees"]) == ("FILLED", "3", "110", "2")


def test_without_a_value_the_average_decides() -> None:
    """Older messages have no filled_value: average × size is the total, exactly."""
    lines = [
        received("user", 0, user("update", cumulative_quantity="0.1", avg_price="50000.123456789", total_fees="1")),
        received("user", 1, user("update", cumulative_quantity="0.3", avg_price="50100.5", total_fees="3"), second=1),
    ]
    fills = check(*lines)["orders"]["o"]["fills"]
    value = D("50100.5") * D("0.3") - D("50000.123456789") * D("0.1")
    assert fills[1]["price"] == format(value / D("0.2"), "f")
    assert fills[1]["fee"] == "2"


def test_a_price_that_does_not_divide_is_rounded_to_28_digits() -> None:
    """One third, half-even."""
    order = check(received("user", 0, user("update", cumulative_quantity="3", filled_value="1")))["orders"]["o"]
    assert order["average_price"] == "0.3333333333333333333333333333"


@given(st.permutations(list(range(6))), st.lists(st.integers(0, 5), max_size=4))
def test_an_orders_end_is_the_same_in_any_order(order_of: list[int], again: list[int]) -> None:
    """For any order and repeats: same status, same totals, and the fills add up to them."""
    lines = [
        received("user", number, user("update", cumulative_quantity=f"0.{number}", filled_value=str(number * 7),
                                      total_fees=f"0.0{number}", status="FILLED" if number == 5 else "OPEN"))
        for number in range(6)
    ]  # fmt: skip
    order = check(SENT, *(lines[number] for number in [*order_of, *again]))["orders"]["o"]
    assert (order["status"], order["filled_size"], order["filled_value"], order["fees"]) == (
        "FILLED",
        "0.5",
        "35",
        "0.05",
    )
    assert sum(D(fill["size"]) for fill in order["fills"]) == D("0.5")
    assert sum(D(fill["value"]) for fill in order["fills"]) == D(35)
    assert sum(D(fill["fee"]) for fill in order["fills"]) == D("0.05")


def test_whether_the_snapshot_was_complete() -> None:
    """50, 50, 9 is complete; without the middle it is not; without a user channel there is none."""

    def batch(sequence: int, count: int) -> dict[str, Any]:
        orders = [user("snapshot", order_id=f"{sequence}-{number}")["orders"][0] for number in range(count)]
        return received("user", sequence, {"type": "snapshot", "orders": orders}, second=sequence)

    assert check(SENT, batch(0, 50), batch(1, 50), batch(2, 9))["snapshot"] == {
        "complete": True,
        "orders": 109,
        "connection": 1,
    }
    assert check(SENT, batch(0, 50), batch(2, 9))["snapshot"]["complete"] is False
    assert check(SENT, batch(0, 50), batch(1, 50))["snapshot"]["complete"] is False
    assert check(SENT, batch(0, 0))["snapshot"] == {"complete": True, "orders": 0, "connection": 1}
    assert check(received("ticker", 0))["snapshot"] is None


def test_the_report_has_no_floats() -> None:
    """Money and sizes are strings; counts are whole numbers."""

    def walk(value: Any) -> None:
        assert not isinstance(value, float)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(item)

    trades = {"type": "update", "trades": [trade(1, "1", "1", "21:00:00")]}
    walk(check(*BOOK, received("market_trades", 4, trades, second=4)))


def cut_recording() -> list[dict[str, Any]]:
    """Messages 7 to 28 of a connection: book, trades, tickers, orders and the list of open orders, a second apart."""
    lines = []
    for number in range(7, 29):
        kind, price = number % 4, str(90 + number % 5)
        if number in (7, 8):
            orders = [user("snapshot", order_id=f"{number}-{n}")["orders"][0] for n in range(50 if number == 7 else 9)]
            lines.append(received("user", number, {"type": "snapshot", "orders": orders}, second=number))
        elif kind == 0:
            changes = [level("bid", price, str(number % 3)), level("offer", f"1{price}", str(number))]
            name = "snapshot" if number == 12 else "update"
            lines.append(received("l2_data", number, book(name, *changes), second=number))
        elif kind == 1:
            trades = [trade(number, price, "0.5", f"21:0{number % 7}:00")]
            lines.append(received("market_trades", number, {"type": "update", "trades": trades}, second=number))
        elif kind == 2:
            row = {"product_id": "BTC-USD", "price": price, "best_bid": price, "best_ask": "200"}
            lines.append(received("ticker", number, {"type": "update", "tickers": [row]}, second=number))
        else:
            status = "CANCEL_QUEUED" if number > 20 else "OPEN"
            size = f"0.{number}"
            change = user("update", cumulative_quantity=size, filled_value=str(number), status=status)
            lines.append(received("user", number, change, second=number))
    return lines


def without_fills(report: dict[str, Any]) -> dict[str, Any]:
    """The orders of a report without the steps of their totals, which depend on arrival."""
    return {
        name: {key: value for key, value in order.items() if key != "fills"} for name, order in report["orders"].items()
    }


@given(st.permutations(cut_recording()), st.booleans())
def test_a_cut_recording_is_the_same_in_any_order(lines: list[dict[str, Any]], with_sent: bool) -> None:
    """Whichever message is first, nothing is lost: lower numbers are late, not repeats; the same with one of our lines
    among them.
    """
    expected = check(*cut_recording())
    report = check(*lines[:9], *([SENT] if with_sent else []), *lines[9:])
    assert report["products"] == expected["products"]
    assert without_fills(report) == without_fills(expected)
    assert report["snapshot"] == expected["snapshot"] == {"complete": True, "orders": 59, "connection": 1}
    assert (report["connections"], report["counts"]["missed"], report["counts"]["repeats"]) == (1, 0, 0)
    steps = report["orders"]["o"]["fills"]
    assert (sum(D(fill["size"]) for fill in steps), sum(D(fill["value"]) for fill in steps)) == (D("0.27"), D(27))


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_recording_without_sent_lines_is_the_same_in_any_order(seed: int) -> None:
    """Number 0 among the others, and a repeat remains one."""
    lines = [*BOOK, received("ticker", 4), received("heartbeats", 5)]
    random.Random(seed).shuffle(lines)
    report = check(*lines, lines[2])
    assert report["products"] == check(*BOOK)["products"]
    assert (report["connections"], report["counts"]["missed"], report["counts"]["repeats"]) == (1, 0, 1)


def test_what_is_missing_below_the_first_line_is_counted() -> None:
    """A late number far below leaves those in between as missing; they may follow, too."""
    far = [received("ticker", number, second=number) for number in (9, 4, 6)]
    report = check(*far)
    assert (report["counts"]["missed"], report["counts"]["late"], report["counts"]["repeats"]) == (3, 2, 0)


def test_a_full_book_is_read_in_a_moment() -> None:
    """46,000 levels of one product, and 2,000 updates, well within two seconds."""
    levels = [level("bid" if number < 23000 else "offer", f"{number + 1}.25", "0.5") for number in range(46000)]
    pick = random.Random(1)
    updates = [
        received("l2_data", number, book("update", level("bid", f"{pick.randrange(1, 23000)}.25", "0.25")), second=1)
        for number in range(1, 2001)
    ]
    lines = [json.dumps(line).encode() for line in (SENT, received("l2_data", 0, book("snapshot", *levels)), *updates)]
    found = RecordingCheck()
    began = time.process_time()
    for line in lines:
        found.feed(line)
    report = found.report()
    assert time.process_time() - began < 2
    assert report["products"]["BTC-USD"]["depth"]["bids"]["levels"] == 23000
    assert report["products"]["BTC-USD"]["best_bid"] == "23000.25"
