"""What is sent again of an exit whose first sending was not answered, and which the exchange refuses now.

Nobody knows whether that sending may still arrive, so no other attempt may follow it. But under one client order id the
exchange takes one order at most: what it would take now, less or a limit, is sent again under the same id (EXIT-10).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

from activities.database import Connection, Pool, Record, bounded_transaction
from activities.orders.decisions import Decisions, plan_of
from activities.orders.funds import size_again
from activities.orders.touches import EXIT_ASKS_SECONDS, Touches
from activities.venue import Venue
from domain.drafting import Draft, protecting, remainder
from domain.funds import LACK_OF_FUNDS
from domain.intents import must_leave
from domain.market import Product, base_of
from domain.messages import AttemptPlan, OrderIntent
from domain.orders import TAKES_NO_MARKET, OrderRole, OrderType, TimeInForce

__all__ = ["Resends"]

# The first attempt's form is the order's. The claim stays: what was sent first may still be what is carried out.
_REPLACE = """
WITH attempt AS (
    UPDATE attempts SET body = $2, size = $3, limit_price = $4
     WHERE client_order_id = $1 AND status IN ('SUBMITTING','UNKNOWN') AND live AND exchange_order_id IS NULL
    RETURNING order_key, number, size, limit_price),
written AS (
    UPDATE orders o SET base_size = a.size, limit_price = a.limit_price
      FROM attempt a WHERE o.order_key = a.order_key AND a.number = 1)
SELECT count(*) = 1 FROM attempt
"""


class Resends:
    """For one account."""

    def __init__(self, pool: Pool, venue: Venue, decisions: Decisions, touches: Touches) -> None:
        self._pool = pool
        self._venue = venue
        self._decisions = decisions
        self._touches = touches

    async def instead(self, row: Record, code: str) -> AttemptPlan | None:
        """What replaces the body of an attempt (`row`) whose sending again was refused with `code`, committed; None if
        nothing would be taken instead, or it is known by now. Raises the database's errors.
        """
        order = await self._pool.fetchrow(
            "SELECT intent, open_claim FROM orders WHERE order_key = $1", row["order_key"]
        )
        intent = OrderIntent.model_validate(order["intent"])
        if intent.role is not OrderRole.EXIT or intent.entry_key is None:
            return None
        funds = code in LACK_OF_FUNDS and intent.base_size is None and row["size"] is not None
        market = code in TAKES_NO_MARKET and row["limit_price"] is None and must_leave(intent)
        if not (funds or market):
            return None
        product, free = await asyncio.gather(
            self._venue.rules(intent.symbol, within=EXIT_ASKS_SECONDS, due=True), self._free(intent, asked=funds)
        )
        draft = await self._draft(intent, product, row)
        async with bounded_transaction(self._pool) as connection:
            size: Decimal = row["size"]
            if funds:
                price = draft.limit_price or intent.trigger_price
                size = await size_again(connection, intent, order["open_claim"], size, free, product, price)
            return await self._replaced(connection, intent, draft, size, product, row)

    async def _free(self, intent: OrderIntent, *, asked: bool) -> Decimal | None:
        if not asked:
            return None
        return await self._venue.available(base_of(intent.symbol), within=EXIT_ASKS_SECONDS, due=True)

    async def _draft(self, intent: OrderIntent, product: Product | None, row: Record) -> Draft:
        """The attempt's form as it was, or as the product takes it now."""
        if intent.protection_role is not None:
            return protecting(intent)
        if row["limit_price"] is None or intent.order_type is OrderType.MARKET:
            return await self._touches.market_exit(intent, product)
        return Draft(OrderType.LIMIT, None, None, row["limit_price"], TimeInForce.GTC)

    async def _replaced(
        self,
        connection: Connection,
        intent: OrderIntent,
        draft: Draft,
        size: Decimal,
        product: Product | None,
        row: Record,
    ) -> AttemptPlan | None:
        rest = remainder(replace(draft, base_size=size), size, product)
        if rest is None:
            return None
        plan = self._decisions.plan(intent, rest, row["number"])
        if plan.body == plan_of(row).body:
            return None
        written = await connection.fetchval(_REPLACE, plan.client_order_id, plan.body, plan.size, plan.limit_price)
        return plan if written else None
