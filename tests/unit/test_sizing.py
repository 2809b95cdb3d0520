"""Sizes and prices that the exchange accepts, always rounded in the safe direction."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.market import Product, Quote
from domain.orders import Side
from domain.sizing import (
    collar_price,
    dust_sentence,
    free_to_sell,
    is_dust,
    limit_price,
    neighbours,
    post_only_price,
    size_problem,
    sized,
)

BTC = Product(
    symbol="BTC-USD",
    base="BTC",
    quote="USD",
    base_increment=Decimal("0.00000001"),
    quote_increment=Decimal("0.01"),
    price_increment=Decimal("0.01"),
    base_min=Decimal("0.0001"),
    base_max=Decimal(3400),
    quote_min=Decimal(1),
    quote_max=Decimal(150_000_000),
)
AT = datetime(2026, 3, 1, tzinfo=UTC)
amounts = st.decimals(min_value=0, max_value=10**6, places=12, allow_nan=False, allow_infinity=False)
positive = st.decimals(min_value="0.02", max_value=10**6, places=6, allow_nan=False, allow_infinity=False)


@given(amounts)
def test_sizes_are_rounded_down(wanted: Decimal) -> None:
    """Never more than requested, less than one increment less, and on the increment."""
    size = sized(wanted, BTC)
    assert 0 <= wanted - size < BTC.base_increment
    assert size % BTC.base_increment == 0


@given(positive)
def test_limit_prices_are_never_worse_than_asked(price: Decimal) -> None:
    """A buy's price is rounded down, a sell's up, both to the tick."""
    buy, sell = limit_price(price, Side.BUY, BTC), limit_price(price, Side.SELL, BTC)
    assert buy <= price <= sell
    assert sell - buy in (0, BTC.price_increment)
    assert neighbours(price, BTC) == (buy, sell)


@given(positive, positive, st.integers(min_value=1, max_value=1000))
def test_post_only_prices_never_cross(wanted: Decimal, bid: Decimal, ticks: int) -> None:
    """A post-only buy stays below the ask and a sell above the bid, for any requested price."""
    tick = BTC.price_increment
    bid = limit_price(bid, Side.BUY, BTC)
    quote = Quote("BTC-USD", bid, bid + ticks * tick, AT)
    assert post_only_price(wanted, Side.BUY, quote, BTC) < quote.ask
    assert post_only_price(wanted, Side.SELL, quote, BTC) > quote.bid


def test_a_post_only_price_that_does_not_cross_stays() -> None:
    """Only a price that would take is moved."""
    quote = Quote("BTC-USD", Decimal(50000), Decimal(50001), AT)
    assert post_only_price(Decimal(49990), Side.BUY, quote, BTC) == Decimal(49990)
    assert post_only_price(Decimal(50001), Side.BUY, quote, BTC) == Decimal("50000.99")
    assert post_only_price(Decimal(49000), Side.SELL, quote, BTC) == Decimal("50000.01")


@given(positive)
def test_a_collar_gives_way_in_the_direction_of_the_trade(bid: Decimal) -> None:
    """The replacement for a market sell may be below the bid, for a market buy above the ask, on the tick."""
    bid = limit_price(bid, Side.SELL, BTC)
    quote = Quote("BTC-USD", bid, bid + BTC.price_increment, AT)
    sell = collar_price(quote, Side.SELL, Decimal("0.01"), BTC)
    buy = collar_price(quote, Side.BUY, Decimal("0.01"), BTC)
    assert sell <= bid * Decimal("0.99")
    assert buy >= quote.ask * Decimal("1.01")
    assert sell % BTC.price_increment == buy % BTC.price_increment == 0


@pytest.mark.parametrize(
    ("size", "price", "gate"),
    [
        ("0.00009999", "50000", "BELOW_MINIMUM_SIZE"),
        ("0", "50000", "BELOW_MINIMUM_SIZE"),
        ("0.0001", "9999.99", "BELOW_MINIMUM_SIZE"),
        ("0.0001", "10000", None),
        ("3400", None, None),
        ("3400.00000001", None, "ABOVE_MAXIMUM_SIZE"),
    ],
)
def test_the_exchanges_limits(size: str, price: str | None, gate: str | None) -> None:
    """Minimum and maximum in base, minimum in quote if a price is known; the sentence names the limit."""
    problem = size_problem(Decimal(size), None if price is None else Decimal(price), BTC)
    assert (problem[0] if problem else None) == gate
    if problem:
        assert "BTC-USD" in problem[1]


@given(amounts)
def test_dust_is_what_can_not_be_sold(size: Decimal) -> None:
    """A position is dust exactly when the exchange would refuse to sell all of it as too small."""
    assert is_dust(size, None, BTC) is (sized(size, BTC) < BTC.base_min)


def test_dust_is_named_with_its_worth_and_the_minimum_that_it_misses() -> None:
    """Too small in base or in quote currency; cents if there are any, and nothing about an unknown worth."""
    assert dust_sentence(Decimal("0.0002"), Decimal("2500.1"), BTC) == (
        "0.0002 BTC are too small to sell (worth 0.5 USD, minimum 1 USD) and remain as dust"
    )
    assert "(worth 0.00025 USD, minimum 0.0001 BTC)" in dust_sentence(Decimal("0.00000001"), Decimal(25000), BTC)
    assert "sell (minimum 0.0001 BTC)" in dust_sentence(Decimal("0.00005"), None, BTC)


@given(amounts, amounts, st.none() | positive)
def test_what_is_free_to_sell_is_what_the_exchange_takes_beside_a_claim(
    remaining: Decimal, claimed: Decimal, price: Decimal | None
) -> None:
    """It is never more than the unclaimed size, and either nothing or an order that is not too small."""
    free = free_to_sell(remaining, claimed, price, BTC)
    assert free == 0 or free <= remaining - claimed
    problem = size_problem(free, price, BTC)
    assert free == 0 or problem is None or problem[0] != "BELOW_MINIMUM_SIZE"


@pytest.mark.parametrize(
    ("remaining", "price", "free"),
    [
        ("0.010000004", None, "0"),
        ("0.01001", "50000", "0"),
        ("0.0105", None, "0.0005"),
        ("0.0105", "50000", "0.0005"),
        ("0.009", None, "0"),
    ],
)
def test_dust_beside_a_claim_is_not_free(remaining: str, price: str | None, free: str) -> None:
    """Below the increment, below the minimum, or nothing at all with a claim of 0.01: nothing to sell."""
    known = None if price is None else Decimal(price)
    assert free_to_sell(Decimal(remaining), Decimal("0.01"), known, BTC) == Decimal(free)
