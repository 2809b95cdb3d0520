"""The book of lots compared with a plain reference in fractions: exact, for any fills in any order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.orders import Side
from fifo import Book, FeeCurrency, FifoError, Fill, Sale
from fifo.amounts import UNIT, decimal_of, share, split, text_of, units_of

UNIT_OF_ACCOUNT = Fraction(1, UNIT)
sizes = st.one_of(
    st.integers(1, 40).map(Decimal),
    st.decimals(min_value="1e-18", max_value="1e12", places=18, allow_nan=False, allow_infinity=False),
    st.decimals(min_value="1e-8", max_value=1000, places=8, allow_nan=False, allow_infinity=False),
)
prices = st.one_of(
    st.integers(1, 100).map(Decimal),
    st.decimals(min_value="1e-12", max_value="1e6", places=12, allow_nan=False, allow_infinity=False),
)


@st.composite
def fills(draw: st.DrawFn, *, most: int = 30) -> list[Fill]:
    """Fills of two symbols with every kind of fee, rebates included, several at the same time."""
    history: list[Fill] = []
    for number in range(draw(st.integers(0, most))):
        size, currency = draw(sizes), draw(st.sampled_from(FeeCurrency))
        fee = draw(st.sampled_from([Decimal(0), Decimal("0.25"), Decimal("-0.001"), Decimal("1e-18")]))
        if currency is FeeCurrency.BASE and abs(fee) >= size:
            fee = Decimal(0)
        history.append(
            Fill(
                id=f"f{number}",
                symbol=draw(st.sampled_from(["BTC-USD", "ETH-USD"])),
                time=draw(st.integers(0, 5)),
                seq=number,
                side=draw(st.sampled_from(Side)),
                size=size,
                price=draw(prices),
                fee=fee,
                fee_currency=currency,
                fee_rate=draw(st.sampled_from([Decimal("0.5"), Decimal("631.123456789012345678")])),
            )
        )
    return history


@dataclass
class ReferenceSale:
    """A sell by the reference: exact fractions."""

    covered: Fraction
    uncovered: Fraction
    proceeds: Fraction
    cost: Fraction
    parts: list[tuple[str | int, Fraction, Fraction]] = field(default_factory=list)


def effect(fill: Fill) -> tuple[Fraction, Fraction]:
    """The size and amount of a fill's effect, by the text of the rule."""
    fee = Fraction(fill.fee)
    sign = 1 if fill.side is Side.BUY else -1
    amount, moved = Fraction(fill.size) * Fraction(fill.price), Fraction(fill.size)
    if fill.fee_currency is FeeCurrency.QUOTE:
        amount += sign * fee
    elif fill.fee_currency is FeeCurrency.OTHER:
        assert fill.fee_rate is not None
        amount += sign * fee * Fraction(fill.fee_rate)
    else:
        moved -= sign * fee
    return moved, amount


def reference(history: Sequence[Fill]) -> tuple[dict[str | int, ReferenceSale], dict[str | int, Fraction]]:
    """Sells, and the rest of each lot: the simplest way, in fractions."""
    lots: dict[str, list[list[Fraction | str | int]]] = {}
    sales: dict[str | int, ReferenceSale] = {}
    for fill in sorted(history, key=lambda item: (item.time, item.seq)):
        moved, amount = effect(fill)
        queue = lots.setdefault(fill.symbol, [])
        if fill.side is Side.BUY:
            queue.append([fill.id, moved, moved, amount])
            continue
        sale = ReferenceSale(Fraction(0), moved, amount, Fraction(0))
        for lot in queue:
            name, left, whole, cost = lot
            assert isinstance(left, Fraction)
            assert isinstance(whole, Fraction)
            assert isinstance(cost, Fraction)
            part = min(left, sale.uncovered)
            if part > 0:
                lot[1] = left - part
                sale.uncovered -= part
                sale.covered += part
                sale.cost += cost * part / whole
                assert isinstance(name, str | int)
                sale.parts.append((name, part, cost * part / whole))
        sales[fill.id] = sale
    left_over: dict[str | int, Fraction] = {}
    for queue in lots.values():
        for name, left, _, _ in queue:
            assert isinstance(name, str | int)
            assert isinstance(left, Fraction)
            if left:
                left_over[name] = left
    return sales, left_over


def fill(number: int, side: Side, size: str | int, price: str | int, **more: Any) -> Fill:
    """A fill of BTC-USD at second `number`."""
    return Fill(number, "BTC-USD", number * 10**9, side, Decimal(size), Decimal(price), **more)


def shown(rows: Iterable[tuple[object, ...]]) -> str:
    """Rows as a line of text."""
    return "; ".join(" ".join(map(str, row)) for row in rows)


def state(book: Book) -> tuple[object, ...]:
    """The complete state of a book."""
    return list(book.sales()), list(book.lots()), book.totals()


def test_the_worked_example() -> None:
    """Buy 1 at 50,000 and 1 at 55,000, sell 1.5 at 60,000: 12,500, and half a lot is left (LEDGER-2)."""
    book = Book([fill(1, Side.BUY, 1, 50_000), fill(2, Side.BUY, 1, 55_000), fill(3, Side.SELL, "1.5", 60_000)])
    sale = book.sale(3)
    assert shown([(sale.pnl, sale.cost_basis, sale.proceeds, sale.uncovered_size)]) == "12500 77500 90000 0"
    assert shown((part.lot, part.size, part.cost) for part in sale.parts) == "1 1 50000; 2 0.5 27500"
    assert shown((lot.lot, lot.size, lot.cost) for lot in book.lots()) == "2 0.5 27500"
    assert book.totals()["BTC-USD"].pnl == 12_500


@settings(max_examples=150)
@given(fills())
def test_every_number_is_the_exact_one_or_its_nearest(history: list[Fill]) -> None:
    """Sizes equal the reference's to the last digit; amounts differ only by rounding to 18 places."""
    book = Book(history)
    sales, left = reference(history)
    assert {sale.id for sale in book.sales()} == set(sales)
    for sale in book.sales():
        exact = sales[sale.id]
        assert Fraction(sale.uncovered_size) == exact.uncovered
        assert Fraction(sale.taken_size) == exact.uncovered + exact.covered
        assert [(part.lot, Fraction(part.size)) for part in sale.parts] == [part[:2] for part in exact.parts]
        assert abs(Fraction(sale.proceeds) - exact.proceeds) <= UNIT_OF_ACCOUNT / 2
        assert abs(Fraction(sale.cost_basis) - exact.cost) <= UNIT_OF_ACCOUNT * (1 + len(exact.parts))
        for part, (_, _, cost) in zip(sale.parts, exact.parts, strict=True):
            assert abs(Fraction(part.cost) - cost) <= 2 * UNIT_OF_ACCOUNT
    assert {lot.lot: Fraction(lot.size) for lot in book.lots()} == left


@given(fills())
def test_size_cost_and_cash_are_conserved(history: list[Fill]) -> None:
    """Everything bought is sold or left, in size, in cost and in cash: to the last unit."""
    book = Book(history)
    for symbol in book.symbols:
        sales, lots = list(book.sales(symbol)), list(book.lots(symbol))
        brought = [effect(item) for item in history if item.symbol == symbol and item.side is Side.BUY]
        parts = [part for sale in sales for part in sale.parts]
        size = sum((part.size for part in parts), Decimal(0)) + sum((lot.size for lot in lots), Decimal(0))
        assert Fraction(size) == sum((moved for moved, _ in brought), Fraction(0))
        cost = sum((part.cost for part in parts), Decimal(0)) + sum((lot.cost for lot in lots), Decimal(0))
        rounded = [units_of(exactly(amount)) for _, amount in brought]
        assert units_of(cost) == sum(rounded)
        for sale in sales:
            assert sum((part.size for part in sale.parts), sale.uncovered_size) == sale.taken_size
            assert sum((part.cost for part in sale.parts), Decimal(0)) == sale.cost_basis
            assert sale.pnl == sale.proceeds - sale.uncovered_proceeds - sale.cost_basis
        totals = book.totals()[symbol]
        assert totals.pnl == sum((sale.pnl for sale in sales), Decimal(0))
        assert totals.open_size == sum((lot.size for lot in lots), Decimal(0))
        assert totals.open_cost == sum((lot.cost for lot in lots), Decimal(0))


def exactly(amount: Fraction) -> Decimal:
    """A fraction whose denominator is a power of ten, as a decimal of any length."""
    scaled = amount * 10**40
    assert scaled.denominator == 1
    return Decimal(scaled.numerator).scaleb(-40)


@given(fills(), st.randoms(use_true_random=False), st.integers(0, 30))
def test_arrival_in_any_order_and_size_gives_the_same_book(history: list[Fill], dice: random.Random, cut: int) -> None:
    """One at a time, all at once, or some of each, shuffled and with repeats: the same sells, lots and totals."""
    whole = state(Book(history))
    arrived = [*history, *history[: len(history) // 3]]
    dice.shuffle(arrived)
    one_by_one = Book()
    for item in arrived:
        one_by_one.add(item)
    assert state(one_by_one) == whole
    mixed = Book(arrived[:cut])
    for item in arrived[cut : cut + 3]:
        mixed.add(item)
    mixed.extend(arrived[cut:])
    assert state(mixed) == whole
    for sale in one_by_one.sales():
        assert one_by_one.sale(sale.id) == sale


@given(st.integers(-(10**40), 10**40), st.lists(st.integers(1, 10**30), min_size=1, max_size=20))
def test_parts_sum_to_the_amount(amount: int, pieces: list[int]) -> None:
    """However an amount is split, its parts sum to it, and each is within one unit of its exact share."""
    whole, at, total = sum(pieces), 0, 0
    for piece in pieces:
        part = split(amount, at, at + piece, whole)
        assert abs(Fraction(amount * piece, whole) - part) <= 1
        at, total = at + piece, total + part
    assert total == amount


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_a_share_is_the_nearest_ties_to_even(amount: int, whole: int) -> None:
    """The same as Python's own rounding of fractions."""
    part = whole // 2 or 1
    assert share(amount, part, whole) == round(Fraction(amount * part, whole))


@given(st.integers(-(10**40), 10**40))
def test_texts_are_exact(units: int) -> None:
    """A text and a decimal have every unit, without exponent and without trailing zeros."""
    text = text_of(units)
    assert Fraction(text) == Fraction(units, UNIT)
    assert "E" not in text
    assert not ("." in text and text.endswith(("0", ".")))
    assert units_of(decimal_of(units)) == units


def test_fees_in_each_currency() -> None:
    """Quote and third-currency fees change the money, base fees change the size; a rebate is a negative fee."""
    base, other = FeeCurrency.BASE, FeeCurrency.OTHER
    bnb = {"fee": Decimal("0.01"), "fee_currency": other, "fee_rate": Decimal(600)}
    book = Book(
        [
            fill(1, Side.BUY, 1, 100, fee=Decimal("0.001"), fee_currency=base),
            fill(2, Side.BUY, 1, 100, **bnb),
            fill(3, Side.BUY, 1, 100, fee=Decimal(-1)),
        ]
    )
    assert shown((lot.size, lot.cost) for lot in book.lots()) == "0.999 100; 1 106; 1 99"
    book.add(fill(4, Side.SELL, "0.998", 200, fee=Decimal("0.001"), fee_currency=base))
    assert shown([(book.sale(4).taken_size, book.sale(4).proceeds, book.sale(4).pnl)]) == "0.999 199.6 99.6"
    book.add(fill(5, Side.SELL, 1, 200, **bnb))
    assert shown([(book.sale(5).proceeds, book.sale(5).pnl)]) == "194 88"


def test_an_oversell_is_never_covered_by_a_later_buy() -> None:
    """The available lots are matched, the rest is uncovered: no cost basis, no profit, and the next lot stays whole."""
    book = Book([fill(1, Side.BUY, 1, 50_000), fill(2, Side.SELL, "1.5", 60_000), fill(3, Side.BUY, 2, 10)])
    sale = book.sale(2)
    assert shown([(sale.uncovered_size, sale.cost_basis, sale.pnl)]) == "0.5 50000 10000"
    assert shown([(sale.proceeds, sale.uncovered_proceeds)]) == "90000 30000"
    assert shown((lot.lot, lot.size) for lot in book.lots()) == "3 2"


def test_a_late_fill_computes_what_follows_and_nothing_else() -> None:
    """`add` returns how many fills it computed: those at and after the place of the new one, in its symbol."""
    book = Book([fill(number, Side.BUY, 1, number) for number in range(1, 1001)])
    book.add(Fill("other", "ETH-USD", 0, Side.BUY, Decimal(1), Decimal(1)))
    assert book.add(fill(2000, Side.SELL, 1, 9)) == 1
    assert book.sale(2000).cost_basis == 1
    assert book.add(Fill("late", "BTC-USD", 1_990 * 10**9, Side.SELL, Decimal(3), Decimal(9))) == 2
    assert [part.lot for part in book.sale("late").parts] == ["1", "2", "3"]
    assert [part.lot for part in book.sale(2000).parts] == ["4"]
    assert book.add(Fill("first", "BTC-USD", 0, Side.BUY, Decimal(2), Decimal(1))) == 1003
    assert [part.lot for part in book.sale(2000).parts] == ["2"]


def test_the_same_fill_again_counts_once_and_another_content_is_refused() -> None:
    """A repeat changes nothing; the same id with other content is an error that changes nothing either."""
    book = Book([fill(1, Side.BUY, 1, 50_000)])
    assert book.add(fill(1, Side.BUY, "1.00", "50000.0")) == 0
    with pytest.raises(FifoError, match="seen before with other content") as refused:
        book.extend([fill(2, Side.BUY, 1, 7), fill(1, Side.BUY, 1, 50_001)])
    assert refused.value.code == "DUPLICATE_ID"
    assert len(book) == 1
    assert [lot.size for lot in book.lots()] == [1]
    assert book.add(fill(2, Side.BUY, 1, 8)) == 1


def test_fills_of_the_same_time_go_by_sequence_then_by_id() -> None:
    """Sequence decides, then ids, numbers as numbers."""
    at_once = [
        Fill(number, "BTC-USD", 0, Side.BUY, Decimal(1), Decimal(price), seq=seq)
        for number, price, seq in ((10, 10, 0), (9, 9, 0), (1, 1, 1))
    ]
    assert [lot.lot for lot in Book(at_once).lots()] == ["9", "10", "1"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"size": Decimal(0)}, "SIZE_NOT_POSITIVE"),
        ({"size": Decimal(-1)}, "SIZE_NOT_POSITIVE"),
        ({"size": Decimal("NaN")}, "NOT_A_NUMBER"),
        ({"price": Decimal("Infinity")}, "NOT_A_NUMBER"),
        ({"price": Decimal(0)}, "PRICE_NOT_POSITIVE"),
        ({"size": Decimal("1e-19")}, "TOO_FINE"),
        ({"price": Decimal("1.0000000000000000001")}, "TOO_FINE"),
        ({"size": Decimal("1e31")}, "TOO_LARGE"),
        ({"fee": Decimal(1), "fee_currency": FeeCurrency.OTHER}, "FEE_RATE_MISSING"),
        ({"fee": Decimal(1), "fee_currency": FeeCurrency.OTHER, "fee_rate": Decimal(-1)}, "FEE_RATE_NEGATIVE"),
        ({"fee": Decimal(1), "fee_currency": FeeCurrency.BASE}, "FEE_EATS_SIZE"),
    ],
)
def test_a_fill_that_cannot_be_is_refused(changes: dict[str, Any], code: str) -> None:
    """Each error has its code, and the book is unchanged."""
    book = Book()
    with pytest.raises(FifoError) as refused:
        book.add(fill(1, Side.BUY, 1, 1)._replace(**changes))
    assert refused.value.code == code
    assert len(book) == 0


def test_an_unknown_sell_is_said_so() -> None:
    """The error names the unknown sell."""
    book = Book([fill(1, Side.BUY, 1, 1)])
    for name in (1, "x"):
        with pytest.raises(FifoError, match=f"fill id {name}"):
            book.sale(name)


def test_the_widest_numbers_lose_nothing() -> None:
    """Sizes of 1e12 with 18 places at prices of 1e-12: three uneven parts still sum to the lot's cost."""
    size = Decimal("999999999999.999999999999999997")
    third = Decimal("333333333333.333333333333333333")
    parts: list[Sale] = []
    book = Book([fill(1, Side.BUY, str(size), "0.000000000001", fee=Decimal("0.000000000000000001"))])
    for number, part in enumerate((third, third, size - 2 * third), 2):
        book.add(fill(number, Side.SELL, str(part), "1.000000000001"))
        parts.append(book.sale(number))
    exact = Fraction(size) * Fraction(1, 10**12) + UNIT_OF_ACCOUNT
    assert sum(units_of(sale.cost_basis) for sale in parts) == round(exact * UNIT)
    assert list(book.lots()) == []
