"""Sizes and prices an exchange accepts: always rounded in the direction that can't cost more than requested.

Sizes are rounded down, a buy's limit price down and a sell's up; a post-only price is moved off the touch.
"""

from __future__ import annotations

from decimal import Decimal

from domain.gate_names import GateName
from domain.market import Product, Quote
from domain.money import EXACT, ZERO, plain, round_down, round_half_even, round_up
from domain.orders import Side

__all__ = [
    "collar_price",
    "dust_sentence",
    "free_to_sell",
    "is_dust",
    "limit_price",
    "neighbours",
    "post_only_price",
    "size_problem",
    "sized",
]


def sized(wanted: Decimal, product: Product) -> Decimal:
    """Base size rounded down to the product's increment."""
    return round_down(wanted, product.base_increment)


def size_problem(size: Decimal, price: Decimal | None, product: Product) -> tuple[GateName, str] | None:
    """`(gate, sentence)` if the exchange would not accept this base size, else None.

    `price` (quote per base) is needed for the minimum in quote currency; without it only base limits are checked.
    """
    if size < product.base_min or size <= ZERO:
        return (
            GateName.BELOW_MINIMUM_SIZE,
            f"{plain(size)} {product.base} is below the minimum of {plain(product.base_min)} for {product.symbol}",
        )
    if size > product.base_max:
        return (
            GateName.ABOVE_MAXIMUM_SIZE,
            f"{plain(size)} {product.base} is above the maximum of {plain(product.base_max)} for {product.symbol}",
        )
    if price is not None and EXACT.multiply(size, price) < product.quote_min:
        return (
            GateName.BELOW_MINIMUM_SIZE,
            (
                f"{plain(size)} {product.base} at {plain(price)} is worth less than the minimum of "
                f"{plain(product.quote_min)} {product.quote} for {product.symbol}"
            ),
        )
    return None


def is_dust(size: Decimal, price: Decimal | None, product: Product) -> bool:
    """Whether a position is too small to be sold."""
    problem = size_problem(sized(size, product), price, product)
    return problem is not None and problem[0] == GateName.BELOW_MINIMUM_SIZE


def free_to_sell(remaining: Decimal, claimed: Decimal, price: Decimal | None, product: Product) -> Decimal:
    """Base size of a position that a new order can sell while other orders have claimed `claimed` of it.

    Zero if the rest is too small to be sold; `price` is as in `size_problem`.
    """
    rest = remaining - claimed
    return ZERO if is_dust(rest, price, product) else sized(rest, product)


def dust_sentence(size: Decimal, price: Decimal | None, product: Product) -> str:
    """A position that is dust, in words: its size, its value at `price` (quote per base), and the minimum it is
    below."""
    small = sized(size, product) < product.base_min or sized(size, product) <= ZERO
    least = f"{plain(product.base_min)} {product.base}" if small else f"{plain(product.quote_min)} {product.quote}"
    worth = ""
    if price is not None:
        value = EXACT.multiply(size, price)
        # Less than a cent, or a part of a quote currency that is worth much, with what digits it has.
        rounded = round_half_even(value, Decimal("0.01") if value >= Decimal("0.01") else Decimal("1e-8"))
        worth = f"worth {plain(rounded)} {product.quote}, "
    return f"{plain(size)} {product.base} are too small to sell ({worth}minimum {least}) and remain as dust"


def limit_price(price: Decimal, side: Side, product: Product) -> Decimal:
    """The nearest price on the tick that is not worse than requested: down for a buy, up for a sell."""
    rounding = round_down if side is Side.BUY else round_up
    return rounding(price, product.price_increment)


def neighbours(price: Decimal, product: Product) -> tuple[Decimal, Decimal]:
    """The two prices on the tick around `price` (equal if it is on the tick)."""
    return round_down(price, product.price_increment), round_up(price, product.price_increment)


def post_only_price(wanted: Decimal, side: Side, quote: Quote, product: Product) -> Decimal:
    """`wanted`, or the touch's own side moved one tick off the other side where `wanted` would cross."""
    tick = product.price_increment
    if side is Side.BUY:
        return min(limit_price(wanted, side, product), round_down(quote.ask - tick, tick))
    return max(limit_price(wanted, side, product), round_up(quote.bid + tick, tick))


def collar_price(quote: Quote, side: Side, collar: Decimal, product: Product) -> Decimal:
    """The worst price of a limit IOC that replaces a market order; `collar` is a fraction of the touch."""
    if side is Side.SELL:
        return round_down(quote.bid * (1 - collar), product.price_increment)
    return round_up(quote.ask * (1 + collar), product.price_increment)
