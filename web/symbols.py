"""Converts a symbol as charting programs write it to a product: BTCUSD, BTC/USD and COINBASE:BTCUSD are BTC-USD.

A symbol of another exchange, a perpetual, or one that can't be split is refused, never guessed. The gate checks whether
the exchange has the product.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from domain.errors import BotTraderError

__all__ = ["BadSymbol", "product_of"]

_PRODUCT = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,10}")
_SEPARATORS = re.compile(r"[-/_]")
_WORD = re.compile(r"[A-Z0-9]{2,30}")
_QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "BTC", "ETH")
"""The longer first: BTCUSDT is priced in USDT."""


class BadSymbol(BotTraderError):
    """The symbol is no product of ours; its text is a sentence without a full stop."""

    code = "BAD_SYMBOL"


def product_of(given: str, *, venue: str, known: Collection[str]) -> str:
    """The product that `given` names, such as BTC-USD.

    Args:
        venue: the exchange that we trade at, the only accepted prefix.
        known: products in the settings, which are preferred for BTCUSD.

    Raises BadSymbol.
    """
    shown = given[:60]
    prefix, colon, rest = given.strip().upper().rpartition(":")
    if colon and prefix != venue.upper():
        raise BadSymbol(f"{shown} is a symbol of {prefix or 'no exchange'}, and this system trades at {venue.upper()}")
    if rest.endswith((".P", ".PERP", "-PERP")):
        raise BadSymbol(f"{shown} is a perpetual future; only spot products such as BTC-USD are traded")
    if _SEPARATORS.search(rest):
        name = _SEPARATORS.sub("-", rest)
        if not _PRODUCT.fullmatch(name):
            raise BadSymbol(f"{shown} is not a product: write it like BTC-USD")
        return name
    if not _WORD.fullmatch(rest):
        raise BadSymbol(f"{shown} is not a product: write it like BTC-USD")
    named = sorted({name for name in known if name.replace("-", "") == rest})
    if len(named) == 1:
        return named[0]
    if named:
        raise BadSymbol(f"{shown} may be {' or '.join(named)}: write one of them")
    for quote in _QUOTES:
        if rest.endswith(quote) and len(rest) > len(quote):
            return f"{rest.removesuffix(quote)}-{quote}"
    raise BadSymbol(f"{shown} can't be split into base and quote currency: write it like BTC-USD")
