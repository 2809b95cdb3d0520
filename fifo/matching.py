"""First in, first out: buys open lots, a sell consumes the oldest lots first (LEDGER-2).

Profit and loss of a part = its net proceeds - its cost, where cost = price x size + the buy's fees and net proceeds =
price x size - the sell's fees, both pro rata by size. An oversell is matched with what is there; the rest is
*uncovered* and has no cost basis. A buy fee taken in base makes the lot smaller, a sell fee taken in base makes the
sell larger.

A fill's cost is handed out by cumulative amounts (the cost of the first x of a lot, less the cost of what went
before), so that the parts of a lot sum to its cost exactly whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from domain.money import EXACT, ZERO, divide, round_half_even
from domain.orders import Side

__all__ = ["Allocation", "FillRecord", "Lot", "Match", "match_all", "match_sell"]

_QUANTUM = Decimal("1e-18")


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
    """A buy's fill and how much of it is left."""

    fill: FillRecord
    remaining: Decimal

    @property
    def size(self) -> Decimal:
        """What the buy brought: its size less a fee taken in base."""
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
        """Net proceeds less cost; None where there is no cost basis."""
        return None if self.cost_basis is None else self.net_proceeds - self.cost_basis


@dataclass(frozen=True, slots=True)
class Match:
    """The result of matching a whole symbol."""

    allocations: Sequence[Allocation]
    lots: Sequence[Lot]


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """What belongs to the first `part` of `whole`, at 18 places; all of it at the end."""
    if part >= whole:
        return amount
    return round_half_even(divide(EXACT.multiply(amount, part), whole), _QUANTUM)


def _between(amount: Decimal, start: Decimal, end: Decimal, whole: Decimal) -> Decimal:
    return _share(amount, end, whole) - _share(amount, start, whole)


def match_sell(sell: FillRecord, lots: Iterable[Lot]) -> tuple[list[Allocation], list[Lot]]:
    """Match one sell with open lots, oldest first: its allocations, and the lots that it changed."""
    whole = sell.size + sell.base_fees
    done = ZERO
    allocations: list[Allocation] = []
    changed: list[Lot] = []

    def allocate(size: Decimal, lot: Lot | None) -> None:
        nonlocal done
        proceeds = _between(sell.value, done, done + size, whole)
        fees = _between(sell.quote_fees, done, done + size, whole)
        cost = None
        if lot is not None:
            consumed = lot.size - lot.remaining
            cost = _between(lot.cost, consumed, consumed + size, lot.size)
        allocations.append(
            Allocation(sell, lot.fill if lot else None, size, cost, proceeds, proceeds - fees)
        )
        done += size

    for lot in lots:
        if done >= whole:
            break
        part = min(lot.remaining, whole - done)
        if part <= 0:
            continue
        allocate(part, lot)
        changed.append(Lot(lot.fill, lot.remaining - part))
    if done < whole:
        allocate(whole - done, None)
    return allocations, changed


def match_all(fills: Iterable[FillRecord]) -> Match:
    """Match a symbol's whole history, ordered by (time, id)."""
    lots: list[Lot] = []
    first_open = 0
    allocations: list[Allocation] = []
    for fill in sorted(fills, key=lambda item: (item.at, item.fill_id)):
        if fill.side is Side.BUY:
            if fill.size > fill.base_fees:
                lots.append(Lot(fill, fill.size - fill.base_fees))
            continue
        parts, changed = match_sell(fill, lots[first_open:])
        allocations.extend(parts)
        for offset, lot in enumerate(changed):
            lots[first_open + offset] = lot
        while first_open < len(lots) and lots[first_open].remaining <= 0:
            first_open += 1
    return Match(allocations, lots)
