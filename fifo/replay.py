"""Sells of one symbol matched with its lots again, for the ledger's rows: the parts of each sell, and the remaining
lots."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from domain.money import plain
from fifo.matching import Allocation, FillRecord, Lot, match_sell

__all__ = ["replay"]


def replay(sells: Sequence[FillRecord], lots: Sequence[Lot]) -> tuple[list[Allocation], dict[int, Decimal]]:
    """Match sells with the lots that were open at the time of each; both in order of (time, id).

    Returns the allocations, and the remaining size of each changed lot, by fill. `lots` may end early if they hold as
    much as the sells take together.
    """
    allocations: list[Allocation] = []
    left = [lot.remaining for lot in lots]
    touched: dict[int, Decimal] = {}
    first = 0
    for sell in sells:
        wanted, number = sell.size + sell.base_fees, first
        offered: list[Lot] = []
        places: dict[int, int] = {}
        while wanted > 0 and number < len(lots):
            fill = lots[number].fill
            if (fill.at, fill.fill_id) >= (sell.at, sell.fill_id):
                break
            if left[number] > 0:
                places[fill.fill_id] = number
                offered.append(Lot(fill, left[number]))
                wanted -= left[number]
            number += 1
        made, changed = match_sell(sell, offered)
        allocations += made
        for lot in changed:
            touched[lot.fill.fill_id] = left[places[lot.fill.fill_id]] = lot.remaining
        while first < len(lots) and left[first] <= 0:
            first += 1
    return allocations, {fill: Decimal(plain(remaining)) for fill, remaining in touched.items()}
