"""Sells at the gate: exits of trades, and sells of what no trade owns.

They pass no gate but HODL, venue state, size and available balance. That of a due stop, or of a person's close, holds
its trade's row and no lock; what it asks the exchange it asks within a bound, and goes by what is known (EXIT-10).
Other sells of a trade hold their symbol's lock, too. A sell of what no trade owns holds the coin's, and takes the
account's next turn, as buys that pay with that coin do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg

from activities.database import (
    Connection,
    Pool,
    Record,
    coin_transaction,
    lock_trade,
    symbol_transaction,
    trade_transaction,
)
from activities.ledger.holdings import coins
from activities.orders.admission_sql import HOLD_TURN, SELL_FACTS, TURN
from activities.orders.decisions import Decided, Decisions, Turn, store, with_who_asked
from activities.orders.funds import first_size
from activities.orders.touches import EXIT_ASKS_SECONDS, PROFIT_ASKS_SECONDS, Touches
from activities.policy import Policy
from activities.venue import Venue
from domain.commands import command_of
from domain.drafting import Draft, as_asked, at_touch, claimable, limit_exit, needs_touch, protecting, selling
from domain.exits import ExitReason
from domain.gate_facts import Facts, GateResult
from domain.gates import EXIT_GATES, run_gates
from domain.ids import client_order_id
from domain.intents import must_leave
from domain.market import Product, Quote, base_of
from domain.messages import Admission, OrderIntent
from domain.money import ZERO
from domain.orders import OrderRole, OrderState
from domain.pool import unowned
from domain.quoting import QUOTES, leaves_after_quotes

__all__ = ["SellAdmissions"]

_TRIES = 3
"""So often a sell of what no trade owns is decided before it has the account's turn to itself."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a sell was told by the exchange: the product, what is available of its base (None: not known) by a read that
    began after `at`, and from them a refusal, or its first attempt and what one base unit is worth.
    """

    product: Product | None
    free: Decimal | None
    at: datetime
    refusal: GateResult | None = None
    draft: Draft | None = None
    price: Decimal | None = None


class SellAdmissions:
    """Decides on sells, once each."""

    def __init__(
        self, pool: Pool, venue: Venue, policy: Callable[[], Policy], decisions: Decisions, touches: Touches
    ) -> None:
        self._pool = pool
        self._venue = venue
        self._policy = policy
        self._decisions = decisions
        self._touches = touches

    async def admit(self, intent: OrderIntent) -> Admission:
        """The decision on a sell. Raises as `activities.orders.admission.Admissions.admit` does."""
        asked = await self._asked(intent)
        if intent.entry_key is None:
            return await self._admit_of_pool(intent, asked)
        async with self._held(intent) as connection:
            found = await self._sell_facts(connection, intent)
            if (known := await self._decided_before(connection, intent, found)) is not None:
                return known
            size = claimable(intent, found["held"] or ZERO, asked.free, asked.product)
            size = await first_size(connection, intent, size, asked.product, asked.price)
            decided = self._decided(intent, asked, found, size)
            await store(connection, decided)
            return decided.answer

    async def _admit_of_pool(self, intent: OrderIntent, asked: _Asked) -> Admission:
        """A sell of what no trade owns, by what the books know to be nobody's (`domain.pool`).

        Two of them wait for each other at the coin, whatever they are sold for. A buy that pays with the coin, admitted
        between its read and its write, has it decided again; after three times it has the account's turn to itself.
        """
        for _ in range(_TRIES):
            with contextlib.suppress(asyncpg.SerializationError):
                return await self._decide_of_pool(intent, asked, alone=False)
        return await self._decide_of_pool(intent, asked, alone=True)

    async def _decide_of_pool(self, intent: OrderIntent, asked: _Asked, *, alone: bool) -> Admission:
        base = asked.product.base if asked.product is not None else base_of(intent.symbol)
        async with coin_transaction(self._pool, intent.account, base) as connection:
            if alone:
                await connection.execute(HOLD_TURN, intent.account)
            found = await self._sell_facts(connection, intent)
            if (known := await self._decided_before(connection, intent, found)) is not None:
                return known
            read = await connection.fetchrow(TURN, intent.account)
            coin = (await coins(connection, intent.account, asked.at, base))[base]
            pool = unowned(coin, asked.free, base)
            turn = Turn(read["turns"], read["read_at"])
            decided = self._decided(intent, asked, found, pool.size, why=pool.why, turn=turn)
            await store(connection, decided)
            return decided.answer

    async def _sell_facts(self, connection: Connection, intent: OrderIntent) -> Any:
        command = command_of(intent) or (None, None, None)
        return await connection.fetchrow(
            SELL_FACTS, intent.order_key, intent.account, intent.symbol, intent.entry_key, *command
        )

    async def _decided_before(self, connection: Connection, intent: OrderIntent, found: Record) -> Admission | None:
        """The stored decision, or that quotes are to be taken away first; None if it is to be decided now."""
        if found["existing"]:
            return await self._decisions.stored(connection, intent)
        if found["quoted"] and leaves_after_quotes(intent):
            # Nothing is stored: the workflow has the market maker's quotes taken away and asks again (EXIT-4).
            return self._decisions.admission(accepted=False, state=OrderState.RECEIVED, quotes_rest=True)
        return None

    def _decided(
        self,
        intent: OrderIntent,
        asked: _Asked,
        found: Record,
        claimed: Decimal | None,
        *,
        why: str = "",
        turn: Turn | None = None,
    ) -> Decided:
        """The decision on a sell that may claim so much (base); None: nobody knows how much, and `why` says so.

        An exit sells the trade's own remainder, at most what is available; the rest stays protected.
        """
        policy, product = self._policy(), asked.product
        draft = selling(intent, asked.draft, claimed, product)
        size = draft.base_size
        facts = Facts(
            intent=intent,
            now=datetime.now(UTC),
            product=product,
            price=draft.limit_price or asked.price,
            size=size,
            dry_run=policy.dry_run and intent.entry_key is None,
            hodl=intent.symbol in policy.hodl and intent.exit_reason is not ExitReason.MANUAL,
            available_base=claimed,
            base_why=why,
        )
        results = run_gates(EXIT_GATES, facts) if asked.refusal is None else [asked.refusal]
        # What only rests at the exchange leaves the plan armed and the trade protected.
        begins_exit = intent.role is OrderRole.EXIT and intent.protection_role is None and intent.entry_point != QUOTES
        known = with_who_asked(intent, found["given_by"])
        return self._decisions.decided(known, draft, results, claimed=size or ZERO, begins_exit=begins_exit, turn=turn)

    async def _asked(self, intent: OrderIntent) -> _Asked:
        """What a sell asks the exchange, before it holds anything that others wait for."""
        at = datetime.now(UTC)
        if must_leave(intent):
            (product, free), touch = await asyncio.gather(self._rules_and_free(intent), self._touches.of_stop(intent))
            draft = await self._draft_exit(intent, product, touch)
            return _Asked(product, free, at, None, draft, touch.bid if touch is not None else None)
        if intent.entry_key is not None:
            # A due stop may wait for its end: what it asks is bounded, too.
            product = await self._venue.rules(intent.symbol, within=PROFIT_ASKS_SECONDS)
            free = await self._venue.available(product.base, within=PROFIT_ASKS_SECONDS) if product else None
        else:
            product = await self._venue.product(intent.symbol)
            free = await self._venue.available(product.base) if product else None
        if product is None:
            return _Asked(None, free, at)
        if intent.protection_role is not None:
            return _Asked(product, free, at, None, protecting(intent))
        if intent.role is OrderRole.EXIT and intent.entry_point != QUOTES:
            refusal, touch = await self._touches.still_due(intent)
            draft = await self._draft_exit(intent, product, touch)
            return _Asked(product, free, at, refusal, draft, None if touch is None else touch.bid)
        if not needs_touch(intent, product):
            return _Asked(product, free, at, None, *as_asked(intent, product))
        quote = await self._venue.quote_for(client_order_id(intent.order_key, 1), intent.symbol)
        return _Asked(product, free, at, None, *at_touch(intent, product, quote, self._policy().market_collar))

    async def _draft_exit(self, intent: OrderIntent, product: Product | None, touch: Quote | None) -> Draft:
        draft = limit_exit(intent, product, touch)
        return draft if draft is not None else await self._touches.market_exit(intent, product)

    @contextlib.asynccontextmanager
    async def _held(self, intent: OrderIntent) -> AsyncIterator[Connection]:
        """A transaction with what a trade's claim needs held: the trade, and but for a due stop the symbol's lock."""
        entry_key = intent.entry_key or ""
        if must_leave(intent):
            async with trade_transaction(self._pool, entry_key) as connection:
                yield connection
            return
        async with symbol_transaction(self._pool, intent.account, intent.symbol) as connection:
            await lock_trade(connection, entry_key)
            yield connection

    async def _rules_and_free(self, intent: OrderIntent) -> tuple[Product | None, Decimal | None]:
        """The product's rules, the last known if need be, and what is available, if that is told in time."""
        product, free = await asyncio.gather(
            self._venue.rules(intent.symbol, within=EXIT_ASKS_SECONDS, due=True),
            self._venue.available(base_of(intent.symbol), within=EXIT_ASKS_SECONDS, due=True),
        )
        return product, free
