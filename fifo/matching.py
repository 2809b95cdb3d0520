"""First in, first out as the ledger's rows: buys open lots, a sell consumes the oldest lots first (LEDGER-2).

Profit and loss of a part = its net proceeds - its cost, where cost = price x size + the buy's fees and net proceeds =
price x size - the sell's fees, both pro rata by size. An oversell is matched with the available lots; the rest is
*uncovered* and has no cost basis. A buy fee taken in base makes the lot smaller, a sell fee taken in base makes the
sell larger.

Amounts are rounded once to 18 places and split by the rule of `fifo.amounts`: the parts of a lot sum to its cost
exactly, the parts of a sell to its proceeds. Sizes are exact, with any number of places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from domain.money import EXACT, ZERO, divide
from domain.orders import Side
from fifo.amounts import decimal_of, split, units_of
from fifo.line import FillEntry, Line

__all__ = ["Allocation", "FillRecord", "Lot", "Match", "match_all", "match_sell"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FillRecord:
    """One fill of one symbol. Sizes and base fees in base, value and quote fees in quote currency."""

    fill_id: int
    order_id: str
    side: Side
    size: Decimal
    value: Decimal
    quote_fees: Decimal
    base_fees: Decimal
    at: datetime

    @property
    def price(self) -> Decimal:
        """Quote per base, before fees."""
        return divide(self.value, self.size) if self.size else ZERO


@dataclass(frozen=True, slots=True)
class Lot:
    """A buy's fill and its remaining size."""

    fill: FillRecord
    remaining: Decimal

    @property
    def size(self) -> Decimal:
        """The lot's size: the buy's size less a fee taken in base."""
        return self.fill.size - self.fill.base_fees

    @property
    def cost(self) -> Decimal:
        """Value plus fees in quote currency."""
        return self.fill.value + self.fill.quote_fees


@dataclass(frozen=True, slots=True)
class Allocation:
    """A part of a sell matched to a part of a lot; `lot` is None for an uncovered remainder (no cost basis)."""

    sell: FillRecord
    lot: FillRecord | None
    size: Decimal
    cost_basis: Decimal | None
    proceeds: Decimal
    net_proceeds: Decimal

    @property
    def pnl(self) -> Decimal | None:
        """Net proceeds less cost; None without a cost basis."""
        return None if self.cost_basis is None else self.net_proceeds - self.cost_basis


@dataclass(frozen=True, slots=True)
class Match:
    """The result of matching a whole symbol."""

    allocations: Sequence[Allocation]
    lots: Sequence[Lot]


def _whole(values: Sequence[Decimal]) -> tuple[list[int], int]:
    """The values as whole numbers of one scale, and its decimal places."""
    places = max((-int(value.as_tuple().exponent) for value in values), default=0)
    places = max(places, 0)
    return [int(value.scaleb(places, EXACT)) for value in values], places


def _allocation(
    sell: FillRecord, lot: FillRecord | None, sold: tuple[int, int, int], bought: tuple[int, int, int], places: int
) -> Allocation:
    """One allocation. `sold` and `bought` are start, end and whole size: of the sell, and of the lot."""
    gross, net = units_of(sell.value), units_of(EXACT.subtract(sell.value, sell.quote_fees))
    cost = None if lot is None else decimal_of(split(units_of(Lot(lot, ZERO).cost), *bought))
    size = Decimal(sold[1] - sold[0]).scaleb(-places, EXACT)
    return Allocation(sell, lot, size, cost, decimal_of(split(gross, *sold)), decimal_of(split(net, *sold)))


def match_sell(sell: FillRecord, lots: Iterable[Lot]) -> tuple[list[Allocation], list[Lot]]:
    """Match one sell with open lots, oldest first: returns its allocations and the changed lots."""
    offered = list(lots)
    sizes, places = _whole([sell.size, sell.base_fees, *(n for lot in offered for n in (lot.size, lot.remaining))])
    taken = sizes[0] + sizes[1]
    done = 0
    allocations: list[Allocation] = []
    changed: list[Lot] = []
    for number, lot in enumerate(offered, 1):
        size, remaining = sizes[2 * number], sizes[2 * number + 1]
        part = min(remaining, taken - done)
        if part <= 0:
            continue
        gone = size - remaining
        allocations.append(_allocation(sell, lot.fill, (done, done + part, taken), (gone, gone + part, size), places))
        changed.append(Lot(lot.fill, Decimal(remaining - part).scaleb(-places, EXACT)))
        done += part
        if done == taken:
            break
    if done < taken:
        allocations.append(_allocation(sell, None, (done, taken, taken), (0, 0, 0), places))
    return allocations, changed


def match_all(fills: Iterable[FillRecord]) -> Match:
    """Match a symbol's whole history, ordered by (time, id): with the same rows as `match_sell` one by one."""
    records = list(fills)
    by_id = {record.fill_id: record for record in records}
    sizes, places = _whole([n for record in records for n in (record.size, record.base_fees)])
    line = Line()
    entries = (_entry(record, sizes[2 * number], sizes[2 * number + 1]) for number, record in enumerate(records))
    line.extend([entry for entry in entries if entry.moved > 0])
    allocations: list[Allocation] = []
    gone: dict[int, int] = {}
    for entry, pieces, _, _ in line.sells():
        sell, done = by_id[int(entry.id)], 0
        for number, size, _ in pieces:
            lot = line.lot(number)
            before = gone.get(number, 0)
            gone[number] = before + size
            allocations.append(
                _allocation(
                    sell,
                    by_id[int(lot.id)],
                    (done, done + size, entry.moved),
                    (before, before + size, lot.moved),
                    places,
                )
            )
            done += size
        if done < entry.moved:
            allocations.append(_allocation(sell, None, (done, entry.moved, entry.moved), (0, 0, 0), places))
    lots = [Lot(by_id[int(entry.id)], Decimal(left).scaleb(-places, EXACT)) for entry, left, _ in line.lots(every=True)]
    return Match(allocations, lots)


def _entry(record: FillRecord, size: int, base_fees: int) -> FillEntry:
    buy = record.side is Side.BUY
    fees = record.quote_fees if buy else -record.quote_fees
    return FillEntry(
        time=(record.at - _EPOCH) // _MICROSECOND,
        seq=record.fill_id,
        tie="",
        id=str(record.fill_id),
        symbol="",
        buy=buy,
        size=size,
        moved=size - base_fees if buy else size + base_fees,
        amount=units_of(EXACT.add(record.value, fees)),
    )
