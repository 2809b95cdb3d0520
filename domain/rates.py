"""Rates between currencies: from the venue's own product of the two, or not known (RISK-6, LEDGER-5).

An alias has the rate 1, because the venue treats both as one (USDC for USD at Coinbase). USDT is not an alias: it has a
price.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from domain.money import divide

__all__ = ["own_names", "rate_from", "rate_products"]

_ALIASES = (("USD", "USDC"),)


def own_names(currency: str) -> tuple[str, ...]:
    """The currency, first, and its aliases."""
    for names in _ALIASES:
        if currency in names:
            return (currency, *(name for name in names if name != currency))
    return (currency,)


def rate_products(currency: str, own: str) -> Iterator[tuple[str, bool]]:
    """Products whose price gives the value of one unit of `currency` in `own`, the best first.

    True with it: the price's reciprocal is the rate.
    """
    names = own_names(own)
    yield from ((f"{currency}-{name}", False) for name in names)
    yield from ((f"{name}-{currency}", True) for name in names)


def rate_from(price: Decimal | None, *, reciprocal: bool) -> Decimal | None:
    """The rate from a product's price; None: there is none."""
    if price is None or price <= 0:
        return None
    return divide(Decimal(1), price) if reciprocal else price
