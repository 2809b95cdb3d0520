"""What an import keeps of a file before the ledger is asked, and how it says how far it is."""

from __future__ import annotations

import pytest

from activities.ledger import importing
from activities.ledger.importing import Progress
from cli.ledger_import import kept_whole
from fifo.reading import read_stated

ROWS = (
    b"id,time,symbol,side,size,price\n",
    b"a,2024-01-01T00:00:00Z,BTC-USD,buy,1,1\n",
    b"b,2024-01-01T00:00:00Z,btc-usd,buy,1,1\n",
)


def test_a_row_of_which_one_fill_can_not_be_kept_is_left_out_whole() -> None:
    """The ledger gets both fills of a row or none, and the row is named once."""
    reading, stated = read_stated(ROWS)
    both_of_one_row = [item.__class__(7, item.stated, item.entry) for item in stated]
    assert kept_whole(reading, both_of_one_row) == []
    assert [(bad.number, bad.code) for bad in reading.bad] == [(7, "NOT_A_PRODUCT")]
    reading, stated = read_stated(ROWS)
    assert [fill.id for fill in kept_whole(reading, stated)] == ["a"]


def test_a_long_file_says_how_many_of_its_fills_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes between the lines and the ledger is no silence of minutes."""
    monkeypatch.setattr(importing, "_BETWEEN_NOTES", 1)
    heard: list[str] = []
    kept_whole(*read_stated(ROWS), say=heard.append)
    assert heard == ["1 of 2 fills are looked at", "2 of 2 fills are looked at"]


def test_a_long_import_says_how_far_it_is_and_a_short_one_nothing() -> None:
    """At every so many fills, and before each long step."""
    heard: list[str] = []
    long = Progress("written", 1_000_000, heard.append)
    for _ in range(200):
        long.add(5_000)
    long.begin("matching sells of BTC-USD with lots")
    assert len(heard) == 21
    assert heard[0] == "50,000 of 1,000,000 fills are written"
    assert heard[-2:] == ["1,000,000 of 1,000,000 fills are written", "matching sells of BTC-USD with lots …"]
    short = Progress("written", 9, heard.append)
    short.add(9)
    short.begin("matching")
    assert len(heard) == 21
