"""A currency's rate in another is derived from the venue's product of the two, or unknown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.rates import own_names, rate_from, rate_products


def test_an_alias_is_one_to_one_and_nothing_else_is() -> None:
    """USDC counts as USD at the exchange; USDT has its own price."""
    assert own_names("USD") == ("USD", "USDC")
    assert own_names("USDC") == ("USDC", "USD")
    assert own_names("EUR") == ("EUR",)
    assert "USDT" not in own_names("USD")


def test_the_product_that_is_priced_in_the_own_currency_comes_first() -> None:
    """EUR in USD is from EUR-USD, else EUR-USDC, else the reciprocal of the inverse product."""
    assert list(rate_products("EUR", "USD")) == [
        ("EUR-USD", False), ("EUR-USDC", False), ("USD-EUR", True), ("USDC-EUR", True),
    ]  # fmt: skip


@given(st.decimals("0.00000001", 1_000_000, places=8))
def test_a_rate_and_that_of_the_product_the_other_way_round_are_reciprocal(price: Decimal) -> None:
    """Whichever of the two products the venue has, the rate is the same."""
    straight, other = rate_from(price, reciprocal=False), rate_from(price, reciprocal=True)
    assert straight == price
    assert other is not None
    assert abs(other * price - 1) < Decimal("1e-40")


@pytest.mark.parametrize("price", [None, Decimal(0), Decimal(-1)])
def test_no_price_is_no_rate(price: Decimal | None) -> None:
    """Without a price the rate is unknown, neither zero nor one."""
    assert rate_from(price, reciprocal=False) is rate_from(price, reciprocal=True) is None
