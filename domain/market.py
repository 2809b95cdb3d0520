"""A market: a product's rules, its touch and candles, an account's fee rates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

__all__ = ["Candle", "FeeRates", "Product", "Quote", "base_of", "currencies"]


@dataclass(frozen=True, slots=True)
class Product:
    """A symbol's rules. Sizes in base or quote currency as named, prices in quote per base."""

    symbol: str
    base: str
    quote: str
    base_increment: Decimal
    quote_increment: Decimal
    price_increment: Decimal
    base_min: Decimal
    base_max: Decimal
    quote_min: Decimal
    quote_max: Decimal
    limit_only: bool = False
    cancel_only: bool = False
    post_only: bool = False
    halted: bool = False
    """Delisted, disabled, in auction or otherwise not taking orders."""
    price: Decimal | None = None
    change_24h: Decimal | None = None
    """A fraction: -0.05 is a fall of 5 %. None if the venue doesn't give it."""
    quote_volume_24h: Decimal | None = None
    """Traded volume, in quote currency. None if the venue doesn't give it."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The touch. `at` is when the venue or we saw it (UTC)."""

    symbol: str
    bid: Decimal
    ask: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle: prices in quote per base, `volume` in base. `start` is its opening time (UTC)."""

    symbol: str
    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


@dataclass(frozen=True, slots=True)
class FeeRates:
    """The account's own rates, as fractions (0.006 = 0.6 %)."""

    maker: Decimal
    taker: Decimal


def currencies(symbol: str) -> tuple[str, str] | None:
    """Base and quote currency of a product such as BTC-USD or BTC_USD; None if the name does not contain them."""
    base, dash, quote = symbol.replace("_", "-").partition("-")
    return (base, quote) if base and dash and quote and "-" not in quote else None


def base_of(symbol: str) -> str:
    """The base currency of a product such as BTC-USD or BTC_USD: BTC. The whole name if it does not contain one."""
    return symbol.replace("_", "-").partition("-")[0]
