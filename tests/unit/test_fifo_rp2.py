"""rp2, a widely used tax engine, as a second opinion on histories where its rules are ours.

Its rules differ for sells with a fee in quote currency or uncovered ones, so neither occurs here. It computes with 31
significant digits, so amounts are compared at 12 places.
"""

from __future__ import annotations

import subprocess
from datetime import datetime
from decimal import Decimal

import pytest

from bench.fifo import covered_fills, rp2_parts
from domain.orders import Side
from fifo import Book, Fill

PLACES = Decimal("1e-12")


@pytest.mark.slow
def test_rp2_finds_the_same_parts_costs_and_gains() -> None:
    """1,500 fills: every part of every sell, its lot, size, cost and profit."""
    fills = covered_fills(1_500)
    try:
        _, theirs = rp2_parts(fills)
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"rp2 can't be installed here: {error}")
    book = Book(
        Fill(
            id=number,
            symbol="BTC-USD",
            time=int(datetime.fromisoformat(fill["time"]).timestamp()) * 10**9,
            side=Side(fill["side"].upper()),
            size=Decimal(fill["size"]),
            price=Decimal(fill["price"]),
            fee=Decimal(fill["fee"]),
        )
        for number, fill in enumerate(fills)
    )
    ours = [
        (int(sale.id), int(part.lot), part.size, part.cost, sale.proceeds * part.size / sale.size - part.cost)
        for sale in book.sales()
        for part in sale.parts
    ]
    assert len(ours) == len(theirs) > 1_000
    for mine, their in zip(ours, theirs, strict=True):
        assert mine[:2] == their[:2]
        assert mine[2] == Decimal(their[2])
        assert abs(mine[3] - Decimal(their[3])) < PLACES
        assert abs(mine[4] - Decimal(their[4])) < PLACES
