"""How much an exit asks for where the exchange has refused more for lack of funds (EXIT-4, EXIT-10). Pure.

Somebody else's sell holds a part of the coins, or has sold it, and no read says how much. A refusal proves that less
than its size is available. So the next order asks for the most that is believed and not refuted, by a balance or by
the books; where nothing like that is known, for half of what was refused. It never asks for more than the trade may
claim, and gives up where that is next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from domain.market import Product
from domain.money import ZERO, divide, round_down
from domain.sizing import is_dust

__all__ = ["LACK_OF_FUNDS", "smaller"]

LACK_OF_FUNDS = frozenset({"INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND", "INSUFFICIENT_AVAILABLE_BALANCE"})
"""What venues say to a sell of more than is available."""
_LEAST_SHARE = Decimal("0.02")
"""Less than this share of what the trade may sell is not worth an order: six halvings find all but that."""
_STEP = Decimal("1e-8")
"""The step of sizes where the product's rules are not known."""


def smaller(
    claimable: Decimal, refused: Decimal, believed: Iterable[Decimal], product: Product | None, price: Decimal | None
) -> Decimal | None:
    """The next size in base, below `refused` and at most `claimable`; None: there is none that is worth an order.

    `refused` is what was asked for last and refused, less what has been sold since; `believed` is what may be
    available by whatever tells of it, known wrong where that is not below `refused`. `price` (quote per base; None: not
    known) says what is too small to be sold.
    """
    least = _LEAST_SHARE * claimable
    half = _sized(min(divide(refused, Decimal(2)), claimable), product, price)
    known = [size for item in believed if (size := _sized(min(item, claimable), product, price)) < refused]
    best = max(known, default=ZERO)
    size = best if best >= least and best > ZERO else half
    return size if size >= least and size > ZERO else None


def _sized(size: Decimal, product: Product | None, price: Decimal | None) -> Decimal:
    """As an order that the exchange takes; zero where it is too small."""
    if product is None:
        return round_down(max(size, ZERO), _STEP)
    return ZERO if is_dust(size, price, product) else round_down(size, product.base_increment)
