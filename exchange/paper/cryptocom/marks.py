"""Mark prices, which triggers go by. A mark follows the last trade until it is set apart over the control interface."""

from __future__ import annotations

from decimal import Decimal

from exchange.paper.book import RestingBook

__all__ = ["PaperMarks"]


class PaperMarks:
    """The mark price of each instrument."""

    def __init__(self) -> None:
        self._apart: dict[str, Decimal] = {}
        self._missing: set[str] = set()
        self._stale: set[str] = set()

    def price(self, book: RestingBook) -> Decimal | None:
        """The mark price in quote currency; None if there is none."""
        name = book.product.product_id
        if name in self._missing:
            return None
        return self._apart.get(name, book.last) or None

    def stale(self, name: str) -> bool:
        """Whether the mark price is old: nothing triggers, and no trigger is taken."""
        return name in self._stale

    def set(self, name: str, price: Decimal | None, *, missing: bool = False, stale: bool = False) -> None:
        """Set a mark apart from the last price (None: let it follow again), let it be missing, or old."""
        if price is None:
            self._apart.pop(name, None)
        else:
            self._apart[name] = price
        for marked, names in ((missing, self._missing), (stale, self._stale)):
            (names.add if marked else names.discard)(name)
