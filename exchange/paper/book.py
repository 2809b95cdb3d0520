"""One product's order book: synthetic liquidity around the market's quote, and the user's resting orders in it.

Rules. Synthetic levels are on a fixed grid with a size that depends only on the price, so that a move changes few
levels; liquidity that a taker removes is gone until the next quote. Resting orders have price-time priority. If the
market has moved through an unfilled resting order, its levels start behind that order: a book is never crossed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import ROUND_DOWN, Decimal

from exchange.paper.numbers import ZERO, floor_to
from exchange.paper.orders import Order, Side
from exchange.paper.products import PaperProduct

__all__ = ["RestingBook"]

_KNUTH = 2654435761


class RestingBook:
    """The book of one product. `depth` is synthetic levels a side; `level_value` their size in quote currency."""

    def __init__(self, product: PaperProduct, *, depth: int, level_value: Decimal, gap: Decimal) -> None:
        self.product = product
        self.bid = ZERO
        self.ask = ZERO
        self.last = ZERO
        self.gap = gap
        self._depth = depth
        self._level_base = max(floor_to(level_value / product.price, product.base_increment), product.base_increment)
        self._taken: dict[Decimal, Decimal] = {}
        self._shown: dict[Decimal, Decimal] = {}
        self._resting: dict[Side, list[tuple[Decimal, int, Order]]] = {Side.BUY: [], Side.SELL: []}
        self.stops: dict[str, Order] = {}

    def quote(self, bid: Decimal, ask: Decimal, sizes: tuple[Decimal, Decimal] | None = None) -> None:
        """Set the market's quote; every synthetic level is refilled. `sizes` (base) at bid and ask, if known."""
        self.bid, self.ask = bid, ask
        self._taken.clear()
        self._shown = {} if sizes is None else {bid: sizes[0], ask: sizes[1]}

    def take(self, price: Decimal, size: Decimal) -> None:
        """Remove `size` from the synthetic level at `price` until the next quote."""
        self._taken[price] = self._taken.get(price, ZERO) + size

    def rest(self, order: Order) -> None:
        """Put an order with a limit price into the book, behind others of its price."""
        insort(self._resting[order.side], _entry(order), key=_rank)

    def remove(self, order: Order) -> None:
        """Remove an order from the book, if it is there."""
        entries = self._resting[order.side]
        key = _rank(_entry(order))
        at = bisect_left(entries, key, key=_rank)
        if at < len(entries) and entries[at][2] is order:
            del entries[at]

    def best_resting(self, side: Side) -> Order | None:
        """The user's first order on `side` by price and time."""
        entries = self._resting[side]
        return entries[0][2] if entries else None

    def resting(self, side: Side) -> list[Order]:
        """The user's orders on `side`, best first."""
        return [entry[2] for entry in self._resting[side]]

    def synthetic(self, side: Side) -> Iterator[tuple[Decimal, Decimal]]:
        """The market's own levels on `side`, best first: price and size left."""
        if not self.bid:
            return
        down = side is Side.BUY
        touch = self.bid if down else self.ask
        own = self.best_resting(side.opposite)
        if own is not None:
            tick = self.product.price_increment
            touch = min(touch, own.price - tick) if down else max(touch, own.price + tick)
            if touch <= 0:
                return
        whole = touch / self.gap
        first = whole.to_integral_value(ROUND_DOWN) * self.gap
        price = touch
        for step in range(self._depth):
            if step:
                back = step - 1 if first < touch else step
                price = first - back * self.gap if down else first + step * self.gap
                if price <= 0:
                    return
            left = self._size_at(price) - self._taken.get(price, ZERO)
            if left > 0:
                yield price, left

    def _size_at(self, price: Decimal) -> Decimal:
        shown = self._shown.get(price)
        if shown is not None:
            return shown
        ticks = int(price / self.product.price_increment)
        percent = 50 + (ticks * _KNUTH >> 7) % 101
        return max(floor_to(self._level_base * percent / 100, self.product.base_increment), self.product.base_increment)

    def levels(self, side: Side, limit: int | None = None) -> list[tuple[Decimal, Decimal]]:
        """What the venue shows on `side`: synthetic and resting sizes by price, best first, at most `limit` levels."""
        shown: dict[Decimal, Decimal] = {}
        for price, size in self.synthetic(side):
            shown[price] = size
            if limit is not None and len(shown) >= limit:
                break
        entries = self._resting[side]
        if entries:
            for _, _, order in entries:
                shown[order.price] = shown.get(order.price, ZERO) + order.remaining
            ranked = sorted(shown.items(), reverse=side is Side.BUY)
        else:
            ranked = list(shown.items())
        return ranked[:limit]

    def best(self, side: Side) -> Decimal | None:
        """Best price shown on `side`, or None if the side is empty."""
        synthetic = next(self.synthetic(side), None)
        own = self.best_resting(side)
        prices = [level[0] for level in (synthetic,) if level is not None]
        if own is not None and own.limit_price is not None:
            prices.append(own.limit_price)
        if not prices:
            return None
        return max(prices) if side is Side.BUY else min(prices)


def _entry(order: Order) -> tuple[Decimal, int, Order]:
    return (-order.price if order.side is Side.BUY else order.price, order.priority, order)


def _rank(entry: tuple[Decimal, int, Order]) -> tuple[Decimal, int]:
    return entry[0], entry[1]
