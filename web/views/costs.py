"""The current cost of a trade from the ledger: the account's taker fee rate, and a product's touch."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from web.views import Ledger

__all__ = ["Costs", "read_costs", "taker_rate"]

_RATE = "SELECT taker FROM fee_rates WHERE account = $1"
_COSTS = """
SELECT (SELECT taker FROM fee_rates WHERE account = $1) AS taker, m.bid, m.ask
  FROM (VALUES (1)) one LEFT JOIN market_prices m
    ON m.account = $1 AND m.symbol = $2 AND m.at > now() - make_interval(secs => $3)
"""


@dataclass(frozen=True, slots=True)
class Costs:
    """The taker fee rate as a fraction, bid and ask in quote per base; None: not known now."""

    taker: Decimal | None
    bid: Decimal | None
    ask: Decimal | None


async def taker_rate(ledger: Ledger, account: str) -> Decimal | None:
    """The account's own taker fee rate, a fraction; None if not known."""
    rate: Decimal | None = await ledger.fetchval(_RATE, account)
    return rate


async def read_costs(ledger: Ledger, account: str, symbol: str, seconds: float) -> Costs:
    """The account's taker fee rate, with the product's bid and ask of the last `seconds`, if any."""
    row = await ledger.fetchrow(_COSTS, account, symbol, seconds)
    return Costs(None, None, None) if row is None else Costs(row["taker"], row["bid"], row["ask"])
