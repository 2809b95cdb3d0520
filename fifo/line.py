"""One symbol's history as cumulative sums: all of first in, first out.

Lots are placed end to end on a line in the order in which they were bought; sells take from its beginning, so a sell is
an interval of the line, and the lots under it are its parts. Only four running totals are stored (the end of each lot
and of each sell, the costs of lots, the proceeds of the covered parts of sells), so the state before any fill can be
read directly, and a late fill only costs the computation of those after it. A sell that finds too little takes what is
there; the rest is uncovered, has no place on the line, and no later lot covers it.

Sizes are whole numbers of any one scale, amounts are whole numbers of 1e-18.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple

from fifo.amounts import share, split

__all__ = ["FillEntry", "Line", "Piece"]


class FillEntry(NamedTuple):
    """A fill as input of the line. Entries sort by time, sequence and id, in this order."""

    time: int
    """Nanoseconds since 1970, UTC."""
    seq: int
    tie: str
    """The id, padded so that numbers sort as numbers: decides between fills of the same time and sequence."""
    id: str
    symbol: str
    buy: bool
    size: int
    """The traded size."""
    moved: int
    """The size that a buy added (its size less a base fee) or a sell took (its size plus a base fee)."""
    amount: int
    """A buy's cost or a sell's net proceeds."""


Piece = tuple[int, int, int]
"""The part that a sell took of one lot: the lot's number on the line, the size and its cost."""


class Line:
    """Entries of one symbol in order, and their running totals."""

    __slots__ = ("_costs", "_earned", "_entries", "_lot_ends", "_lot_rows", "_sell_ends", "_sell_rows")

    def __init__(self) -> None:
        self._entries: list[FillEntry] = []
        self._lot_rows: list[int] = []
        self._lot_ends: list[int] = []
        self._costs: list[int] = []
        self._sell_rows: list[int] = []
        self._sell_ends: list[int] = []
        self._earned: list[int] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: FillEntry) -> int:
        """Insert an entry at its place and compute from there on; returns how many entries were computed."""
        entries = self._entries
        if not entries or entry > entries[-1]:
            entries.append(entry)
            self._replay(len(entries) - 1)
            return 1
        row = bisect_right(entries, entry)
        insort(entries, entry, lo=row)
        self._replay(row)
        return len(entries) - row

    def extend(self, entries: list[FillEntry]) -> None:
        """Insert many entries at their places and compute from the first of them on."""
        ordered = self._entries
        if not ordered:
            ordered[:] = sorted(entries)
            self._replay(0)
            return
        if not entries:
            return
        row = bisect_right(ordered, min(entries))
        tail = ordered[row:] + entries
        tail.sort()
        ordered[row:] = tail
        self._replay(row)

    def _replay(self, row: int) -> None:
        lots, sells = bisect_left(self._lot_rows, row), bisect_left(self._sell_rows, row)
        lot_rows, lot_ends, costs = self._lot_rows, self._lot_ends, self._costs
        sell_rows, sell_ends, earned = self._sell_rows, self._sell_ends, self._earned
        del lot_rows[lots:], lot_ends[lots:], costs[lots:], sell_rows[sells:], sell_ends[sells:], earned[sells:]
        bought, cost = (lot_ends[-1], costs[-1]) if lots else (0, 0)
        taken, brought = (sell_ends[-1], earned[-1]) if sells else (0, 0)
        entries = self._entries
        for index in range(row, len(entries)):
            _, _, _, _, _, buy, _, moved, amount = entries[index]
            if buy:
                bought += moved
                cost += amount
                lot_rows.append(index)
                lot_ends.append(bought)
                costs.append(cost)
            else:
                available = bought - taken
                if moved <= available:
                    taken += moved
                    brought += amount
                elif available:
                    taken = bought
                    brought += share(amount, available, moved)
                sell_rows.append(index)
                sell_ends.append(taken)
                earned.append(brought)

    def lot(self, number: int) -> FillEntry:
        """The buy that opened lot `number`."""
        return self._entries[self._lot_rows[number]]

    def sell(self, number: int) -> FillEntry:
        """Sell `number` of the line."""
        return self._entries[self._sell_rows[number]]

    def sell_number(self, entry: FillEntry) -> int:
        """The number of a sell on the line."""
        return bisect_left(self._sell_rows, bisect_left(self._entries, entry))

    def covered(self, number: int) -> tuple[int, int]:
        """The size of a sell that lots cover, and its net proceeds."""
        ends, earned = self._sell_ends, self._earned
        return (
            (ends[number] - ends[number - 1], earned[number] - earned[number - 1]) if number else (ends[0], earned[0])
        )

    def sells(self) -> Iterator[tuple[FillEntry, list[Piece], int, int]]:
        """All sells in order: each with its parts, the covered size and the net proceeds of that size."""
        entries, lot_rows, lot_ends = self._entries, self._lot_rows, self._lot_ends
        number, at, brought_before = -1, 0, 0
        # Of the first lot of the next sell: its end, size and cost, and the cost allocated so far.
        lot_end = size = cost = given = 0
        for row, end, brought in zip(self._sell_rows, self._sell_ends, self._earned, strict=True):
            pieces: list[Piece] = []
            covered = end - at
            while at < end:
                if at == lot_end:
                    number += 1
                    lot_end, lot = lot_ends[number], entries[lot_rows[number]]
                    size, cost, given = lot.moved, lot.amount, 0
                if lot_end <= end:
                    pieces.append((number, lot_end - at, cost - given))
                    at = lot_end
                else:
                    # Inlined `share`: most sells end inside a lot.
                    upto, rest = divmod(cost * (size - lot_end + end), size)
                    if 2 * rest >= size and (2 * rest > size or upto & 1):
                        upto += 1
                    pieces.append((number, end - at, upto - given))
                    given, at = upto, end
            yield entries[row], pieces, covered, brought - brought_before
            brought_before = brought

    def pieces(self, number: int) -> list[Piece]:
        """The parts of one sell, oldest lot first."""
        start, end = self._sell_ends[number - 1] if number else 0, self._sell_ends[number]
        lot = bisect_right(self._lot_ends, start)
        pieces: list[Piece] = []
        while start < end:
            buy, lot_end = self.lot(lot), self._lot_ends[lot]
            lot_start, upto = lot_end - buy.moved, min(end, lot_end)
            pieces.append((lot, upto - start, split(buy.amount, start - lot_start, upto - lot_start, buy.moved)))
            start, lot = upto, lot + 1
        return pieces

    def lots(self, *, every: bool = False) -> Iterator[tuple[FillEntry, int, int]]:
        """Open lots in order (with `every`, all): the buy, the remaining size and its cost."""
        taken = self._sell_ends[-1] if self._sell_ends else 0
        for number in range(0 if every else bisect_right(self._lot_ends, taken), len(self._lot_ends)):
            entry, end = self.lot(number), self._lot_ends[number]
            left = min(end - taken, entry.moved) if end > taken else 0
            yield entry, left, entry.amount - share(entry.amount, entry.moved - left, entry.moved)

    def open(self) -> tuple[int, int]:
        """Size and cost of all open lots together."""
        if not self._lot_ends:
            return 0, 0
        return self._lot_ends[-1] - (self._sell_ends[-1] if self._sell_ends else 0), self._costs[-1] - self.cost_taken()

    def cost_taken(self) -> int:
        """The cost of all parts that sells took."""
        taken = self._sell_ends[-1] if self._sell_ends else 0
        lot = bisect_right(self._lot_ends, taken)
        before, start = (self._costs[lot - 1], self._lot_ends[lot - 1]) if lot else (0, 0)
        return before + (share(self.lot(lot).amount, taken - start, self.lot(lot).moved) if taken > start else 0)

    def covered_proceeds(self) -> int:
        """Net proceeds of the covered parts of all sells."""
        return self._earned[-1] if self._earned else 0
