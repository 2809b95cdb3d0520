"""Fills from files: every format gives the same, and each bad line has its reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fifo import Book, FifoError
from fifo.line import FillEntry
from fifo.parsing import money, nanoseconds, number
from fifo.reading import Reading, read_fills
from fifo.writing import json_lines

GOOD: dict[str, Any] = {
    "id": "a",
    "time": "2026-01-01T00:00:00Z",
    "seq": 1,
    "symbol": "BTC-USD",
    "side": "buy",
    "size": "1",
    "price": "50000",
    "fee": "0",
    "fee_currency": "quote",
}
HEADING = (
    "ID,Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,Price at Transaction,Subtotal,"
    "Total (inclusive of fees and/or spread),Fees and/or Spread,Notes"
)
TRANSACTIONS = f"""
Transactions
User,Somebody,1b2c
{HEADING}
r4,2024-03-04 09:00:00 UTC,Sell,BTC,-0.5,USD,"$60,000.01","-$30,000.00","-$29,900.00",$100.00,"Sold 0.5 BTC, at last"
r3,2024-03-03 09:00:00 UTC,Staking Income,ETH,0.01,USD,$3000.00,$30.00,$30.00,$0.00,
r2,2024-03-02 09:00:00 UTC,Send,BTC,-0.1,USD,$55000,,,,Sent
r1,2024-03-01 09:00:00 UTC,Advanced Trade Buy,BTC,1,USD,$50000.00,$50000.00,$50300.00,$300.00,
"""
FILLS = """portfolio,trade id,product,side,created at,size,size unit,price,fee,total,price/fee/total unit
default,77,BTC-USD,BUY,2024-03-01T09:00:00.123Z,1,BTC,50000,300,-50300,USD
default,77,ETH-USD,BUY,2024-03-01T09:00:00.123Z,2,ETH,3000,6,-6006,USD
default,78,BTC-USD,SELL,2024-03-04T09:00:00.5Z,0.5,BTC,60000,100,29900,USD
"""


def read(*rows: Any) -> Reading:
    """JSON Lines of rows, or of unchanged texts."""
    return read_fills((row if isinstance(row, str) else json.dumps(row)).encode() + b"\n" for row in rows)


def read_text(text: str) -> Reading:
    """A file of this text."""
    return read_fills(text.encode().splitlines(keepends=True))


def entries(reading: Reading) -> list[FillEntry]:
    """All fills, by symbol."""
    return [entry for group in reading.fills.values() for entry in group]


def shown(reading: Reading) -> list[str]:
    """Sells and lots as shown to a person."""
    book = Book()
    book.extend_entries(entries(reading))
    sales = [f"{sale.id} {sale.symbol} {sale.proceeds} {sale.cost_basis} {sale.pnl}" for sale in book.sales()]
    return [*sales, *(f"{lot.lot} {lot.symbol} {lot.size} {lot.cost}" for lot in book.lots())]


def test_json_lines_and_csv_say_the_same() -> None:
    """Order of columns, extra columns, a byte order mark, blank lines and line ends make no difference."""
    rows = [GOOD, {**GOOD, "id": "b", "seq": 2, "side": "SELL", "size": "0.5", "price": "60000", "fee": "1.5"}]
    csv = (
        "\ufeffsymbol,ID,time,seq,side,size,note,price,fee,fee_currency\r\n"
        'BTC-USD,a,2026-01-01T00:00:00Z,1,buy,1,"first, and best",50000,0,quote\r\n\r\n'
        "BTC-USD,b,2026-01-01T01:00:00+01:00,2,Sell,0.50,,6e4,1.50,USD\r\n"
    )
    expected = ["b BTC-USD 29998.5 25000 4998.5", "a BTC-USD 0.5 25000"]
    assert shown(read(*rows)) == shown(read_text(csv)) == expected


def test_json_numbers_are_taken_digit_by_digit() -> None:
    """A number without quotation marks is read as written, not as a float."""
    row = '{"id":7,"time":"2026-01-01T00:00:00Z","symbol":"X","side":"buy","size":0.123456789012345678,"price":3}'
    (entry,) = entries(read(row))
    assert (entry.id, entry.size) == ("7", 123456789012345678)
    (entry,) = entries(read(row.replace("0.123456789012345678", "123456789012345678901")))
    assert entry.size == 123456789012345678901 * 10**18


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"size": "-1"}, "SIZE_NOT_POSITIVE"),
        ({"size": "0"}, "SIZE_NOT_POSITIVE"),
        ({"size": "NaN"}, "NOT_A_NUMBER"),
        ({"size": float("nan")}, "NOT_A_NUMBER"),
        ({"size": "1e999999999"}, "TOO_LARGE"),
        ({"size": "9" * 5000}, "TOO_LARGE"),
        ({"size": "1e-19"}, "TOO_FINE"),
        ({"size": True}, "NOT_A_NUMBER"),
        ({"size": "one"}, "NOT_A_NUMBER"),
        ({"size": None}, "MISSING_FIELD"),
        ({"price": "-5"}, "PRICE_NOT_POSITIVE"),
        ({"price": "Infinity"}, "NOT_A_NUMBER"),
        ({"side": "hold"}, "UNKNOWN_SIDE"),
        ({"side": None}, "UNKNOWN_SIDE"),
        ({"time": "2026-01-01T00:00:00"}, "TIME_WITHOUT_ZONE"),
        ({"time": "yesterday"}, "NOT_A_TIME"),
        ({"time": 1767225600}, "NOT_A_TIME"),
        ({"time": "2026-01-01T00:00:00.123456xyZ"}, "NOT_A_TIME"),
        ({"time": "2026-01-01T00:00:00.12345678\u0661Z"}, "NOT_A_TIME"),
        ({"time": "20260101T000000.123456_8Z"}, "NOT_A_TIME"),
        ({"fee": False}, "NOT_A_NUMBER"),
        ({"fee": {}}, "NOT_A_NUMBER"),
        ({"fee": "1", "fee_currency": "other"}, "FEE_RATE_MISSING"),
        ({"fee": "1", "fee_currency": "BNB"}, "FEE_RATE_MISSING"),
        ({"fee": "1", "fee_currency": "base"}, "FEE_EATS_SIZE"),
        ({"id": ""}, "MISSING_FIELD"),
        ({"id": 1.5}, "MISSING_FIELD"),
        ({"symbol": " "}, "MISSING_FIELD"),
        ({"seq": "first"}, "NOT_A_NUMBER"),
        ({"seq": "1_0"}, "NOT_A_NUMBER"),
        ({"seq": "\u0661"}, "NOT_A_NUMBER"),
        ({"size": "1_0"}, "NOT_A_NUMBER"),
        ({"size": "_1"}, "NOT_A_NUMBER"),
        ({"size": "\u0661\u0662"}, "NOT_A_NUMBER"),
        ({"size": "\uff11"}, "NOT_A_NUMBER"),
        ({"size": "1\u00a0"}, "NOT_A_NUMBER"),
        ({"size": "1 000"}, "NOT_A_NUMBER"),
        ({"size": " "}, "NOT_A_NUMBER"),
        ({"size": "+"}, "NOT_A_NUMBER"),
        ({"size": "1e99999999999999999999"}, "NOT_A_NUMBER"),
        ({"price": "50_000"}, "NOT_A_NUMBER"),
        ({"fee": "0_1"}, "NOT_A_NUMBER"),
        ({"fee": "1", "fee_currency": "other", "fee_rate": "1_0.5"}, "NOT_A_NUMBER"),
        ({"seq": "9" * 5000}, "NOT_A_NUMBER"),
    ],
)
def test_a_bad_line_has_its_number_and_its_reason(change: dict[str, Any], code: str) -> None:
    """The lines before and after are read all the same."""
    reading = read(GOOD, {**GOOD, "id": "b", **change}, {**GOOD, "id": "c"})
    assert [(line.number, line.code) for line in reading.bad] == [(2, code)]
    assert len(str(reading.bad[0])) < 120
    assert [entry.id for entry in entries(reading)] == ["a", "c"]


@pytest.mark.parametrize("line", ["{", "[1]", "null", '{"id": "b"', "\x00\ufffd", '"{"', '{"id":"\\ud800"}'])
def test_what_is_no_object_is_a_bad_line(line: str) -> None:
    """Broken JSON affects only its own line."""
    reading = read(GOOD, line, {**GOOD, "id": "c"})
    assert [bad.number for bad in reading.bad] == [2]
    assert len(reading) == 2


def test_text_that_is_no_unicode_is_a_bad_line() -> None:
    """Half of a surrogate pair can't be printed, so it can't be an id."""
    reading = read(json.dumps({**GOOD, "id": "\ud800"}), GOOD)
    assert [(bad.number, bad.code) for bad in reading.bad] == [(1, "NOT_A_ROW")]


def test_a_quotation_mark_without_its_twin_costs_one_line() -> None:
    """It does not consume the rest of a CSV file; too few columns are distinguished from too many empty ones."""
    head = "id,time,symbol,side,size,price\n"
    good = "{},2026-01-01T00:00:00Z,BTC-USD,buy,1,2\n"
    reading = read_text(head + good.format("a") + '"b,2026\n' + "c,2026\n" + good.format("d").replace("2\n", "2,,\n"))
    assert [(bad.number, bad.code) for bad in reading.bad] == [(3, "NOT_A_ROW"), (4, "NOT_A_ROW")]
    assert [entry.id for entry in entries(reading)] == ["a", "d"]


def test_repeats_count_once_and_another_content_is_a_bad_line() -> None:
    """The same fill again is counted as a repeat; the same id with another size names the later line."""
    reading = read(GOOD, {**GOOD, "size": "1.0"}, {**GOOD, "size": "2"})
    assert (len(reading), reading.repeated) == (1, 1)
    assert [(bad.number, bad.code) for bad in reading.bad] == [(3, "DUPLICATE_ID")]


def test_an_id_is_a_text_whatever_it_was_written_as() -> None:
    """1 and "1" are the same fill, and are printed as a text; one too long for a float keeps its digits."""
    reading = read({**GOOD, "id": 1}, {**GOOD, "id": "1"}, {**GOOD, "id": 123456789012345678901234567890})
    assert (reading.bad, reading.repeated) == ([], 1)
    assert [entry.id for entry in entries(reading)] == ["1", "123456789012345678901234567890"]
    sell = {**GOOD, "id": 2, "side": "sell", "time": "2026-01-02T00:00:00Z"}
    printed = json.loads("".join(json_lines(read({**GOOD, "id": 1}, sell).lines())))
    assert printed["sells"][0]["id"] == "2"
    assert printed["sells"][0]["parts"][0]["lot"] == "1"


@pytest.mark.parametrize("name", ["id", "size", "fee_rate"])
@pytest.mark.parametrize("spelling", ['"{}": "7"', '"{}" :"7"', '"{}":7.5'])
@pytest.mark.parametrize("before", [1, 60])
def test_a_name_that_is_there_twice_is_refused(name: str, spelling: str, before: int) -> None:
    """Neither value is used, in a short file and in a long one; a name that is not ours may be repeated."""
    twice = json.dumps({**GOOD, "id": "x", "fee_rate": "1", "note": "a"})[:-1] + ", " + spelling.format(name) + "}"
    good = [{**GOOD, "id": f"a{number}"} for number in range(before)]
    reading = read(*good, twice, {**GOOD, "id": "z"}, json.dumps({**GOOD, "id": "n", "m": 1})[:-1] + ', "m": 2}')
    assert [(bad.number, bad.code) for bad in reading.bad] == [(before + 1, "NOT_A_ROW")]
    assert f"names {name} more than once" in reading.bad[0].sentence
    assert len(reading) == before + 2


def test_a_currency_by_its_own_name() -> None:
    """USD is the quote currency of BTC-USD, BTC its base; anything else is a third currency with a rate."""
    fee = {"fee": "0.01"}
    named = read(
        {**GOOD, **fee, "id": 1, "fee_currency": "USD"},
        {**GOOD, **fee, "id": 2, "fee_currency": "btc"},
        {**GOOD, **fee, "id": 3, "fee_currency": "BNB", "fee_rate": "600"},
    )
    assert shown(named) == ["1 BTC-USD 1 50000.01", "2 BTC-USD 0.99 50000", "3 BTC-USD 1 50006"]


def test_ids_that_differ_in_a_byte_are_two_fills() -> None:
    """Also if the bytes are not UTF-8, as in older spreadsheets' files: unreadable never means equal."""
    row = b",2026-01-01T00:00:00Z,BTC-USD,buy,1,1\n"
    reading = read_fills([b"id,time,symbol,side,size,price\n", b"\xe4" + row, b"\xf6" + row])
    assert [entry.id for entry in entries(reading)] == ["ä", "ö"]


def test_a_column_that_is_there_twice_is_refused() -> None:
    """It is unknown which of two sizes was meant."""
    with pytest.raises(FifoError, match="names size more than once") as raised:
        read_text("id,time,symbol,side,size,size,price\na,2026-01-01T00:00:00Z,BTC-USD,buy,1,2,1\n")
    assert raised.value.code == "UNKNOWN_FORMAT"


def test_coinbase_transactions_report() -> None:
    """The preamble is skipped, money is read with its signs, the subtotal counts, and rows that are not trades are
    named."""
    reading = read_text(TRANSACTIONS)
    assert shown(reading) == ["r4 BTC-USD 29900 25150 4750", "r1 BTC-USD 0.5 25150"]
    assert reading.left_out == {"Staking Income": 1, "Send": 1}
    assert not reading.bad


def test_rows_of_a_report_without_ids_are_known_by_their_content() -> None:
    """A row's position doesn't matter: a later download, or one without the preamble, has the same ids."""
    head = "Timestamp,Transaction Type,Asset,Quantity Transacted,Spot Price Currency,Subtotal,Fees and/or Spread\n"
    buy, later = "2021-02-01T10:00:00Z,Buy,LTC,1,USD,100.00,1\n", "2021-03-01T10:00:00.5Z,Sell,LTC,-0.5,USD,$90,0\n"
    first = read_text(head + buy + buy)
    again = read_text("You can use this report\n\n" + head + later + buy.replace("100.00", "$100") + buy)
    ids = [entry.id for entry in entries(first)]
    assert ids == [
        "2021-02-01T10:00:00+00:00 buy 1 LTC-USD for 100, fee 1",
        "2021-02-01T10:00:00+00:00 buy 1 LTC-USD for 100, fee 1 (2)",
    ]
    assert sorted(str(entry.id) for entry in entries(again)) == [
        *ids,
        "2021-03-01T10:00:00.500000+00:00 sell 0.5 LTC-USD for 90, fee 0",
    ]
    assert not first.bad
    assert not again.repeated


def test_coinbase_fills_report() -> None:
    """Trade ids are unique per product, so the same id of two products is two fills."""
    reading = read_text(FILLS)
    assert shown(reading) == [
        "BTC-USD/78 BTC-USD 29900 25150 4750",
        "BTC-USD/77 BTC-USD 0.5 25150",
        "ETH-USD/77 ETH-USD 2 6006",
    ]


def test_rows_of_a_report_at_one_second_go_in_its_order() -> None:
    """A report is newest first, and that order decides between equal times; a repeated row counts once."""
    head = "Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,Price at Transaction,Subtotal,ID\n"
    rows = [
        "2024-03-02T00:00:00Z,Sell,BTC,1,USD,9,9,c\n",
        "2024-03-01T00:00:00Z,Buy,BTC,1,USD,2,2,b\n",
        "2024-03-01T00:00:00Z,Buy,BTC,1,USD,1,1,a\n",
        "2024-03-01T00:00:00Z,Buy,BTC,1,USD,1,1,a\n",
    ]
    newest_first, oldest_first = read_text(head + "".join(rows)), read_text(head + "".join(reversed(rows)))
    assert shown(newest_first) == shown(oldest_first) == ["c BTC-USD 9 1 8", "b BTC-USD 1 2"]
    assert newest_first.repeated == oldest_first.repeated == 1
    # The file's direction also decides for a symbol whose rows are all in one second.
    two = [row.replace("BTC", "ETH") for row in rows[1:3]]
    another = read_text(head + rows[0] + two[0].replace(",b", ",d") + two[1].replace(",a", ",e"))
    assert [lot.split()[0] for lot in shown(another)[1:]] == ["e", "d"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("d,78,BTC-USD,SELL,2024-03-04T09:00:00Z,0.5,USD,1,0,0,USD", "NOT_A_ROW"),
        ("d,78,BTC-USD,HOLD,2024-03-04T09:00:00Z,0.5,BTC,1,0,0,USD", "UNKNOWN_SIDE"),
        ("d,,BTC-USD,SELL,2024-03-04T09:00:00Z,0.5,BTC,1,0,0.5,USD", "MISSING_FIELD"),
    ],
)
def test_a_bad_row_of_a_report(text: str, code: str) -> None:
    """Reports are judged line by line like everything else."""
    assert [(bad.number, bad.code) for bad in read_text(FILLS + text + "\n").bad] == [(5, code)]


def test_a_file_of_another_kind_is_said_so() -> None:
    """Neither objects nor a known heading: one sentence; an empty file is an empty history."""
    with pytest.raises(FifoError) as refused:
        read_text("hello\nworld\n")
    assert refused.value.code == "UNKNOWN_FORMAT"
    assert len(read_text("")) == len(read_text("\n\n")) == 0


def test_a_bad_first_line_does_not_hide_the_format() -> None:
    """JSON Lines are recognised by any of the first lines."""
    reading = read("oops", GOOD)
    assert ([bad.number for bad in reading.bad], len(reading)) == ([1], 1)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)), st.integers(0, 999))  # noqa: DTZ001
def test_times_are_exact_to_the_nanosecond(moment: datetime, finer: int) -> None:
    """Every spelling of a moment is the same number, and digits beyond microseconds count."""
    utc = moment.replace(tzinfo=UTC)
    exact = (utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert nanoseconds(utc.isoformat()) == exact
    assert nanoseconds(f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC") == exact
    assert nanoseconds(f"{moment:%Y-%m-%dT%H:%M:%S.%f}{finer:03d}Z") == exact + finer
    assert nanoseconds(f"{moment:%Y-%m-%dT%H:%M:%S.%f}{finer:03d}+00:00") == exact + finer


def test_a_time_with_its_zone_by_name() -> None:
    """As printed in reports, with any number of places."""
    for places in ("", ".5", ".123456", ".123456789"):
        assert nanoseconds(f"2026-01-01 00:00:00{places} UTC") == nanoseconds(f"2026-01-01T00:00:00{places}Z")


@pytest.mark.parametrize(
    ("text", "units"),
    [("1", 10**18), (".5", 5 * 10**17), ("5.", 5 * 10**18), ("-0.1", -(10**17)), ("1e-18", 1), (" 2 ", 2 * 10**18)],
)
def test_numbers_of_every_spelling(text: str, units: int) -> None:
    """Plain, scientific, with a bare point or surrounding spaces: the same exact number."""
    assert number("size", text) == units


@pytest.mark.parametrize(
    ("text", "units"),
    [("$1,234.50", 1234500), ("-$0.01", -10), ("$-5", -5000), ("€7", 7000), ("0", 0), ("1e-3", 1), ("CA$2", 2000)],
)
def test_money_as_reports_print_it(text: str, units: int) -> None:
    """Currency signs and thousands' commas are removed, a sign on either side of them counts."""
    assert money("fee", text) == units * 10**15


@pytest.mark.parametrize(
    "text", ["$1_000", "_1000", "\u0661000", "$\u0661", "1_0.5", "$ 1\u0662", "\u22125", "(5", "#5"]
)
def test_money_of_other_digits_is_refused(text: str) -> None:
    """An underscore, another script's digit or a typographic minus is neither a currency sign nor part of a number."""
    with pytest.raises(FifoError, match="is not a number"):
        money("fee", text)


@pytest.mark.parametrize(
    "text", ["0,5", "1,23", "0,500", "00,500", "30.000,00", "1,2345", ",500", "1,,000", "12,34,567"]
)
def test_a_comma_that_divides_no_thousands_is_refused(text: str) -> None:
    """Half a coin with a decimal comma is never read as five."""
    with pytest.raises(FifoError, match="is not a number"):
        money("quantity", text)
