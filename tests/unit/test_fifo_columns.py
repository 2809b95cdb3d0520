"""Matching whole arrays: bit for bit the same as the book, for any numbers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.orders import Side
from fifo import Book, FifoError, Fill
from fifo import amounts as scalar
from fifo.amounts import units_of
from fifo.columns import FillColumns, Matched, match_columns
from fifo.pairs import Amounts, product, share

Rows = list[tuple[int, int, int, bool, int, int, int, int]]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Rows, tuple[int, int, int]]:
    """Rows of (symbol, time, seq, buy, size, price, fee, base fee), and places of size, price and fee."""
    places = draw(st.sampled_from([(0, 0, 0), (2, 2, 4), (8, 2, 10), (8, 12, 18), (18, 18, 18), (3, 7, 30)]))
    largest = draw(st.sampled_from([3, 50, 10**9, 10**17, 10**30]))
    row = st.tuples(
        st.integers(0, 3),
        st.integers(0, 6),
        st.integers(0, 2),
        st.booleans(),
        st.integers(1, largest),
        st.integers(1, draw(st.sampled_from([5, 10**8, 10**17]))),
        st.integers(-3, draw(st.sampled_from([0, 10**6]))),
        st.sampled_from([0, 0, 2, 3, -4]),
    )
    rows = draw(st.lists(row, max_size=60))
    return [
        (*item[:7], 0 if item[7] == 0 else (item[4] // (abs(item[7]) * 2)) * (1 if item[7] > 0 else -1))
        for item in rows
    ], places


def columns_of(rows: Rows, places: tuple[int, int, int]) -> FillColumns:
    """Rows as columns, of Python's integers if int64 is too small."""

    def numbers(position: int) -> Any:
        values = [row[position] for row in rows]
        wide = any(abs(value) >= 2**63 for value in values)
        return np.array(values, object if wide else np.int64)

    symbol, time, seq = (np.array([row[position] for row in rows], np.int64) for position in range(3))
    return FillColumns(
        symbol=symbol,
        time=time,
        seq=seq,
        buy=np.array([row[3] for row in rows], np.bool_),
        size=numbers(4),
        price=numbers(5),
        fee=numbers(6),
        base_fee=numbers(7),
        size_places=places[0],
        price_places=places[1],
        fee_places=places[2],
    )


def wide(columns: FillColumns) -> FillColumns:
    """The same fills as Python's integers, which use the other path."""
    names = ("size", "price", "fee", "base_fee")
    return replace(columns, **{name: getattr(columns, name).astype(object) for name in names})


def content(matched: Matched) -> dict[str, list[int]]:
    """Every number of a result."""
    found: dict[str, list[int]] = {}
    for name in Matched.__slots__:
        value = getattr(matched, name)
        found[name] = value.units() if isinstance(value, Amounts) else value.tolist()
    return found


@settings(max_examples=300)
@given(histories())
def test_arrays_and_whole_numbers_of_any_size_agree_bit_for_bit(history: tuple[Rows, tuple[int, int, int]]) -> None:
    """Cumulative sums over arrays equal matching one fill after the other, to the last unit of every number."""
    columns = columns_of(*history)
    expected = content(match_columns(wide(columns)))
    assert content(match_columns(columns)) == expected
    with pytest.MonkeyPatch.context() as patched:
        # Long histories are matched in blocks of sells; the place of a block's end makes no difference.
        patched.setattr("fifo.columns._SELLS", 2)
        assert content(match_columns(columns)) == expected


@given(histories())
def test_arrays_and_the_book_agree_bit_for_bit(history: tuple[Rows, tuple[int, int, int]]) -> None:
    """Matching arrays equals the book, filled one by one, in every row."""
    rows, _ = history
    book = Book()
    for number, (symbol, time, seq, buy, size, price, fee, _) in enumerate(rows):
        side = Side.BUY if buy else Side.SELL
        book.add(
            Fill(number, str(symbol), time, side, Decimal(size) / 100, Decimal(price) / 100, seq, Decimal(fee) / 10_000)
        )
    matched = match_columns(columns_of([(*row[:7], 0) for row in rows], (2, 2, 4)))
    sales = list(book.sales())
    assert matched.sell_row.tolist() == [int(sale.id) for sale in sales]
    assert [Decimal(size) / 100 for size in matched.uncovered.tolist()] == [sale.uncovered_size for sale in sales]
    for name in ("proceeds", "cost_basis", "pnl"):
        assert getattr(matched, name).units() == [units_of(getattr(sale, name)) for sale in sales]
    parts = [(number, part) for number, sale in enumerate(sales) for part in sale.parts]
    assert matched.part_sell.tolist() == [number for number, _ in parts]
    assert matched.part_row.tolist() == [int(part.lot) for _, part in parts]
    assert matched.part_cost.units() == [units_of(part.cost) for _, part in parts]
    lots = list(book.lots())
    assert matched.lot_row.tolist() == [int(lot.lot) for lot in lots]
    assert matched.lot_cost.units() == [units_of(lot.cost) for lot in lots]


@given(
    st.lists(
        st.tuples(st.integers(-(2**61), 2**61), st.integers(0, 10**18 - 1), st.integers(1, 2**62 - 1), st.floats(0, 1)),
        min_size=1,
        max_size=50,
    )
)
def test_a_share_of_arrays_is_the_scalar_share(cases: list[tuple[int, int, int, float]]) -> None:
    """Long division over arrays rounds every share like the scalar rule, up to the limits of its numbers."""
    sizes = [size for _, _, size, _ in cases]
    parts = [min(size, int(size * fraction)) for _, _, size, fraction in cases]
    amount = Amounts(np.array([case[0] for case in cases]), np.array([case[1] for case in cases]))
    found = share(amount, np.array(parts), np.array(sizes)).units()
    assert found == [
        scalar.divide_half_even(units * part, size)
        for units, part, size in zip(amount.units(), parts, sizes, strict=True)
    ]


@given(
    st.integers(0, 36),
    st.lists(st.tuples(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1)), min_size=1, max_size=20),
)
def test_a_product_of_arrays_is_exact(places: int, cases: list[tuple[int, int]]) -> None:
    """Floor, remainder and divisor make up the exact product."""
    bound = 2**61 * 10**places
    cases = [(left, right if left * right < bound else bound // max(left, 1) % 10**18) for left, right in cases]
    cases = [(left, right) for left, right in cases if left * right < bound] or [(0, 0)]
    left, right = (np.array(values, np.int64) for values in zip(*cases, strict=True))
    floor, remainder, divisor = product(left, right, places)
    exact = [a * b * 10 ** max(18 - places, 0) for a, b in cases]
    assert [units * divisor + rest for units, rest in zip(floor.units(), remainder.tolist(), strict=True)] == exact
    assert all(0 <= rest < divisor for rest in remainder.tolist())


def test_the_worked_example() -> None:
    """Buy 1 at 50,000 and 1 at 55,000, sell 1.5 at 60,000: 12,500 (LEDGER-2)."""
    rows: Rows = [
        (0, 1, 0, True, 100, 5_000_000, 0, 0),
        (0, 2, 0, True, 100, 5_500_000, 0, 0),
        (0, 3, 0, False, 150, 6_000_000, 0, 0),
    ]
    matched = match_columns(columns_of(rows, (2, 2, 0)))
    assert matched.pnl.decimals() == [12_500]
    assert matched.part_cost.decimals() == [50_000, 27_500]
    assert (matched.lot_row.tolist(), matched.lot_size.tolist()) == ([1], [50])
    assert matched.lot_cost.decimals() == [27_500]


def test_repeated_ids_count_once_and_other_content_is_refused() -> None:
    """A known row is left out; one with the same id and another size names its row."""
    rows: Rows = [(0, 2, 0, False, 5, 7, 0, 0), (0, 1, 0, True, 9, 3, 0, 0), (0, 2, 0, False, 5, 7, 0, 0)]
    columns = replace(columns_of(rows, (0, 0, 0)), id=np.array([7, 3, 7]))
    matched = match_columns(columns)
    assert (matched.sell_row.tolist(), matched.lot_size.tolist()) == ([0], [4])
    columns.size[2] = 6
    with pytest.raises(FifoError, match="row 2") as refused:
        match_columns(columns)
    assert refused.value.code == "DUPLICATE_ID"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ((0, 1, 0, True, 0, 1, 0, 0), "SIZE_NOT_POSITIVE"),
        ((0, 1, 0, True, 1, 0, 0, 0), "PRICE_NOT_POSITIVE"),
        ((0, 1, 0, True, 5, 1, 0, 5), "FEE_EATS_SIZE"),
    ],
)
def test_a_row_that_cannot_be_is_named(row: tuple[int, int, int, bool, int, int, int, int], code: str) -> None:
    """Nothing is matched, and the row is named."""
    with pytest.raises(FifoError, match="row 1") as refused:
        match_columns(columns_of([(0, 0, 0, True, 1, 1, 0, 0), row], (0, 0, 0)))
    assert refused.value.code == code


def test_a_hundred_thousand_fills_are_matched_as_one_after_the_other() -> None:
    """A long history with thousands of open lots, oversells and several symbols: both paths, the same numbers."""
    dice = np.random.default_rng(7)
    count = 100_000
    columns = FillColumns(
        symbol=dice.integers(0, 7, count),
        time=dice.integers(0, count // 4, count),
        seq=np.arange(count),
        buy=dice.random(count) < 0.52,
        size=dice.integers(1, 10**10, count),
        price=dice.integers(1, 10**7, count),
        fee=dice.integers(-(10**6), 10**9, count),
        base_fee=np.zeros(count, np.int64),
        size_places=8,
        price_places=2,
        fee_places=10,
    )
    assert content(match_columns(columns)) == content(match_columns(wide(columns)))
