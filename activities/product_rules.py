"""Products' rules as the exchange last reported them, stored in the ledger for exits after a restart while it does not
answer."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

from activities.database import Pool
from activities.leases import DATABASE_TROUBLE
from domain.market import Product
from domain.money import plain

__all__ = ["ProductRules"]

_SIZES = (
    "base_increment",
    "quote_increment",
    "price_increment",
    "base_min",
    "base_max",
    "quote_min",
    "quote_max",
)
_NAMES = ("base", "quote", "limit_only")


class ProductRules:
    """Reads and writes them for one account. An error here causes no other failure: the rules are then not known."""

    def __init__(self, pool: Pool, account: str) -> None:
        self._pool = pool
        self._account = account

    async def keep(self, product: Product) -> None:
        """Store the rules if they are new."""
        rules = {name: plain(getattr(product, name)) for name in _SIZES}
        rules |= {name: getattr(product, name) for name in _NAMES}
        with contextlib.suppress(*DATABASE_TROUBLE):
            await self._pool.execute(
                """
                INSERT INTO product_rules AS p (account, symbol, rules) VALUES ($1, $2, $3)
                ON CONFLICT (account, symbol) DO UPDATE SET rules = excluded.rules, at = now()
                 WHERE p.rules <> excluded.rules
                """,
                self._account,
                product.symbol,
                rules,
            )

    async def kept(self, symbol: str) -> Product | None:
        """The last stored rules; None if there are none, or the ledger can't be read."""
        with contextlib.suppress(*DATABASE_TROUBLE):
            rules = await self._pool.fetchval(
                "SELECT rules FROM product_rules WHERE account = $1 AND symbol = $2", self._account, symbol
            )
            if rules is not None:
                known: dict[str, Any] = {name: Decimal(rules[name]) for name in _SIZES}
                return Product(symbol=symbol, **known, **{name: rules[name] for name in _NAMES})
        return None
