"""Which version of a candle holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.candles import ASKED_AGAIN, ask_again, asked_from, holds, settles
from domain.exits import atr_window
from domain.market import Candle
from domain.watch import Watch

SYMBOL = "BTC-USD"
MINUTES = timedelta(minutes=5)
START = datetime(2026, 1, 1, tzinfo=UTC)

# A venue's versions of one candle, in order: its close, and the source ("early" is right at its end).
words = st.lists(
    st.tuples(st.integers(min_value=1, max_value=9), st.sampled_from(["stream", "records, early", "records"])),
    min_size=1,
    max_size=12,
)


def test_records_settle_a_candle_once_the_next_one_has_closed() -> None:
    """Records read right at a candle's end may lack its last trades; the stream settles nothing."""
    assert settles(START, START + MINUTES)
    assert not settles(START, START)
    assert not settles(START, None)
    assert [holds(settled=was, settles=now) for was in (False, True) for now in (False, True)] == [
        True, True, False, True,
    ]  # fmt: skip


@given(words)
def test_the_last_word_holds_unless_the_records_have_settled_it(told: list[tuple[int, str]]) -> None:
    """The ATR uses the records' last version once they have settled the candle, else the last version of any source."""
    watch = Watch(epoch=1, signal_max_age=MINUTES, on_due=lambda _: None, now=lambda: START, monotonic=lambda: 0.0)
    window = atr_window(14)
    five = Decimal(5)
    flat = Candle(SYMBOL, START, five, five, five, five, Decimal(1))
    others = [replace(flat, start=START + MINUTES * number) for number in range(1, window + 1)]
    watch.candles(SYMBOL, [flat, *others])
    for close, by in told:
        # Volume doesn't show which version is later: a busted trade reduces it.
        word = replace(flat, close=Decimal(close), volume=Decimal(10 - close))
        last = {"stream": None, "records, early": START, "records": START + MINUTES}[by]
        watch.candles(SYMBOL, [word], last_closed=last)
    settled = [close for close, by in told if by == "records"]
    assert watch.symbols[SYMBOL].window.candles[START].close == (settled or [close for close, _ in told])[-1]


def test_records_are_asked_from_the_oldest_candle_that_may_be_missing_or_corrected() -> None:
    """The newest closed candles are always requested, missing ones before them too."""
    last = START + MINUTES * 100
    newest = last - MINUTES * (ASKED_AGAIN - 1)
    assert asked_from(last, MINUTES) == asked_from(last, MINUTES, None, last) == newest
    assert asked_from(last, MINUTES, START, last) == START


@given(st.lists(st.integers(min_value=1, max_value=2), min_size=30, max_size=80))
def test_every_candle_is_asked_for_once_it_can_settle(steps: list[int]) -> None:
    """Whatever the times of closes, each candle is requested once it can settle, and the records are read each hour."""
    last, asked, settled, looks = START, None, set[datetime](), 0
    for step in steps:
        last += MINUTES * step
        if ask_again(asked, last, MINUTES):
            begin, asked, looks = asked_from(last, MINUTES), last, looks + 1
            starts = [begin + MINUTES * number for number in range(ASKED_AGAIN)]
            assert starts[-1] == last
            settled |= {start for start in starts if settles(start, last)}
    assert asked is not None
    closed = {START + MINUTES * number for number in range((asked - START) // MINUTES)}
    assert closed <= settled
    assert looks <= 1 + sum(steps) // (ASKED_AGAIN - 2)
