"""The account's balances as the exchange last reported them."""

from __future__ import annotations

from web.views import Ledger, Row

__all__ = ["read_balances"]

_BALANCES = """
SELECT currency, available, hold, available + hold AS total, asked_at FROM balances WHERE account = $1 ORDER BY currency
"""


async def read_balances(ledger: Ledger, account: str) -> list[Row]:
    """Each currency's available and held amount and their total, with the time of the request (UTC)."""
    return await ledger.fetch(_BALANCES, account)
