"""What one venue's matching needs beside orders and books: fees, liquidity, habits, and who hears of events."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from exchange.paper.numbers import ONE
from exchange.paper.orders import Order, Trade

__all__ = ["Fees", "Habits", "Liquidity", "Listener"]


class Listener(Protocol):
    """Receives the engine's events in the order in which they happened."""

    def order_changed(self, order: Order) -> None:
        """`order` has a new state (also on each fill)."""

    def traded(self, trade: Trade) -> None:
        """A public print."""

    def book_changed(self, product_id: str) -> None:
        """Quote or depth of a product moved."""


@dataclass(frozen=True, slots=True)
class Fees:
    """Fee rates as fractions of the quote value."""

    maker: Decimal = Decimal("0.004")
    taker: Decimal = Decimal("0.006")


@dataclass(frozen=True, slots=True)
class Liquidity:
    """Shape of the synthetic book: levels a side, quote value a level, distance of levels in basis points."""

    depth: int = 25
    level_value: Decimal = Decimal(20_000)
    gap_bps: Decimal = ONE


@dataclass(frozen=True, slots=True)
class Habits:
    """How one venue's matching differs from another's.

    `fractional` spends a buy sized in quote completely, in a last fill below the base increment. `fee_in_base` takes a
    buy's commission off the base currency that it buys, unless the order names another currency.
    """

    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    """Makes the ids of orders and executions."""
    fractional: bool = False
    fee_in_base: bool = False
