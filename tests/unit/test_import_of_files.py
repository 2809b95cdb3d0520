"""What an import keeps of a file before it reads the ledger, and its reports of progress."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.ledger import old_fills
from activities.ledger.importing import ImportProgress
from activities.ledger.old_fills import Fate, OldFill, OldFills, old_fill
from fifo import reading as reading_module
from fifo.reading import Reading, read_into, read_stated

HEAD = b"id,time,seq,symbol,side,size,price,fee,fee_currency,fee_rate\n"
ROWS = (
    HEAD,
    b"a,2024-01-01T00:00:00Z,1,BTC-USD,buy,1,1,,,\n",
    b"b,2024-01-01T00:00:00Z,1,btc-usd,buy,1,1,,,\n",
)
REPORT = (
    b"ID,Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,Subtotal,Fees and/or Spread,Notes\n",
    b"x,2024-02-05 10:00:00 UTC,Buy,ETH,10,USD,30000,0,Bought 10 ETH for 0.5 BTC on ETH-BTC\n",
    b"y,2024-02-05 10:00:00 UTC,Buy,ETH,10,USD,30000,0,\n",
    b"z,2024-02-04 10:00:00 UTC,Buy,ETH,10,USD,30000,0,\n",
    b"y,2024-02-05 10:00:00 UTC,Buy,ETH,10,USD,30000,0,\n",
    b"y,2024-02-05 10:00:00 UTC,Buy,ETH,11,USD,30000,0,\n",
)


def kept(*lines: bytes) -> tuple[Reading, list[OldFill]]:
    """A file's fills, in order by symbol."""
    fills = OldFills()
    reading = read_into(lines, fills)
    found = [item for name in fills.symbols() for chunk in fills.chunks(name, None) for item in chunk]
    assert len(fills) == len(found) == reading.kept
    fills.close()
    return reading, found


def test_a_row_of_which_one_fill_can_not_be_kept_is_left_out_whole() -> None:
    """The ledger gets both fills of a row or none, and the row is reported once."""
    reading, found = kept(*ROWS)
    assert [fill.id for fill in found] == ["a"]
    assert [(bad.number, bad.code) for bad in reading.bad] == [(3, "NOT_A_PRODUCT")]
    early = REPORT[1].replace(b"2024", b"2008")
    reading, found = kept(REPORT[0], early)
    assert (found, [(bad.number, bad.code) for bad in reading.bad]) == ([], [(2, "NOT_A_TIME")])


def test_what_is_kept_outside_memory_is_what_was_read() -> None:
    """In the order of a file that is newest first, with repeats counted and contradictions refused; an empty file has
    nothing.
    """
    reading, found = kept(*REPORT)
    in_memory, stated = read_stated(REPORT)
    assert [fill.id for fill in found] == ["x/BTC", "z", "y", "x"]
    assert found == [old_fill(item) for item in stated]
    assert (reading.repeated, reading.bad) == (in_memory.repeated, in_memory.bad)
    assert [(bad.number, bad.code) for bad in reading.bad] == [(6, "DUPLICATE_ID")]
    assert kept() == (Reading(), [])


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.integers(0, 3), st.integers(-2, 2), st.sampled_from(["BTC-USD", "ETH-EUR"]),
            st.booleans(), st.integers(1, 10**30), st.integers(1, 10**30), st.sampled_from(["", "0.1", "-0.2"]),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_whatever_a_file_holds_is_kept_to_the_last_digit(
    rows: list[tuple[int, int, int, str, bool, int, int, str]],
) -> None:
    """The same fills in the same order as from memory, with the same bad lines."""
    lines = [
        f"{name},2024-01-0{day + 1}T00:00:00Z,{seq},{symbol},{'buy' if buy else 'sell'},"
        f"{Decimal(size).scaleb(-18):f},{Decimal(price).scaleb(-18):f},{fee},,\n".encode()
        for name, day, seq, symbol, buy, size, price, fee in rows
    ]
    reading, found = kept(HEAD, *lines)
    in_memory, stated = read_stated((HEAD, *lines))
    assert found == [old_fill(item) for item in stated]
    assert (reading.bad, reading.repeated) == (in_memory.bad, in_memory.repeated)


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times as many rows, read and iterated, take no more of it: a twentieth of what they would in memory."""
    monkeypatch.setattr(reading_module, "_LINES_AT_ONCE", 200)
    monkeypatch.setattr(old_fills, "_CHUNK", 200)

    def most(rows: int) -> int:
        fills = OldFills()
        lines = (f"{n},2024-01-01T00:00:00Z,{n},BTC-USD,buy,0.123456789,{n + 1},,,\n".encode() for n in range(rows))
        tracemalloc.start()
        try:
            read_into(chain((HEAD,), lines), fills)
            for chunk in fills.chunks("BTC-USD", None):
                fills.decide((fill.id, Fate.NEW) for fill in chunk)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            fills.close()

    assert most(6_000) - most(1_000) < 250_000


def test_each_fill_has_its_fate() -> None:
    """By id, also for a line that turns out not to be new; decided fills are not iterated again."""
    fills = OldFills()
    read_into(REPORT[:4], fills)
    fills.decide([("x", Fate.NEW), ("x/BTC", Fate.NEW), ("y", Fate.KNOWN)])
    assert [fill.id for chunk in fills.chunks("ETH-USD", None) for fill in chunk] == ["z"]
    assert [[fill.id for fill in line] for line in fills.of_lines([2, 3])] == [["x/BTC", "x"], []]
    assert (fills.count("ETH-USD", Fate.NEW), fills.has("y"), fills.has("n")) == (1, True, False)
    fills.leave_out([2, 3])
    assert [fills.count("ETH-USD", fate) for fate in (Fate.NEW, Fate.OUT, Fate.KNOWN)] == [0, 1, 1]


def test_a_long_import_says_how_far_it_is_and_a_short_one_nothing() -> None:
    """After every so many fills, and before each long step."""
    heard: list[str] = []
    long = ImportProgress("written", 1_000_000, heard.append)
    for _ in range(200):
        long.add(5_000)
    long.begin("matching sells of BTC-USD with lots")
    assert len(heard) == 21
    assert heard[0] == "50,000 of 1,000,000 fills are written"
    assert heard[-2:] == ["1,000,000 of 1,000,000 fills are written", "matching sells of BTC-USD with lots …"]
    short = ImportProgress("written", 9, heard.append)
    short.add(9)
    short.begin("matching")
    assert len(heard) == 21
