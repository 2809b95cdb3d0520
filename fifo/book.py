"""The book of any number of symbols: fills in any order of arrival, one or a million at a time, with the same result.

A repeated fill id with the same content counts once; with other content it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from fifo.amounts import decimal_of
from fifo.fills import FifoError, Fill, entry_of, id_order
from fifo.line import FillEntry, Line, Piece

__all__ = ["Book", "LotPart", "OpenLot", "Sale", "SymbolTotals"]


@dataclass(frozen=True, slots=True)
class LotPart:
    """The part that a sell took of the lot opened by buy `lot`: size in base, cost in quote currency."""

    lot: str
    size: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Sale:
    """A sell and the lots it consumed, oldest first. Sizes in base, amounts in quote currency.

    `taken_size` is the sell's size plus a base fee: its parts and `uncovered_size` add up to it. `proceeds` are of the
    whole sell, less fees; `uncovered_proceeds` are the part that no lot covers. Without a cost basis there is no profit
    or loss, so `pnl` = `proceeds` - `uncovered_proceeds` - `cost_basis`.
    """

    id: str
    symbol: str
    size: Decimal
    taken_size: Decimal
    uncovered_size: Decimal
    proceeds: Decimal
    uncovered_proceeds: Decimal
    cost_basis: Decimal
    pnl: Decimal
    parts: tuple[LotPart, ...]


@dataclass(frozen=True, slots=True)
class OpenLot:
    """The rest of the lot opened by buy `lot`: size in base, cost in quote currency."""

    symbol: str
    lot: str
    size: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class SymbolTotals:
    """Sums over a symbol: `pnl` is realised, `open_size` and `open_cost` are those of open lots."""

    pnl: Decimal
    open_size: Decimal
    open_cost: Decimal
    fills: int


class Book:
    """FIFO lots of any number of symbols."""

    def __init__(self, fills: Iterable[Fill] = ()) -> None:
        self._lines: dict[str, Line] = {}
        self._known: dict[str, FillEntry] = {}
        self.extend(fills)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def symbols(self) -> list[str]:
        """The symbols, sorted by name."""
        return sorted(self._lines)

    def add(self, fill: Fill) -> int:
        """Insert a fill at its place and compute all that follow it.

        Returns how many fills were computed: 1 for the newest of its symbol, 0 for a known one. Raises FifoError for an
        invalid fill, DUPLICATE_ID for a known id with other content; then nothing is changed.
        """
        entry = entry_of(fill)
        return self.line(entry.symbol).add(entry) if self._admit(entry) else 0

    def extend(self, fills: Iterable[Fill]) -> int:
        """Add many fills at once; returns how many were new. Raises like `add`, and then none is added."""
        return self.extend_entries([entry_of(fill) for fill in fills])

    def extend_entries(self, entries: Iterable[FillEntry]) -> int:
        """Like `extend`, for ready entries."""
        new: dict[str, list[FillEntry]] = {}
        admitted: list[FillEntry] = []
        try:
            for entry in entries:
                if self._admit(entry):
                    admitted.append(entry)
                    new.setdefault(entry.symbol, []).append(entry)
        except FifoError:
            for entry in admitted:
                del self._known[entry.tie]
            raise
        for symbol, group in new.items():
            self.line(symbol).extend(group)
        return len(admitted)

    def _admit(self, entry: FillEntry) -> bool:
        known = self._known.setdefault(entry.tie, entry)
        if known is entry:
            return True
        if known != entry:
            raise FifoError("DUPLICATE_ID", f"the fill id {entry.id} was seen before with other content")
        return False

    def line(self, symbol: str) -> Line:
        """One symbol's line."""
        found = self._lines.get(symbol)
        if found is None:
            found = self._lines[symbol] = Line()
        return found

    def sales(self, symbol: str | None = None) -> Iterator[Sale]:
        """All sells, by symbol and then in order; only those of `symbol` if given."""
        for name in self._names(symbol):
            line = self._lines[name]
            for sold in line.sells():
                yield _sale(line, *sold)

    def sale(self, fill_id: str | int) -> Sale:
        """One sell. Raises FifoError: UNKNOWN_SELL."""
        sell = self._known.get(id_order(fill_id))
        if sell is None or sell.buy:
            raise FifoError("UNKNOWN_SELL", f"there is no sell with the fill id {fill_id}")
        line = self._lines[sell.symbol]
        number = line.sell_number(sell)
        return _sale(line, sell, line.pieces(number), *line.covered(number))

    def lots(self, symbol: str | None = None) -> Iterator[OpenLot]:
        """All open lots, by symbol and then oldest first; only those of `symbol` if given."""
        for name in self._names(symbol):
            for entry, size, cost in self._lines[name].lots():
                yield OpenLot(name, entry.id, decimal_of(size), decimal_of(cost))

    def totals(self) -> dict[str, SymbolTotals]:
        """Sums by symbol; read from running totals, independent of the number of fills."""
        return {name: _totals(self._lines[name]) for name in self.symbols}

    def _names(self, symbol: str | None) -> list[str]:
        return self.symbols if symbol is None else [symbol] if symbol in self._lines else []


def _totals(line: Line) -> SymbolTotals:
    size, cost = line.open()
    pnl = line.covered_proceeds() - line.cost_taken()
    return SymbolTotals(decimal_of(pnl), decimal_of(size), decimal_of(cost), len(line))


def _sale(line: Line, sell: FillEntry, pieces: list[Piece], covered: int, proceeds: int) -> Sale:
    cost = sum(part for _, _, part in pieces)
    return Sale(
        id=sell.id,
        symbol=sell.symbol,
        size=decimal_of(sell.size),
        taken_size=decimal_of(sell.moved),
        uncovered_size=decimal_of(sell.moved - covered),
        proceeds=decimal_of(sell.amount),
        uncovered_proceeds=decimal_of(sell.amount - proceeds),
        cost_basis=decimal_of(cost),
        pnl=decimal_of(proceeds - cost),
        parts=tuple(LotPart(line.lot(lot).id, decimal_of(size), decimal_of(part)) for lot, size, part in pieces),
    )
