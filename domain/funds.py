"""The size of an exit after the exchange refused a larger one for lack of funds (EXIT-4, EXIT-10). Pure.

Another sell holds a part of the coins, or has sold it, and no read says how much. A refusal proves that less than its
size is available. So the next order is for the largest size that a balance or the books suggest and no refusal
disproves; without one, for half of the refused size. It is never larger than the trade's claim, and the exit gives up
when almost nothing is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from domain.market import Product
from domain.money import ZERO, divide, round_down
from domain.sizing import is_dust

__all__ = ["LACK_OF_FUNDS", "smaller"]

LACK_OF_FUNDS = frozenset({"INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND", "INSUFFICIENT_AVAILABLE_BALANCE"})
"""Venues' codes for a sell of more than is available."""
_LEAST_SHARE = Decimal("0.02")
"""Less than this share of the trade's claim is not worth an order: six halvings reach it."""
_STEP = Decimal("1e-8")
"""The size increment if the product's rules are unknown."""


def smaller(
    claimable: Decimal, refused: Decimal, believed: Iterable[Decimal], product: Product | None, price: Decimal | None
) -> Decimal | None:
    """The next size in base, below `refused` and at most `claimable`; None: nothing is worth an order.

    `refused` is the size last requested and refused, less what has been sold since; `believed` is the size that may be
    available by some source, known to be wrong unless it is below `refused`. `price` (quote per base; None: unknown)
    decides what is too small to be sold.
    """
    least = _LEAST_SHARE * claimable
    half = _sized(min(divide(refused, Decimal(2)), claimable), product, price)
    known = [size for item in believed if (size := _sized(min(item, claimable), product, price)) < refused]
    best = max(known, default=ZERO)
    size = best if best >= least and best > ZERO else half
    return size if size >= least and size > ZERO else None


def _sized(size: Decimal, product: Product | None, price: Decimal | None) -> Decimal:
    """The size as the exchange accepts it; zero if it is too small."""
    if product is None:
        return round_down(max(size, ZERO), _STEP)
    return ZERO if is_dust(size, price, product) else round_down(size, product.base_increment)
