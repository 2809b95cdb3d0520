"""FIFO lots that the account can't have: its fills bought more than it held when its books were opened.

The opening balance of such a currency is then negative, but it is booked, so the books add up and no rule is violated
(LEDGER-1). Later sells would still take their cost from lots that don't exist, so a person should check.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from activities.database import Statements
from activities.ledger.holdings import books_are_open, expected_balances
from domain.money import ZERO

__all__ = ["lots_beyond_holdings"]

_LOTS_AND_OPENING = """
SELECT currency, coalesce(lots.size, 0) AS lots, coalesce(came.amount, 0) AS opening
  FROM (SELECT split_part(translate(symbol, '_', '-'), '-', 1) AS currency, sum(lot_remaining) AS size FROM fills
         WHERE account = $1 AND side = 'BUY' GROUP BY 1) lots
  LEFT JOIN (SELECT currency, amount FROM balance_transfers WHERE account = $1 AND kind = 'opening') came
       USING (currency)
"""
_NOTHING: Mapping[str, Decimal] = MappingProxyType({})
_ROUNDING = Decimal("0.000001")


async def lots_beyond_holdings(
    pool: Statements,
    account: str,
    lots: Mapping[str, Decimal] = _NOTHING,
    moved: Mapping[str, Decimal] = _NOTHING,
) -> dict[str, Decimal]:
    """How much more the FIFO lots hold than the account had when its books were opened, by currency.

    Fills then moved more into it than it held, so the opening balance is negative. `lots` and `moved` are an import's
    additions to lots and deductions from opening balances. Empty while no opening balance is booked. Raises the
    database's errors.
    """
    if not await books_are_open(pool, account):
        return {}
    books = await expected_balances(pool, account)
    rows = {row["currency"]: row for row in await pool.fetch(_LOTS_AND_OPENING, account)}
    found = {}
    for currency in {*rows, *lots}:
        row = rows.get(currency)
        in_lots, opening = (row["lots"], row["opening"]) if row else (ZERO, ZERO)
        held = in_lots + lots.get(currency, ZERO)
        beyond = min(held - books.get(currency, ZERO), moved.get(currency, ZERO) - opening)
        if beyond >= _ROUNDING:
            found[currency] = beyond
    return found
