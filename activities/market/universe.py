"""Which symbols are evaluated: the allowed ones, or by default the most traded; and all that are held.

Held symbols are always included, because their exits depend on the matrix. Blocked symbols are not bought, so they are
included only while held.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from activities.database import Pool
from activities.market.candles import MarketRow
from domain.market import Product
from exchange.port import Exchange

__all__ = ["ChosenSymbols", "Universe", "choose_symbols", "universe_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Universe:
    """How symbols are chosen. `allow` empty: by 24 h volume in quote currency, the `top` of those that have enough."""

    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    top: int = 100
    quotes: tuple[str, ...] = ("USD",)
    min_quote_volume: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class ChosenSymbols:
    """The symbols, the exchange's data on their day, and configured ones that it doesn't have."""

    symbols: tuple[str, ...]
    states: tuple[MarketRow, ...] = ()
    unknown: frozenset[str] = frozenset()


def choose_symbols(products: Iterable[Product], universe: Universe, held: Iterable[str] = ()) -> ChosenSymbols:
    """Choose the universe from the exchange's products."""
    known = {product.symbol: product for product in products}
    blocked = frozenset(universe.block)
    if universe.allow:
        wanted = [symbol for symbol in universe.allow if symbol not in blocked]
    else:
        traded = [
            product
            for product in known.values()
            if product.quote in universe.quotes
            and product.symbol not in blocked
            and not product.halted
            and not product.cancel_only
            and (product.quote_volume_24h or Decimal(0)) >= universe.min_quote_volume
        ]
        traded.sort(key=lambda product: (-(product.quote_volume_24h or Decimal(0)), product.symbol))
        wanted = [product.symbol for product in traded[: universe.top]]
    named = list(dict.fromkeys([*wanted, *held]))
    there = tuple(symbol for symbol in named if symbol in known)
    states = tuple(
        MarketRow(symbol, change_24h=known[symbol].change_24h, quote_volume_24h=known[symbol].quote_volume_24h)
        for symbol in there
    )
    return ChosenSymbols(there, states, frozenset(named) - known.keys())


async def universe_of(pool: Pool, exchange: Exchange, account: str, universe: Universe) -> ChosenSymbols:
    """The universe now. Raises ExchangeError and the database's errors."""
    rows = await pool.fetch("SELECT DISTINCT symbol FROM trades WHERE account = $1 AND state <> 'CLOSED'", account)
    held = [row["symbol"] for row in rows]
    products = await exchange.products(sorted({*universe.allow, *held}) if universe.allow else None)
    return choose_symbols(products, universe, held)
