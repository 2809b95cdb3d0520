"""Replaces fills derived from totals with the exchange's own executions during a reconcile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from activities.database import Pool
from activities.incidents import report_once, resolve_incidents
from activities.ledger.exchange_fills import SETTLED_WITHIN, settle_symbol
from activities.reconcile.delivery import CHUNK
from activities.reconcile.views import ExchangeView
from domain.incidents import IncidentKind
from domain.money import ZERO, plain
from exchange.port import Exchange, Unavailable, VenueFill

__all__ = ["Settlement"]

_SETTLE_AT_ONCE = 6
_DERIVED = """
SELECT DISTINCT exchange_order_id FROM fills
 WHERE account = $1 AND origin = 'derived'
   AND (exchange_order_id = ANY($2::text[]) OR recorded_at > now() - $3::interval)
"""
_UNSETTLED = IncidentKind.FILLS_DONT_ADD_UP
_LONG_DERIVED = """
SELECT exchange_order_id, sum(size) AS size FROM fills
 WHERE account = $1 AND origin = 'derived' AND recorded_at BETWEEN now() - $2::interval AND now() - $3::interval
 GROUP BY exchange_order_id
"""
_OPEN_OF_KIND = "SELECT subject FROM incidents WHERE account = $1 AND kind = $2 AND resolved_at IS NULL"


class Settlement:
    """Settles the orders of an account. `slots` limits concurrent reads of the exchange."""

    def __init__(self, pool: Pool, exchange: Exchange, account: str, slots: asyncio.Semaphore) -> None:
        self._pool = pool
        self._exchange = exchange
        self._account = account
        self._slots = slots

    async def settle(self, view: ExchangeView, recent: timedelta) -> int:
        """Settle orders in the view and those with fills derived in the last `recent`; returns how many.

        Executions that had to be requested are added to the view. Raises the database's errors.
        """
        derived = {
            row["exchange_order_id"]
            for row in await self._pool.fetch(_DERIVED, self._account, sorted(view.fills), recent)
        }
        asked = [identity for identity in sorted(derived) if identity not in view.fills]
        for identity, fills in await asyncio.gather(*(self._executions(identity) for identity in asked)):
            view.fills[identity] = fills
        chunks: list[tuple[str, dict[str, list[VenueFill]]]] = []
        for symbol in sorted({fill.symbol for identity in derived for fill in view.fills[identity]}):
            lists = {i: view.fills[i] for i in derived if view.fills[i] and view.fills[i][0].symbol == symbol}
            names = sorted(lists, key=lambda identity: lists[identity][0].at)
            chunks += [
                (symbol, {name: lists[name] for name in names[start : start + CHUNK]})
                for start in range(0, len(names), CHUNK)
            ]
        slots = asyncio.Semaphore(_SETTLE_AT_ONCE)

        async def settle_chunk(symbol: str, lists: dict[str, list[VenueFill]]) -> int:
            async with slots:
                return await settle_symbol(self._pool, self._account, symbol, lists)

        settled = sum(await asyncio.gather(*(settle_chunk(symbol, lists) for symbol, lists in chunks)))
        await self._tell_of_unsettled(view, recent)
        return settled

    async def _tell_of_unsettled(self, view: ExchangeView, recent: timedelta) -> None:
        """Report orders whose executions have not added up for long; resolve those that now do."""
        rows = await self._pool.fetch(_LONG_DERIVED, self._account, recent, SETTLED_WITHIN)
        for row in rows:
            identity = row["exchange_order_id"]
            listed = sum((fill.size for fill in view.fills.get(identity, [])), ZERO)
            await report_once(
                self._pool,
                self._account,
                _UNSETTLED,
                "WARNING",
                identity,
                f"the exchange lists executions of {plain(listed)} for order {identity}, whose fills by its totals are "
                f"{plain(row['size'])}: those stay in the books, and balances are still compared",
            )
        unsettled = {row["exchange_order_id"] for row in rows}
        for row in await self._pool.fetch(_OPEN_OF_KIND, self._account, _UNSETTLED):
            if row["subject"] not in unsettled:
                await resolve_incidents(self._pool, self._account, _UNSETTLED, row["subject"])

    async def _executions(self, identity: str) -> tuple[str, list[VenueFill]]:
        """An order's executions, by its id; none if they can't be read now."""
        async with self._slots:
            with suppress(Unavailable):
                return identity, list(await self._exchange.fills(exchange_order_id=identity))
        return identity, []
