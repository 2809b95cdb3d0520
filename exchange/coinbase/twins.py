"""Under which name the venue's market channels tell of a product.

BTC-USDC and BTC-USD are one market at Coinbase: prices, trades, candles and book come under the name BTC-USD, while
orders, fills and REST name the product itself. Which product has such a twin says its `alias`; USDT-USDC has none.
Where that isn't known yet (the venue has not answered), a -USDC product hears to both names: no price would be worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Twins"]

_QUOTE = "-USDC"


class Twins:
    """What is known by now, from every product that was read."""

    def __init__(self) -> None:
        self._markets: dict[str, str] = {}

    def learn(self, raw: Mapping[str, Any]) -> None:
        """Note the twin of a product as the venue describes it."""
        symbol, alias = raw.get("product_id"), raw.get("alias")
        if isinstance(symbol, str):
            self._markets[symbol] = alias if isinstance(alias, str) and alias else symbol

    def unknown(self, symbols: Iterable[str]) -> list[str]:
        """Those that may have a twin that we don't know of."""
        return [symbol for symbol in symbols if symbol.endswith(_QUOTE) and symbol not in self._markets]

    def subscribed(self, symbols: Iterable[str]) -> list[str]:
        """The names to subscribe to for `symbols`, each once."""
        return list(dict.fromkeys(self._markets.get(symbol, symbol) for symbol in symbols))

    def heard(self, symbols: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """For each name that messages may come under: the symbols that they tell of. Empty where no two differ."""
        found: dict[str, tuple[str, ...]] = {}
        for symbol in symbols:
            names = {self._markets.get(symbol, symbol)}
            if symbol.endswith(_QUOTE) and symbol not in self._markets:
                names.add(symbol.removesuffix("C"))
            for name in names:
                found[name] = (*found.get(name, ()), symbol)
        return {} if all(told == (name,) for name, told in found.items()) else found
