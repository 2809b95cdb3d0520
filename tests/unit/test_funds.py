"""An exit refused for lack of funds requests less: never more than its trade has or than was refused, and with few
orders it sells nearly all that the exchange has for it.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.funds import smaller
from domain.market import Product
from domain.money import ZERO, round_down
from domain.sizing import is_dust

BTC = Product(
    symbol="BTC-USD",
    base="BTC",
    quote="USD",
    base_increment=Decimal("1e-8"),
    quote_increment=Decimal("0.01"),
    price_increment=Decimal("0.01"),
    base_min=Decimal("1e-8"),
    base_max=Decimal(3400),
    quote_min=Decimal(1),
    quote_max=Decimal(150_000_000),
)
PRICE = Decimal(50_000)

sizes = st.decimals(min_value="0.0001", max_value=100, places=8, allow_nan=False, allow_infinity=False)
amounts = st.decimals(min_value=-1, max_value=100, places=9, allow_nan=False, allow_infinity=False)
beliefs = st.lists(amounts, max_size=3)
products = st.sampled_from([BTC, replace(BTC, base_increment=Decimal("0.001"), base_min=Decimal("0.01"))])
knowing = st.one_of(st.none(), products)


@given(sizes, sizes, beliefs, knowing, st.one_of(st.none(), st.just(PRICE)))
def test_the_next_size_is_below_what_was_refused_and_one_that_the_exchange_takes(
    claimable: Decimal, refused: Decimal, believed: list[Decimal], product: Product | None, price: Decimal | None
) -> None:
    """It is less than the refused size and at most the claimable one, on the step and not dust."""
    size = smaller(claimable, refused, believed, product, price)
    if size is None:
        return
    assert ZERO < size < refused
    assert size <= claimable
    if product is not None:
        assert size == round_down(size, product.base_increment)
        assert not is_dust(size, price, product)


@given(sizes, sizes)
def test_what_is_believed_and_true_is_asked_for_at_once(held: Decimal, free: Decimal) -> None:
    """If books or balance have the available size, the second order sells exactly that."""
    if held / 50 < free < held and not is_dust(free, PRICE, BTC):
        assert smaller(held, held, [free, ZERO], BTC, PRICE) == free


def test_a_belief_that_the_refusal_refutes_is_not_asked_for() -> None:
    """A balance that shows as much as was refused is outdated: the next best estimate is used, then the half."""
    one, held = Decimal(1), Decimal("0.4")
    assert smaller(one, one, [one, held], BTC, PRICE) == held
    assert smaller(one, one, [Decimal(5), one], BTC, PRICE) == Decimal("0.5")


@given(sizes, sizes, beliefs, products)
def test_nearly_all_is_sold_with_few_orders_whatever_is_believed(
    held: Decimal, free: Decimal, believed: list[Decimal], product: Product
) -> None:
    """With an exchange that has `free` of the trade's size: no more than that is sold. When no more is requested, the
    sellable rest is at most twice the dust limit, or a twenty-fifth of the remainder, and each order is refused or
    sells.
    """
    held = round_down(held, product.base_increment)
    left, available, orders = held, min(free, held), 0
    refused: Decimal | None = None
    while left > ZERO and not is_dust(left, PRICE, product):
        size: Decimal | None = left
        if refused is not None:
            size = smaller(left, refused, [item - (held - left) for item in believed], product, PRICE)
        if size is None:
            break
        orders += 1
        assert size <= left
        if size > available:
            refused = size
            continue
        left, available = left - size, available - size
        refused = None if refused is None else refused - size
        if refused is not None and refused <= ZERO:
            refused = None
    assert held - left <= free
    assert orders <= 60
    if left > ZERO and not is_dust(left, PRICE, product):
        least = max(product.base_min, product.quote_min / PRICE) + product.base_increment
        assert available < max(2 * least, Decimal("0.04") * left + 2 * product.base_increment)
