"""The name under which the venue's market channels report a product.

BTC-USDC and BTC-USD are one market at Coinbase: prices, trades, candles and book are sent under the name BTC-USD, while
orders, fills and REST use the product's own name. A product's `alias` names its twin, if any; USDT-USDC has none. While
the alias is unknown (the venue has not answered yet), a -USDC product accepts both names, as no price would be worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Twins"]

_QUOTE = "-USDC"


class Twins:
    """The twins known so far, from all products that were read."""

    def __init__(self) -> None:
        self._markets: dict[str, str] = {}

    def learn(self, raw: Mapping[str, Any]) -> None:
        """Note the twin of a product as the venue describes it."""
        symbol, alias = raw.get("product_id"), raw.get("alias")
        if isinstance(symbol, str):
            self._markets[symbol] = alias if isinstance(alias, str) and alias else symbol

    def unknown(self, symbols: Iterable[str]) -> list[str]:
        """Those that may have an unknown twin."""
        return [symbol for symbol in symbols if symbol.endswith(_QUOTE) and symbol not in self._markets]

    def subscribed(self, symbols: Iterable[str]) -> list[str]:
        """The names to subscribe to for `symbols`, each once."""
        return list(dict.fromkeys(self._markets.get(symbol, symbol) for symbol in symbols))

    def heard(self, symbols: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """For each name in messages: the symbols that it stands for. Empty if every name is the symbol's own."""
        found: dict[str, tuple[str, ...]] = {}
        for symbol in symbols:
            names = {self._markets.get(symbol, symbol)}
            if symbol.endswith(_QUOTE) and symbol not in self._markets:
                names.add(symbol.removesuffix("C"))
            for name in names:
                found[name] = (*found.get(name, ()), symbol)
        return {} if all(told == (name,) for name, told in found.items()) else found
