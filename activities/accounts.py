"""The account's balances and fee rates, as last answered by the exchange."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from activities.database import Pool
from activities.leases import HELD, Lease
from exchange.port import Exchange, ExchangeError

__all__ = ["AccountReader"]

log = structlog.get_logger(__name__)

_BALANCES = (
    """
WITH news AS (
    SELECT * FROM jsonb_to_recordset($4::jsonb) AS n (currency text, available numeric, hold numeric)
), stored AS (
    INSERT INTO balances (account, currency, available, hold, asked_at, answered_at)
    SELECT $3, currency, available, hold, $5, $6 FROM news WHERE """
    + HELD
    + """
    ON CONFLICT (account, currency) DO UPDATE
       SET available = excluded.available, hold = excluded.hold,
           asked_at = excluded.asked_at, answered_at = excluded.answered_at
     WHERE balances.asked_at < excluded.asked_at
)
UPDATE balances b SET available = 0, hold = 0, asked_at = $5, answered_at = $6
 WHERE b.account = $3 AND b.asked_at < $5 AND b.currency NOT IN (SELECT currency FROM news) AND """
    + HELD
)
_FEES = (
    "INSERT INTO fee_rates (account, maker, taker, at) SELECT $3, $4, $5, now() WHERE "
    + HELD
    + " ON CONFLICT (account) DO UPDATE SET maker = excluded.maker, taker = excluded.taker, at = excluded.at"
)


class AccountReader:
    """Reads by REST and stores under the lease. A read that fails leaves what is stored, with its age."""

    def __init__(self, pool: Pool, exchange: Exchange, account: str, lease: Lease, *, timeout: float) -> None:
        self._pool = pool
        self._exchange = exchange
        self._account = account
        self._lease = lease
        self._timeout = timeout

    async def balances(self) -> None:
        """All currencies, with when the exchange was asked and when it answered. Raises the database's errors.

        A currency that it no longer lists is empty.
        """
        asked = datetime.now(UTC)
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._exchange.balances()
        except (ExchangeError, OSError, TimeoutError) as problem:
            log.warning("balances not read", problem=repr(problem))
            return
        news = [
            {"currency": item.currency, "available": str(item.available), "hold": str(item.hold)}
            for item in found.values()
        ]
        await self._pool.execute(
            _BALANCES, self._lease.name, self._lease.epoch, self._account, news, asked, datetime.now(UTC)
        )

    async def fees(self) -> None:
        """The account's own maker and taker rates. Raises the database's errors."""
        try:
            async with asyncio.timeout(self._timeout):
                rates = await self._exchange.fee_rates()
        except (ExchangeError, OSError, TimeoutError) as problem:
            log.warning("fee rates not read", problem=repr(problem))
            return
        await self._pool.execute(_FEES, self._lease.name, self._lease.epoch, self._account, rates.maker, rates.taker)
