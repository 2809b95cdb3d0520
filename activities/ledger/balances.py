"""The account's balances and fee rates, as last reported by the exchange.

One reader keeps them current, under its lease. If an entry's gate finds none, or an old one, it requests and stores
them itself: a snapshot never replaces a newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from activities.database import Pool
from activities.leases import HELD, Lease
from exchange.port import Balance, Exchange, ExchangeError

__all__ = ["AccountReader", "keep_balances"]

log = structlog.get_logger(__name__)

# A time that has not come yet is of a clock that was set back: anything newer takes its place.
_OLDER = "(balances.asked_at < excluded.asked_at OR balances.asked_at > now() + interval '5 seconds')"
_BALANCES = f"""
WITH news AS (
    SELECT * FROM jsonb_to_recordset($4::jsonb) AS n (currency text, available numeric, hold numeric)
), stored AS (
    INSERT INTO balances (account, currency, available, hold, asked_at, answered_at)
    SELECT $3, currency, available, hold, $5, $6 FROM news WHERE $1::text IS NULL OR {HELD}
    ON CONFLICT (account, currency) DO UPDATE
       SET available = excluded.available, hold = excluded.hold,
           asked_at = excluded.asked_at, answered_at = excluded.answered_at
     WHERE {_OLDER}
)
UPDATE balances SET available = 0, hold = 0, asked_at = $5, answered_at = $6
 WHERE account = $3 AND {_OLDER.replace("excluded.asked_at", "$5")} AND currency NOT IN (SELECT currency FROM news)
   AND ($1::text IS NULL OR {HELD})
"""
_FEES = (
    "INSERT INTO fee_rates (account, maker, taker, at) SELECT $3, $4, $5, now() WHERE "
    + HELD
    + " ON CONFLICT (account) DO UPDATE SET maker = excluded.maker, taker = excluded.taker, at = excluded.at"
)


async def keep_balances(
    pool: Pool,
    account: str,
    found: Mapping[str, Balance],
    asked: datetime,
    answered: datetime,
    *,
    lease: Lease | None = None,
) -> None:
    """Store all currencies of the account, under the lease if there is one. Raises the database's errors.

    A currency that the exchange no longer lists is stored as empty.
    """
    news = [
        {"currency": item.currency, "available": str(item.available), "hold": str(item.hold)} for item in found.values()
    ]
    held = (None, None) if lease is None else (lease.name, lease.epoch)
    await pool.execute(_BALANCES, *held, account, news, asked, answered)


class AccountReader:
    """Reads by REST and stores under the lease. After a failed read the stored values stay, with their age."""

    def __init__(self, pool: Pool, exchange: Exchange, account: str, lease: Lease, *, timeout: float) -> None:
        self._pool = pool
        self._exchange = exchange
        self._account = account
        self._lease = lease
        self._timeout = timeout
        self.something_held = False
        """Whether the exchange last reported any of them as held for orders; assumed during a request."""

    async def balances(self) -> None:
        """All currencies, with the times of request and answer. Raises the database's errors."""
        asked = datetime.now(UTC)
        self.something_held = True  # it may be, until the answer says that it isn't
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._exchange.balances()
        except (ExchangeError, OSError, TimeoutError) as problem:
            log.warning("balances not read", problem=repr(problem))
            return
        self.something_held = any(item.hold > 0 for item in found.values())
        await keep_balances(self._pool, self._account, found, asked, datetime.now(UTC), lease=self._lease)

    async def fees(self) -> None:
        """The account's own maker and taker rates. Raises the database's errors."""
        try:
            async with asyncio.timeout(self._timeout):
                rates = await self._exchange.fee_rates()
        except (ExchangeError, OSError, TimeoutError) as problem:
            log.warning("fee rates not read", problem=repr(problem))
            return
        await self._pool.execute(_FEES, self._lease.name, self._lease.epoch, self._account, rates.maker, rates.taker)
