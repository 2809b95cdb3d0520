"""First in, first out over whole arrays: a million fills a second and more on one core, the same units as `fifo.line`.

Cumulative sums, once over all symbols: lots are placed end to end, sells are intervals beside them, and the merged ends
of both are the ends of the parts. A sell never takes a later buy: its uncovered part is the amount by which it pushes
the running balance below its previous minimum (the balance is reflected at zero). A sell of everything, appended to
each symbol, empties it for the next, and its parts are the open lots. Costs are split only where an end is inside a
lot.

Numbers that don't fit 64 bits are matched with Python's integers, one fill after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fifo import pairs
from fifo.amounts import PLACES, divide_half_even, share
from fifo.fills import FifoError
from fifo.pairs import Amounts, Ints, carried, product, round_up_where

__all__ = ["FillColumns", "Matched", "match_columns"]

_CHUNK = 1 << 14
_SELLS = 1 << 17
_LARGEST_FACTOR = 10**18 - 1
_LARGEST_SUM = 2.0**61  # half of the maximum of the long division in `pairs.share`: room for estimates in floats


@dataclass(frozen=True, slots=True)
class FillColumns:
    """Fills as columns of equal length: int64, or Python's integers (dtype object) where they are larger.

    `size` and `base_fee` are in units of 10^-size_places base, `price` in 10^-price_places, `fee` (in quote currency)
    in 10^-fee_places. `symbol` is any code of the symbol, `time` and `seq` order the fills; if both are equal, the
    earlier row is first. `id`, if given, makes repeated rows count once.
    """

    symbol: Ints
    time: Ints
    seq: Ints
    buy: NDArray[np.bool_]
    size: NDArray[Any]
    price: NDArray[Any]
    fee: NDArray[Any]
    base_fee: NDArray[Any]
    size_places: int
    price_places: int
    fee_places: int
    id: Ints | None = None

    def __len__(self) -> int:
        return len(self.symbol)

    def rows(self, key: Any) -> FillColumns:
        """The rows that `key` selects."""
        names = ("symbol", "time", "seq", "buy", "size", "price", "fee", "base_fee")
        found = {name: getattr(self, name)[key] for name in names}
        return replace(self, **found, id=None if self.id is None else self.id[key])

    @property
    def moved(self) -> NDArray[Any]:
        """The size that each buy added and each sell took."""
        if not self.base_fee.any():
            return self.size
        return self.size + np.where(self.buy, -self.base_fee, self.base_fee)


@dataclass(frozen=True, slots=True)
class Matched:
    """The result of matching. Sizes are in units of 10^-size_places; `*_row` are rows of the columns given.

    One element a sell, by symbol, time and sequence: `sell_row, uncovered, proceeds` (whole, net), `cost_basis, pnl`
    (of what is covered). One a part, by sell, oldest lot first: `part_sell` (number of the sell), `part_row` (the lot's
    buy), `part_size, part_cost`. One an open lot: `lot_row, lot_size, lot_cost`.
    """

    sell_row: Ints
    uncovered: NDArray[Any]
    proceeds: Amounts
    cost_basis: Amounts
    pnl: Amounts
    part_sell: Ints
    part_row: Ints
    part_size: NDArray[Any]
    part_cost: Amounts
    lot_row: Ints
    lot_size: NDArray[Any]
    lot_cost: Amounts


def match_columns(columns: FillColumns) -> Matched:
    """Match all symbols. Raises FifoError, with the row: SIZE_NOT_POSITIVE, PRICE_NOT_POSITIVE, FEE_EATS_SIZE,
    DUPLICATE_ID.
    """
    fits = _fits(columns)
    if not fits:
        columns = _unbounded(columns)
    _refuse(columns.size <= 0, "SIZE_NOT_POSITIVE", "size must be above zero")
    _refuse(columns.price <= 0, "PRICE_NOT_POSITIVE", "price must be above zero")
    _refuse(columns.moved <= 0, "FEE_EATS_SIZE", "the fee in base currency is as large as the size")
    rows = _order(columns, _kept(columns))
    ordered = columns if rows is None else columns.rows(rows)
    found = _match(ordered) if fits else _match_large(ordered)
    if rows is None:
        return found
    return replace(found, sell_row=rows[found.sell_row], part_row=rows[found.part_row], lot_row=rows[found.lot_row])


def _refuse(bad: NDArray[np.bool_], code: str, sentence: str) -> None:
    if bad.any():
        raise FifoError(code, f"row {int(np.argmax(bad))}: {sentence}")


def _kept(columns: FillColumns) -> Ints | None:
    """The first row of each id; None if all rows are kept."""
    if columns.id is None or bool((columns.id[1:] > columns.id[:-1]).all()):
        return None
    _, first, inverse = np.unique(columns.id, return_index=True, return_inverse=True)
    if len(first) == len(columns):
        return None
    original = columns.rows(first[inverse])
    same = np.ones(len(columns), np.bool_)
    for name in ("symbol", "time", "seq", "buy", "size", "price", "fee", "base_fee"):
        same &= getattr(original, name) == getattr(columns, name)
    _refuse(~same, "DUPLICATE_ID", "its id was seen before with other content")
    return np.sort(first)


def _order(columns: FillColumns, kept: Ints | None) -> Ints | None:
    """Rows by symbol, time and sequence; None if they are in this order."""
    symbol, time, seq = (
        column if kept is None else column[kept] for column in (columns.symbol, columns.time, columns.seq)
    )
    later = (time[1:] > time[:-1]) | ((time[1:] == time[:-1]) & (seq[1:] >= seq[:-1]))
    if bool(((symbol[1:] > symbol[:-1]) | ((symbol[1:] == symbol[:-1]) & later)).all()):
        return kept
    order = np.lexsort((seq, time, symbol))
    return order if kept is None else kept[order]


def _unbounded(columns: FillColumns) -> FillColumns:
    """The columns with Python's integers, whose sums can't overflow."""
    names = ("size", "price", "fee", "base_fee")
    return replace(columns, **{name: getattr(columns, name).astype(object) for name in names})


def _fits(columns: FillColumns) -> bool:
    """Whether all sums stay within 64 bits."""
    numbers = (columns.size, columns.price, columns.fee, columns.base_fee)
    if not len(columns):
        return True
    if any(column.dtype != np.int64 for column in numbers) or columns.fee_places > PLACES:
        return False
    places = columns.size_places + columns.price_places
    largest = max(max(int(column.max()), -int(column.min())) for column in numbers)
    if places > 2 * PLACES or largest > _LARGEST_FACTOR:
        return False
    size, fees, base_fees = (
        float(np.abs(column, dtype=np.float64).sum()) for column in (columns.size, columns.fee, columns.base_fee)
    )
    paid = size * float(columns.price.max()) / 10.0**places + fees / 10.0**columns.fee_places
    return size + base_fees < _LARGEST_SUM and paid < _LARGEST_SUM


def _amounts(columns: FillColumns) -> Amounts:
    """Cost of each buy, net proceeds of each sell: exact, then rounded once; in pieces that fit a CPU cache."""
    found = Amounts.zeros(len(columns))
    for start in range(0, len(columns), _CHUNK):
        here = slice(start, start + _CHUNK)
        found.put(here, _some_amounts(columns.rows(here)))
    return found


def _some_amounts(columns: FillColumns) -> Amounts:
    value, remainder, divisor = product(columns.size, columns.price, columns.size_places + columns.price_places)
    fee_whole, fee_rest = np.divmod(columns.fee, 10**columns.fee_places)
    fee = Amounts(fee_whole, fee_rest * 10 ** (PLACES - columns.fee_places))
    sign: Ints = np.where(columns.buy, 1, -1).astype(np.int64)
    signed = carried(value.whole + sign * fee.whole, value.atto + sign * fee.atto)
    return signed if divisor == 1 else round_up_where(signed, remainder, divisor)


def _match(columns: FillColumns) -> Matched:
    count = len(columns)
    if not count:
        return _match_large(_unbounded(columns))
    amounts, moved, buy = _amounts(columns), columns.moved, columns.buy
    starts = np.flatnonzero(np.concatenate([[True], columns.symbol[1:] != columns.symbol[:-1]]))
    ends = np.append(starts[1:], count)
    # After each symbol a sell of everything bought, which empties it. Its row is -1.
    bought = np.add.reduceat(np.where(buy, moved, 0), starts)
    row = np.insert(np.arange(count), ends, -1)
    signed = np.insert(np.where(buy, moved, -moved), ends, -bought)
    lowest = np.minimum(np.minimum.accumulate(np.cumsum(signed)), 0)
    uncovered = -np.diff(lowest, prepend=0)
    sells = np.flatnonzero(signed <= 0)
    lots = np.flatnonzero(buy)
    sell_row, sell_uncovered = row[sells], uncovered[sells]
    covered = -signed[sells] - sell_uncovered
    lot_size = moved[lots]
    line = _Line(np.cumsum(lot_size), lot_size, np.cumsum(covered), amounts[lots])
    parts = [line.parts(start, min(start + _SELLS, len(sells))) for start in range(0, len(sells), _SELLS)]
    part_lot, part_sell, part_size = (np.concatenate([part[position] for part in parts]) for position in range(3))
    part_cost = Amounts(
        np.concatenate([part[3].whole for part in parts]), np.concatenate([part[3].atto for part in parts])
    )
    cost_basis = Amounts(
        np.concatenate([part[4].whole for part in parts]), np.concatenate([part[4].atto for part in parts])
    )
    # Without the sells that only empty a symbol: their parts are the open lots.
    kept = sell_row >= 0
    real, number = kept[part_sell], np.cumsum(kept) - 1
    sell_row, sell_uncovered, covered, cost_basis = (
        sell_row[kept],
        sell_uncovered[kept],
        covered[kept],
        cost_basis[kept],
    )
    proceeds = amounts[sell_row]
    return Matched(
        sell_row=sell_row,
        uncovered=sell_uncovered,
        proceeds=proceeds,
        cost_basis=cost_basis,
        pnl=_covered_proceeds(proceeds, covered, sell_uncovered) - cost_basis,
        part_sell=number[part_sell[real]],
        part_row=lots[part_lot[real]],
        part_size=part_size[real],
        part_cost=part_cost[real],
        lot_row=lots[part_lot[~real]],
        lot_size=part_size[~real],
        lot_cost=part_cost[~real],
    )


@dataclass(slots=True)
class _Line:
    """Lots and sells by their ends, over all symbols."""

    lot_end: Ints
    lot_size: Ints
    sell_end: Ints
    cost: Amounts

    def parts(self, start: int, end: int) -> tuple[Ints, Ints, Ints, Amounts, Amounts]:
        """Lot, sell, size and cost of each part of the sells from `start` to before `end`, and each sell's cost."""
        sell_end = self.sell_end[start:end]
        begin = int(self.sell_end[start - 1]) if start else 0
        first, last = np.searchsorted(self.lot_end, [begin, int(sell_end[-1])], side="right")
        lot_end = self.lot_end[first : last + 1]
        # A part ends at the end of a lot or of a sell.
        part_end = np.sort(np.concatenate([self.lot_end[first:last], sell_end]), kind="stable")
        part_end = part_end[np.diff(part_end, prepend=begin) > 0]
        lot = np.searchsorted(lot_end, part_end) + first
        sell = np.searchsorted(sell_end, part_end)
        cost = self._costs(begin, part_end, lot)
        basis = Amounts.zeros(end - start)
        if len(sell):
            group = np.flatnonzero(np.diff(sell, prepend=-1))
            basis.put(sell[group], cost.grouped(group))
        return lot, sell + start, np.diff(part_end, prepend=begin), cost, basis

    def _costs(self, begin: int, part_end: Ints, lot: Ints) -> Amounts:
        upto = self.cost[lot]
        inside = np.flatnonzero(part_end != self.lot_end[lot])
        if len(inside):
            shares = self._shares(lot[inside], part_end[inside])
            upto.put(inside, shares)
            # The part after an end inside a lot is of the same lot: it gets its own share less that one.
            followed = inside + 1 < len(lot)
            behind = inside[followed] + 1
            upto.put(behind, upto[behind] - shares[followed])
        if len(lot) and begin > self.lot_end[lot[0]] - self.lot_size[lot[0]]:
            # So does the very first, if earlier sells took from its lot.
            upto.put(slice(1), upto[:1] - self._shares(lot[:1], np.array([begin])))
        return upto

    def _shares(self, lot: Ints, upto: Ints) -> Amounts:
        size = self.lot_size[lot]
        return pairs.share(self.cost[lot], upto - (self.lot_end[lot] - size), size)


def _covered_proceeds(proceeds: Amounts, covered: Ints, uncovered: Ints) -> Amounts:
    partly = np.flatnonzero(uncovered)
    if not len(partly):
        return proceeds
    found = Amounts(proceeds.whole.copy(), proceeds.atto.copy())
    found.put(partly, pairs.share(proceeds[partly], covered[partly], covered[partly] + uncovered[partly]))
    return found


def _match_large(columns: FillColumns) -> Matched:
    """The same for numbers of any size: Python's integers, one fill after the other."""
    queue = _Queue()
    symbol: int | None = None
    fills = zip(
        columns.symbol.tolist(), columns.buy.tolist(), columns.moved.tolist(), _large_amounts(columns), strict=True
    )
    for row, (of, buy, moved, amount) in enumerate(fills):
        if of != symbol:
            queue.empty()
            symbol = of
        if buy:
            queue.rows.append(row)
            queue.sizes.append(moved)
            queue.costs.append(amount)
        else:
            queue.sell(row, moved, amount)
    queue.empty()
    return queue.matched()


def _large_amounts(columns: FillColumns) -> list[int]:
    """The amounts, exact at the finest of the scales, then rounded once to 18 places."""
    places = max(columns.size_places + columns.price_places, columns.fee_places, PLACES)
    value = columns.size * columns.price * 10 ** (places - columns.size_places - columns.price_places)
    fee = columns.fee * 10 ** (places - columns.fee_places)
    exact = np.where(columns.buy, value + fee, value - fee).tolist()
    unit = 10 ** (places - PLACES)
    return exact if unit == 1 else [divide_half_even(item, unit) for item in exact]


class _Queue:
    """Lots of one symbol, the oldest at `head`, and the results of all symbols so far: columns of integers."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.sizes: list[int] = []
        self.costs: list[int] = []
        self.head = 0
        # Of the oldest lot: the size that sells took, and the cost allocated with it.
        self.used = self.given = 0
        self.sold: tuple[list[int], ...] = ([], [], [], [], [])
        self.parts: tuple[list[int], ...] = ([], [], [], [])
        self.left: tuple[list[int], ...] = ([], [], [])

    def sell(self, row: int, moved: int, amount: int) -> None:
        """Match a sell with the oldest lots."""
        rows, sizes, costs = self.rows, self.sizes, self.costs
        head, used, given = self.head, self.used, self.given
        part_sells, part_rows, part_sizes, part_costs = self.parts
        sell_rows, uncovered, proceeds, cost_basis, pnl = self.sold
        left, total, number, count = moved, 0, len(sell_rows), len(rows)
        while left and head < count:
            part, size = sizes[head] - used, sizes[head]
            part_rows.append(rows[head])
            if part <= left:
                cost = costs[head] - given
                head += 1
                used = given = 0
            else:
                part = left
                used += part
                upto = share(costs[head], used, size)
                cost, given = upto - given, upto
            left -= part
            total += cost
            part_sells.append(number)
            part_sizes.append(part)
            part_costs.append(cost)
        self.head, self.used, self.given = head, used, given
        sell_rows.append(row)
        uncovered.append(left)
        proceeds.append(amount)
        cost_basis.append(total)
        pnl.append((share(amount, moved - left, moved) if left else amount) - total)

    def empty(self) -> None:
        """End a symbol: the remaining lots are its open lots."""
        lot_rows, lot_sizes, lot_costs = self.left
        lot_rows += self.rows[self.head :]
        lot_sizes += self.sizes[self.head :]
        lot_costs += self.costs[self.head :]
        if self.used:
            first = len(lot_rows) - len(self.rows) + self.head
            lot_sizes[first] -= self.used
            lot_costs[first] -= self.given
        self.rows.clear()
        self.sizes.clear()
        self.costs.clear()
        self.head = self.used = self.given = 0

    def matched(self) -> Matched:
        """The results as arrays."""
        sell_rows, uncovered, proceeds, cost_basis, pnl = self.sold
        part_sells, part_rows, part_sizes, part_costs = self.parts
        lot_rows, lot_sizes, lot_costs = self.left
        return Matched(
            sell_row=_ints(sell_rows),
            uncovered=_ints(uncovered),
            proceeds=Amounts.of_units(proceeds),
            cost_basis=Amounts.of_units(cost_basis),
            pnl=Amounts.of_units(pnl),
            part_sell=_ints(part_sells),
            part_row=_ints(part_rows),
            part_size=_ints(part_sizes),
            part_cost=Amounts.of_units(part_costs),
            lot_row=_ints(lot_rows),
            lot_size=_ints(lot_sizes),
            lot_cost=Amounts.of_units(lot_costs),
        )


def _ints(values: list[int]) -> Any:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array(values, object)
