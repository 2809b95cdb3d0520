"""First in, first out: nothing is created and nothing lost, for any fills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.orders import Side
from fifo.matching import Allocation, FillRecord, Lot, match_all, match_sell

START = datetime(2026, 1, 1, tzinfo=UTC)
sizes = st.decimals(min_value="0.00000001", max_value=1000, places=8, allow_nan=False, allow_infinity=False)
prices = st.decimals(min_value="0.01", max_value=100_000, places=2, allow_nan=False, allow_infinity=False)
rates = st.sampled_from([Decimal(0), Decimal("0.004"), Decimal("0.006"), Decimal("-0.0001")])


def fill(
    number: int,
    side: Side,
    size: Decimal | str | int,
    price: Decimal | str | int,
    *,
    fee_rate: Decimal = Decimal(0),
    base_fees: Decimal = Decimal(0),
    second: int | None = None,
) -> FillRecord:
    """A fill at its number of seconds after the start, or at `second`."""
    value = Decimal(size) * Decimal(price)
    at = START + timedelta(seconds=number if second is None else second)
    return FillRecord(number, f"order-{number}", side, Decimal(size), value, value * fee_rate, base_fees, at)


@st.composite
def histories(draw: st.DrawFn) -> list[FillRecord]:
    """Fills of one symbol with fees in either currency, rebates, and several at the same time."""
    drawn = draw(
        st.lists(st.tuples(st.sampled_from(Side), sizes, prices, rates, st.booleans(), st.integers(0, 20)), max_size=25)
    )
    return [
        fill(
            number,
            side,
            size,
            price,
            fee_rate=rate,
            base_fees=size * Decimal("0.001") if in_base else Decimal(0),
            second=second,
        )
        for number, (side, size, price, rate, in_base, second) in enumerate(drawn, 1)
    ]


def of_sell(allocations: Sequence[Allocation], sell: FillRecord) -> list[Allocation]:
    """The parts of one sell."""
    return [item for item in allocations if item.sell == sell]


def test_the_worked_example() -> None:
    """Buy 1 at 50,000 and 1 at 55,000, sell 1.5 at 60,000: 12,500 (LEDGER-2)."""
    match = match_all([fill(1, Side.BUY, 1, 50_000), fill(2, Side.BUY, 1, 55_000), fill(3, Side.SELL, "1.5", 60_000)])
    assert sum(item.pnl or 0 for item in match.allocations) == 12_500
    assert [(item.lot and item.lot.fill_id, item.size) for item in match.allocations] == [
        (1, Decimal(1)),
        (2, Decimal("0.5")),
    ]
    assert [lot.remaining for lot in match.lots] == [0, Decimal("0.5")]


def test_fees_are_part_of_cost_and_proceeds() -> None:
    """A round trip at one price loses exactly both fees."""
    fee = Decimal("0.006")
    match = match_all(
        [fill(1, Side.BUY, 1, 50_000, fee_rate=fee), fill(2, Side.SELL, 1, 50_000, fee_rate=fee)],
    )
    assert [item.pnl for item in match.allocations] == [Decimal(-600)]


def test_an_oversell_is_an_uncovered_remainder() -> None:
    """An uncovered part has proceeds and no cost basis, so it has no profit."""
    match = match_all([fill(1, Side.BUY, 1, 50_000), fill(2, Side.SELL, "1.4", 60_000)])
    covered, uncovered = match.allocations
    assert covered.pnl == 10_000
    assert (uncovered.lot, uncovered.size, uncovered.cost_basis, uncovered.pnl) == (None, Decimal("0.4"), None, None)
    assert uncovered.net_proceeds == 24_000


def test_a_sell_never_takes_a_later_buy() -> None:
    """A lot that did not exist yet covers nothing."""
    match = match_all([fill(1, Side.SELL, 1, 60_000), fill(2, Side.BUY, 1, 50_000)])
    assert [item.lot for item in match.allocations] == [None]
    assert [lot.remaining for lot in match.lots] == [1]


def test_a_fee_taken_in_base_makes_the_lot_smaller() -> None:
    """The bought size less the fee can be sold; it carries the whole cost."""
    match = match_all(
        [fill(1, Side.BUY, 1, 50_000, base_fees=Decimal("0.001")), fill(2, Side.SELL, "0.999", 50_000)],
    )
    (item,) = match.allocations
    assert item.cost_basis == 50_000
    assert match.lots[0].remaining == 0


@given(histories())
def test_size_cost_and_cash_are_conserved(history: list[FillRecord]) -> None:
    """Sells are matched to the last unit, lots never beyond their size, costs and proceeds to the last digit."""
    match = match_all(history)
    for sell in (item for item in history if item.side is Side.SELL):
        parts = of_sell(match.allocations, sell)
        assert sum(item.size for item in parts) == sell.size + sell.base_fees
        assert sum(item.proceeds for item in parts) == sell.value
        assert sum(item.net_proceeds for item in parts) == sell.value - sell.quote_fees
    for lot in match.lots:
        used = [item for item in match.allocations if item.lot == lot.fill]
        assert 0 <= lot.remaining <= lot.size
        assert sum(item.size for item in used) + lot.remaining == lot.size
        cost = sum((item.cost_basis or Decimal(0) for item in used), Decimal(0))
        if lot.remaining == 0:
            assert cost == lot.cost
        elif lot.cost >= 0:
            assert 0 <= cost <= lot.cost
    assert all((item.cost_basis is None) is (item.lot is None) for item in match.allocations)


@given(histories())
def test_the_oldest_lot_goes_first(history: list[FillRecord]) -> None:
    """No lot is used while an older one that a sell could have used has something left."""
    match = match_all(history)
    for item in match.allocations:
        if item.lot is None:
            continue
        assert (item.lot.at, item.lot.fill_id) < (item.sell.at, item.sell.fill_id)
    touched = {item.lot.fill_id for item in match.allocations if item.lot}
    for older, newer in zip(match.lots, match.lots[1:], strict=False):
        if newer.fill.fill_id in touched:
            assert older.remaining == 0 or older.fill.fill_id in touched


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(history: list[FillRecord], dice: object) -> None:
    """Fills are matched by their own times, not by their arrival."""
    shuffled = list(history)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert match_all(shuffled) == match_all(history)


@given(histories())
def test_one_sell_at_a_time_gives_the_same_rows(history: list[FillRecord]) -> None:
    """The ledger's rows written fill by fill equal those of a recompute of the whole symbol, to the last digit."""
    lots: dict[int, Lot] = {}
    allocations: list[Allocation] = []
    for item in sorted(history, key=lambda fill: (fill.at, fill.fill_id)):
        if item.side is Side.BUY:
            lots[item.fill_id] = Lot(item, item.size - item.base_fees)
            continue
        matched, changed = match_sell(item, [lot for lot in lots.values() if lot.remaining])
        allocations += matched
        lots.update((lot.fill.fill_id, lot) for lot in changed)
    whole = match_all(history)
    assert allocations == whole.allocations
    assert list(lots.values()) == whole.lots


def test_sizes_of_any_length_are_kept_whole() -> None:
    """A size divided from a quote amount has endless digits; nothing of it is lost at 18 places."""
    third = Decimal(1) / Decimal(3)
    buy, sell = fill(1, Side.BUY, third, 30), fill(2, Side.SELL, third / 7, 60)
    (item,), (lot,) = match_sell(sell, [Lot(buy, buy.size)])
    assert item.size + lot.remaining == third
    (rest,), (empty,) = match_sell(fill(3, Side.SELL, lot.remaining, 60), [lot])
    assert empty.remaining == 0
    assert (item.cost_basis or 0) + (rest.cost_basis or 0) == Decimal("10.000000000000000000")
