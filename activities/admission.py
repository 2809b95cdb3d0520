"""Admission: gates, reservation, order row and first attempt in one transaction (DESIGN, "admit").

The order key's uniqueness is the database's: the same intent again gets the stored decision, the same key with
another body is refused. Entries of one account are serial at the gate, with one read and one write under the lock;
exits take only their symbol's lock and pass no gate but HODL, venue state, size and available balance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from activities.controls import turn_locked
from activities.database import Connection, Pool, account_transaction, symbol_transaction
from activities.limits import closed_results, results_of
from activities.policy import Policy
from activities.venue import Venue
from domain.exits import ExitReason, ExitRules, Position, SellSignal, due_exit, exit_limit_price, price_stop
from domain.gates import (
    ENTRY_GATES,
    EXIT_GATES,
    Facts,
    GateResult,
    Limits,
    Market,
    first_refusal,
    reservation,
    run_gates,
)
from domain.ids import client_order_id
from domain.intents import intent_digest
from domain.limits import breach_of
from domain.market import Product
from domain.messages import Admission, AttemptPlan, AttemptView, GateView, OrderIntent
from domain.money import ZERO, divide
from domain.orders import AttemptStatus, OrderRole, OrderState, OrderType, Side, TimeInForce, TradeState
from domain.protection import ProtectionRole
from domain.quoting import QUOTES, leaves_after_quotes
from domain.sizing import collar_price, limit_price, post_only_price, sized
from exchange.port import ExchangeError, OrderRequest, RepeatedId

__all__ = [
    "Admissions",
    "Draft",
    "IntentConflictError",
    "disabled_why",
    "insert_attempt",
    "limits_of",
    "plan_of",
    "store_gates",
]

_FRESH_SECONDS = 1.0
_GTD_GRACE_SECONDS = 10


class IntentConflictError(Exception):
    """The order key is taken by another intent."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An attempt before it has a body. Sizes in base or quote, prices in quote per base."""

    order_type: OrderType
    base_size: Decimal | None
    quote_size: Decimal | None
    limit_price: Decimal | None
    time_in_force: TimeInForce
    post_only: bool = False
    stop_price: Decimal | None = None


class Admissions:
    """Decides on intents, once each."""

    def __init__(self, pool: Pool, venue: Venue, policy: Callable[[], Policy]) -> None:
        self._pool = pool
        self._venue = venue
        self._policy = policy
        self._turn = asyncio.Lock()
        """Entries of one process wait for their turn here, not with a connection each in the database."""

    async def admit(self, intent: OrderIntent) -> Admission:
        """The decision on an intent, stored before it is answered.

        Raises IntentConflictError, and ExchangeError if the exchange can't be asked for what the gates need.
        """
        if intent.role is OrderRole.EXIT or intent.side is Side.SELL:
            return await self._admit_sell(intent)
        return await self._admit_buy(intent)

    async def _admit_buy(self, intent: OrderIntent) -> Admission:
        policy = self._policy()
        product = await self._venue.product(intent.symbol)
        draft, price, market = await self._draft_entry(intent, product)
        if market is None and product is not None:
            market = await self.market(intent.symbol, policy, ask=intent.entry_point != "manual")
        fees = await self._venue.fee_rates() if product else None
        rate = ZERO if fees is None else fees.maker if intent.post_only else fees.taker
        buffer = 1 + policy.market_buffer if draft.order_type is OrderType.MARKET else Decimal(1)
        needed = reservation(draft.base_size, price and price * buffer, draft.quote_size, rate)
        facts = Facts(
            intent=intent,
            now=datetime.now(UTC),
            product=product,
            price=price,
            size=draft.base_size,
            blocked=intent.symbol in policy.blocked,
            disabled=disabled_why(intent.symbol, policy),
            limits=limits_of(policy),
            needed_quote=needed,
        )
        async with self._turn, account_transaction(self._pool, intent.account) as connection:
            row = await connection.fetchrow(
                _ENTRY_FACTS,
                intent.order_key,
                intent.account,
                intent.symbol,
                product.quote if product else "",
                1 + rate,
                policy.losing_streak,
            )
            if row["existing"]:
                return await self._stored(connection, intent)
            market = _with_change(market or Market(), row, product, policy)
            total, newest = row["total"], next((each for each in (market.bid, row["price"], price) if each), None)
            held = (row["held_value"] if newest is None else (row["held_size"] or ZERO) * newest) or ZERO
            facts = replace(
                facts,
                now=datetime.now(UTC),  # it may have waited for its turn
                halted=bool(row["halted"]),
                halted_by=_halted_by(row),
                market=market,
                open_buys=row["open_buys"],
                open_buys_value=row["open_buys_value"],
                held_value=held,
                account_worth=None if total is None else total + (row["others_value"] or ZERO) + held,
                results=results_of(row),
                available_quote=None if total is None else total - row["promised"],
            )
            results = run_gates(ENTRY_GATES, facts)
            refusal = first_refusal(results)
            if refusal is not None and refusal.gate in _HALTING:
                # A limit that was lowered, or a close that was not looked at: halted as it would have been then.
                breach = breach_of(facts.results, policy.daily_loss_limit, policy.losing_streak)
                if breach is not None:
                    await turn_locked(connection, intent.account, breach.sentence, breach.by, halted=True)
            return await self._store(connection, intent, draft, results, reserved=needed)

    async def market(self, symbol: str, policy: Policy, *, ask: bool) -> Market:
        """The touch that is kept for all; where that is too old, with `ask`, the exchange's own, if it answers."""
        row = await self._pool.fetchrow("SELECT bid, ask, at, change_24h FROM market_state WHERE symbol = $1", symbol)
        kept = Market() if row is None else Market(row["bid"], row["ask"], row["at"], row["change_24h"])
        if not ask or _is_fresh(kept.at, policy):
            return kept
        try:
            quote = await self._venue.quote(symbol)
        except ExchangeError:
            return kept
        return Market(quote.bid, quote.ask, datetime.now(UTC), kept.change_24h)

    async def _admit_sell(self, intent: OrderIntent) -> Admission:
        policy = self._policy()
        product = await self._venue.product(intent.symbol)
        # A trade's exit waits for no one with its balance read. A sell from the pool reads it under the symbol's lock:
        # another pool sell between its read and its claim could otherwise take what a trade owns.
        of_trade = intent.entry_key is not None
        free = await self._venue.available(product.base) if product and of_trade else None
        is_exit = intent.role is OrderRole.EXIT
        draft: Draft | None = None
        refusal: GateResult | None = None
        price: Decimal | None = None
        if product is not None and intent.protection_role is not None:
            draft = Draft(
                intent.order_type, None, None, intent.limit_price, TimeInForce.GTC, stop_price=intent.stop_price
            )
        elif product is not None and is_exit and intent.entry_point != QUOTES:
            refusal, price = await self._still_due(intent)
            draft = await self._draft_exit(intent, product, price)
        elif product is not None:
            draft, price, _ = await self._draft_entry(intent, product)
        async with symbol_transaction(self._pool, intent.account, intent.symbol) as connection:
            found = await connection.fetchrow(
                _SELL_FACTS, intent.order_key, intent.account, intent.symbol, intent.entry_key
            )
            if found["existing"]:
                return await self._stored(connection, intent)
            if found["quoted"] and leaves_after_quotes(intent):
                # Nothing is stored: the workflow has the market maker's quotes taken away and asks again (EXIT-4).
                return self._admission(accepted=False, state=OrderState.RECEIVED, quotes_rest=True)
            claimable: Decimal | None
            if of_trade:
                # What is left of the trade less other claims, at most what is available.
                held = found["held"] or ZERO
                claimable = held if free is None else min(held, free)
            else:
                claimable = await self._claimable_of_pool(connection, intent, product)
            # An exit sells the trade's own remainder, at most what is available; the rest stays protected. A size that
            # was named is sold as it is or refused.
            wanted = intent.base_size if intent.base_size is not None else claimable
            size = sized(wanted or ZERO, product) if product else wanted
            draft = replace(
                draft or Draft(intent.order_type, size, None, intent.limit_price, intent.time_in_force),
                base_size=size,
                quote_size=None,
            )
            facts = Facts(
                intent=intent,
                now=datetime.now(UTC),
                product=product,
                price=draft.limit_price or price,
                size=size,
                hodl=intent.symbol in policy.hodl and intent.exit_reason is not ExitReason.MANUAL,
                available_base=claimable,
            )
            results = run_gates(EXIT_GATES, facts)
            if refusal is not None:
                results = [refusal]
            # What only rests at the exchange leaves the plan armed and the trade protected.
            begins_exit = is_exit and intent.protection_role is None and intent.entry_point != QUOTES
            return await self._store(connection, intent, draft, results, claimed=size or ZERO, begins_exit=begins_exit)

    async def _still_due(self, intent: OrderIntent) -> tuple[GateResult | None, Decimal | None]:
        """A price stop stays due; a profit exit is checked again on a fresh price before it is sent (EXIT-3)."""
        now = datetime.now(UTC)
        reason = intent.exit_reason or ExitReason.MANUAL
        fresh = (
            intent.trigger_price is not None
            and intent.due_at is not None
            and (now - intent.due_at).total_seconds() < _FRESH_SECONDS
        )
        if fresh:
            return None, intent.trigger_price
        try:
            quote = await self._venue.quote(intent.symbol)
        except ExchangeError:
            if price_stop(reason):
                return None, intent.trigger_price
            raise
        if price_stop(reason) or await self.holds_at(intent, quote.bid, quote.at):
            return None, quote.bid
        return (
            GateResult("NO_LONGER_DUE", False, f"{reason} no longer holds at {quote.bid}", {"bid": str(quote.bid)}),
            quote.bid,
        )

    async def holds_at(self, intent: OrderIntent, bid: Decimal, at: datetime) -> bool:
        """Whether a profit exit would still be decided at this bid."""
        row = await self._pool.fetchrow(
            "SELECT p.entry_price, p.rules FROM exit_plans p WHERE p.entry_key = $1", intent.entry_key
        )
        if row is None:
            return False
        rules = ExitRules.model_validate(row["rules"])
        signal = SellSignal(True, at) if intent.exit_reason is ExitReason.SIGNAL_EXIT else None
        verdict = due_exit(Position(row["entry_price"], rules), bid, at, at, signal=signal)
        # Trailing may have armed meanwhile, which also ends a profit exit.
        return verdict.due is intent.exit_reason

    async def _draft_entry(
        self, intent: OrderIntent, product: Product | None
    ) -> tuple[Draft, Decimal | None, Market | None]:
        """The first attempt, what one base unit is worth, and the touch if it had to be asked for."""
        size = intent.base_size
        if product is not None and size is not None:
            size = sized(size, product)
        price = intent.limit_price
        needs_touch = product is not None and (
            (intent.order_type is OrderType.MARKET and intent.quote_size is None)
            or intent.post_only
            or (intent.order_type is OrderType.LIMIT and price is None)
            or (intent.order_type is OrderType.MARKET and product.limit_only)
            or (size is None and intent.order_type is OrderType.LIMIT)
        )
        if not needs_touch or product is None:
            if product is not None and price is not None and intent.entry_point != "manual":
                price = limit_price(price, intent.side, product)
            draft = Draft(intent.order_type, size, intent.quote_size, price, intent.time_in_force, intent.post_only)
            return draft, price, None
        quote = await self._venue.quote(intent.symbol)
        market = Market(quote.bid, quote.ask, datetime.now(UTC))
        touch = quote.ask if intent.side is Side.BUY else quote.bid
        if intent.order_type is OrderType.MARKET and not product.limit_only:
            return Draft(OrderType.MARKET, size, intent.quote_size, None, TimeInForce.IOC), touch, market
        at_once = intent.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
        if intent.order_type is OrderType.MARKET or (price is None and at_once):
            # It is to trade now, but no further from the touch than the collar.
            price = collar_price(quote, intent.side, self._policy().market_collar, product)
            size = size if size is not None else sized(divide(intent.quote_size or ZERO, price), product)
            in_force = TimeInForce.IOC if intent.order_type is OrderType.MARKET else intent.time_in_force
            return Draft(OrderType.LIMIT, size, None, price, in_force), price, market
        wanted = price if price is not None else (quote.bid if intent.side is Side.BUY else quote.ask)
        if intent.post_only:
            price = post_only_price(wanted, intent.side, quote, product)
        elif intent.entry_point != "manual" or price is None:
            price = limit_price(wanted, intent.side, product)
        if size is None and intent.quote_size is not None:
            size = sized(divide(intent.quote_size, price), product)
        return Draft(OrderType.LIMIT, size, None, price, intent.time_in_force, intent.post_only), price, market

    async def _draft_exit(self, intent: OrderIntent, product: Product, bid: Decimal | None) -> Draft:
        if intent.order_type is OrderType.LIMIT and intent.limit_price is not None:
            # A person's price is meant: it is taken as it is or refused, and never re-priced.
            return Draft(OrderType.LIMIT, None, None, intent.limit_price, intent.time_in_force)
        if intent.order_type is OrderType.LIMIT and bid is not None:
            price = exit_limit_price(bid, intent.rules, product.price_increment)
            return Draft(OrderType.LIMIT, None, None, price, TimeInForce.GTC)
        return await self.market_exit(intent.symbol, product)

    async def market_exit(self, symbol: str, product: Product) -> Draft:
        """MARKET, or a limit IOC with a collar where the product takes no market orders."""
        if not product.limit_only:
            return Draft(OrderType.MARKET, None, None, None, TimeInForce.IOC)
        quote = await self._venue.quote(symbol)
        price = collar_price(quote, Side.SELL, self._policy().market_collar, product)
        return Draft(OrderType.LIMIT, None, None, price, TimeInForce.IOC)

    async def _claimable_of_pool(
        self, connection: Connection, intent: OrderIntent, product: Product | None
    ) -> Decimal | None:
        """What a sell may claim of the pool that no trade owns; None if the balance can't be had. The lock is held.

        The balance is already less what open sells hold at the exchange, if they were there when it was asked for.
        What trades own beside those holds is not the pool's, nor is what other pool sells have claimed since.
        """
        if product is None:
            return None
        asked = datetime.now(UTC)
        free = await self._venue.available(product.base)
        if free is None:
            return None
        taken: Decimal = await connection.fetchval(
            """
            SELECT coalesce((SELECT sum(remaining) FROM trades
                             WHERE account = $1 AND symbol = $2 AND state <> 'CLOSED'), 0)
                 + coalesce((SELECT sum(greatest(claimed_base - filled_size, 0)
                                        * CASE WHEN entry_key IS NULL THEN (placed_at IS NULL OR placed_at >= $3)::int
                                               ELSE -(placed_at < $3)::int END)
                             FROM orders WHERE account = $1 AND symbol = $2 AND side = 'SELL' AND NOT finished
                               AND (entry_key IS NULL OR placed_at IS NOT NULL)), 0)
            """,
            intent.account,
            intent.symbol,
            asked,
        )
        return max(free - taken, ZERO)

    async def _stored(self, connection: Connection, intent: OrderIntent) -> Admission:
        """The decision that was made on this intent, with what has become of it since."""
        order = await connection.fetchrow("SELECT * FROM orders WHERE order_key = $1", intent.order_key)
        if order["intent_digest"] != intent_digest(intent):
            raise IntentConflictError(
                f"order key {intent.order_key} was used for another intent "
                f"({order['side']} {order['symbol']}, {order['received_at'].isoformat()}); use a new request id"
            )
        attempts = await connection.fetch(
            "SELECT * FROM attempts WHERE order_key = $1 ORDER BY number", intent.order_key
        )
        trade = await connection.fetchval("SELECT state FROM trades WHERE entry_key = $1", intent.order_key)
        gates = await connection.fetch(
            "SELECT gate, passed, numbers FROM gate_results WHERE order_key = $1 AND $2 ORDER BY position, id",
            intent.order_key,
            order["gate"] is not None,
        )
        first = attempts[0] if len(attempts) == 1 and attempts[0]["sends"] == 0 and attempts[0]["live"] else None
        return self._admission(
            accepted=order["gate"] is None,
            state=OrderState(order["state"]),
            gate=order["gate"],
            sentence=order["gate_sentence"] or "",
            attempts=tuple(
                AttemptView(
                    number=row["number"],
                    status=AttemptStatus(row["status"]),
                    live=row["live"],
                    exchange_order_id=row["exchange_order_id"],
                    filled_size=row["filled_size"],
                )
                for row in attempts
            ),
            plan=plan_of(first) if first else None,
            size=order["base_size"],
            filled_size=order["filled_size"],
            filled_value=order["filled_value"],
            fees=order["quote_fees"],
            finished=order["finished"],
            trade_state=TradeState(trade) if trade else None,
            gates=tuple(GateView(gate=row["gate"], passed=row["passed"], numbers=row["numbers"]) for row in gates),
        )

    def _admission(self, **known: Any) -> Admission:
        capabilities, policy = self._venue.exchange.capabilities, self._policy()
        return Admission(
            repeated_id_returns_first=capabilities.repeated_id is RepeatedId.RETURNS_FIRST,
            late_acceptance_seconds=policy.late_acceptance_seconds,
            market_speed=policy.speed,
            max_post_only_attempts=policy.post_only_attempts,
            post_only_backoff_seconds=policy.post_only_backoff,
            **known,
        )

    async def _store(
        self,
        connection: Connection,
        intent: OrderIntent,
        draft: Draft,
        results: list[GateResult],
        *,
        reserved: Decimal = ZERO,
        claimed: Decimal = ZERO,
        begins_exit: bool = False,
    ) -> Admission:
        """Write the decision, its gates and, if admitted, the first attempt with the exact body that will be sent.

        With `begins_exit` the plan acknowledges its monitor's exit, also a refused one: the monitor has it now, and
        arms it again. A sell that a person placed beside the monitor leaves the plan armed: what it doesn't sell stays
        protected. All of it is one statement.
        """
        refusal = first_refusal(results)
        state = OrderState.REJECTED if refusal else OrderState.ADMITTED
        plan = None if refusal else self.plan(intent, draft, 1)
        role = intent.protection_role or (ProtectionRole.PRIMARY if intent.protection else None)
        acknowledges = begins_exit and intent.entry_point == "exit"
        linkage = intent.linkage
        await connection.execute(
            _INSERT_ORDER,
            intent.order_key,
            intent.account,
            intent.symbol,
            intent.side.value,
            intent.role.value,
            intent.entry_key if intent.entry_key or intent.role is not OrderRole.ENTRY else intent.order_key,
            draft.order_type.value,
            intent.source,
            intent.entry_point,
            linkage.trigger,
            intent.exit_reason.value if intent.exit_reason else None,
            linkage.snapshot_id,
            linkage.buy_score,
            linkage.sell_score,
            {name: part.model_dump(mode="json") for name, part in linkage.indicator_breakdown.items()},
            list(linkage.indicators_fired),
            intent.model_dump(mode="json"),
            intent_digest(intent),
            state.value,
            refusal is not None,
            refusal.gate if refusal else None,
            refusal.sentence if refusal else None,
            draft.base_size,
            draft.quote_size,
            draft.limit_price,
            ZERO if refusal else reserved,
            ZERO if refusal else claimed,
            [result.gate for result in results],
            [result.passed for result in results],
            [result.numbers for result in results],
            role.value if role else None,
            plan.client_order_id if plan else None,
            plan.body if plan else None,
            acknowledges,
            begins_exit and refusal is None,
            (intent.exit_reason or ExitReason.MANUAL).value,
            intent.trigger_price,
            intent.trailing,
            begins_exit,
        )
        return self._admission(
            accepted=refusal is None,
            state=state,
            gate=refusal.gate if refusal else None,
            sentence=refusal.sentence if refusal else "",
            plan=plan,
            attempts=(AttemptView(number=1, status=AttemptStatus.SUBMITTING),) if plan else (),
            size=draft.base_size,
            finished=refusal is not None,
            gates=tuple(
                GateView(gate=item.gate, passed=item.passed, sentence=item.sentence, numbers=item.numbers)
                for item in (results if refusal else ())
            ),
        )

    def plan(self, intent: OrderIntent, draft: Draft, number: int) -> AttemptPlan:
        """The attempt with the exact body that the exchange will get."""
        identity = client_order_id(intent.order_key, number)
        body = self._venue.exchange.order_body(
            OrderRequest(
                client_order_id=identity,
                symbol=intent.symbol,
                side=intent.side,
                order_type=draft.order_type,
                base_size=draft.base_size,
                quote_size=draft.quote_size,
                limit_price=draft.limit_price,
                stop_price=draft.stop_price,
                time_in_force=draft.time_in_force,
                end_time=self._end_time(intent, draft),
                post_only=draft.post_only,
            )
        )
        return AttemptPlan(
            number=number,
            client_order_id=identity,
            body=dict(body),
            size=draft.base_size,
            limit_price=draft.limit_price,
        )

    def _end_time(self, intent: OrderIntent, draft: Draft) -> datetime | None:
        """When the exchange itself ends a GTD order: a little after we would, so that it only does when we can't."""
        if draft.time_in_force is not TimeInForce.GTD or intent.expires_after is None:
            return None
        life = intent.expires_after / self._policy().speed + _GTD_GRACE_SECONDS
        return datetime.now(UTC) + timedelta(seconds=float(life))


async def insert_attempt(connection: Connection, intent: OrderIntent, plan: AttemptPlan) -> None:
    """Commit an attempt's row before it is sent; the database refuses a second live one."""
    await connection.execute(
        """
        INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, size, limit_price)
        VALUES ($1,$2,$3,$4,$5,$6,'SUBMITTING',$7,$8)
        """,
        plan.client_order_id,
        intent.order_key,
        plan.number,
        intent.account,
        intent.symbol,
        plan.body,
        plan.size,
        plan.limit_price,
    )


async def store_gates(connection: Connection, order_key: str, attempt: int, results: Sequence[GateResult]) -> None:
    """Store the gates of a further attempt behind those of the admission: positions go on at `100 × (attempt - 1)`."""
    await connection.execute(
        """
        INSERT INTO gate_results (order_key, position, gate, passed, numbers)
        SELECT $1, 100 * ($2::int - 1) + g.position, g.gate, g.passed, g.numbers
        FROM unnest($3::text[], $4::bool[], $5::jsonb[]) WITH ORDINALITY AS g (gate, passed, numbers, position)
        """,
        order_key,
        attempt,
        [result.gate for result in results],
        [result.passed for result in results],
        [result.numbers for result in results],
    )


def plan_of(row: Any) -> AttemptPlan:
    """The stored attempt as what `place` sends."""
    return AttemptPlan(
        number=row["number"],
        client_order_id=row["client_order_id"],
        body=row["body"],
        size=row["size"],
        limit_price=row["limit_price"],
    )


_HALTING = frozenset({"SKIP_DAILY_LOSS_LIMIT", "SKIP_CIRCUIT_BREAKER"})


def limits_of(policy: Policy) -> Limits:
    """What entries are held to, as the gates want it."""
    return Limits(
        max_open_buys=policy.max_open_buys,
        max_spread=policy.max_spread,
        buy_on_red_day=policy.buy_on_red_day,
        max_position=policy.max_position,
        daily_loss=policy.daily_loss_limit,
        losing_streak=policy.losing_streak,
        stale_seconds=policy.market_stale_seconds,
    )


def disabled_why(symbol: str, policy: Policy) -> str:
    """Why a symbol may not be bought at all; empty if it may."""
    if symbol in policy.disabled:
        return "it is switched off (symbols.disabled)"
    if policy.allowed and symbol not in policy.allowed:
        return "it is not among the symbols that may be bought (symbols.allow)"
    return ""


def _halted_by(row: Any) -> str:
    """By whom entries are halted, and why if that was said."""
    return ": ".join(part for part in (row["halted_by"] or "somebody", row["halted_why"]) if part)


def _is_fresh(at: datetime | None, policy: Policy) -> bool:
    return at is not None and (datetime.now(UTC) - at).total_seconds() <= float(policy.market_stale_seconds)


def _with_change(market: Market, row: Any, product: Product | None, policy: Policy) -> Market:
    """The 24-hour change as it is kept for all, if that is fresh; else as the product's rules had it a minute ago."""
    kept = row["change_24h"]
    of_product = product.change_24h if product else None
    if kept is None or (of_product is not None and not _is_fresh(row["seen_at"], policy)):
        kept = of_product
    return replace(market, change_24h=kept)


# Available = the last snapshot's total, less what later buys spent and what open buys still need, own and others', plus
# what later sells brought. A buy's fill counts if it was *recorded* after the balance was asked for (it may be counted
# twice for a moment, which is the safe side), a sell's only if it *happened* after the answer. Orders of somebody else
# reserve nothing with us, so what is left of their attempts counts.
_OF_QUOTE = "right({0}.symbol, length($4) + 1) IN ('-' || $4, '_' || $4)"
_ENTRY_FACTS = f"""
WITH buys AS (
    SELECT o.symbol, o.role = 'ENTRY' AS own, greatest(o.reserved_quote - o.filled_value - o.quote_fees, 0) AS rest
      FROM orders o WHERE o.account = $2 AND o.side = 'BUY' AND NOT o.finished AND {_OF_QUOTE.format("o")}
    UNION ALL
    -- somebody else's attempts are never live ones of ours; a join would be planned while the tables were small
    SELECT a.symbol, false, greatest(a.size - a.filled_size, 0) * a.limit_price * $5
      FROM attempts a
     WHERE a.account = $2 AND a.status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED') AND NOT a.live
       AND {_OF_QUOTE.format("a")}
       AND (SELECT o.role || o.side FROM orders o WHERE o.order_key = a.order_key) = 'EXTERNALBUY'
), held AS (
    SELECT t.symbol, sum(t.remaining) AS size,
           sum(t.remaining * coalesce(m.price, t.bought_value / nullif(t.bought_size, 0))) AS value
      FROM trades t LEFT JOIN market_state m ON m.symbol = t.symbol
     WHERE t.account = $2 AND t.state <> 'CLOSED' AND {_OF_QUOTE.format("t")} GROUP BY t.symbol
)
SELECT exists(SELECT 1 FROM orders WHERE order_key = $1) AS existing,
       coalesce(c.halted, false) AS halted, c.reason AS halted_why, c.changed_by AS halted_by,
       (SELECT count(*) FROM buys WHERE symbol = $3 AND own)::int AS open_buys,
       (SELECT coalesce(sum(rest), 0) FROM buys WHERE symbol = $3) AS open_buys_value,
       (SELECT coalesce(sum(rest), 0) FROM buys) AS promised,
       (SELECT size FROM held WHERE symbol = $3) AS held_size,
       (SELECT value FROM held WHERE symbol = $3) AS held_value,
       (SELECT sum(value) FROM held WHERE symbol <> $3) AS others_value,
       m.price, m.change_24h, m.at AS seen_at,
       b.available + b.hold
       + (SELECT coalesce(sum(CASE WHEN f.side = 'BUY' THEN -(f.value + f.quote_fees)
                                   WHEN f.at > b.answered_at THEN f.value - f.quote_fees ELSE 0 END), 0)
            FROM fills f WHERE f.account = $2 AND f.recorded_at > b.asked_at AND {_OF_QUOTE.format("f")}) AS total,
       {closed_results("$2", "$6::int")}
FROM (SELECT 1) one
LEFT JOIN account_controls c ON c.account = $2
LEFT JOIN balances b ON b.account = $2 AND b.currency = $4
LEFT JOIN market_state m ON m.symbol = $3
"""

_SELL_FACTS = """
SELECT exists(SELECT 1 FROM orders WHERE order_key = $1) AS existing,
       exists(SELECT 1 FROM orders WHERE account = $2 AND symbol = $3 AND NOT finished
                 AND entry_point = 'passive_mm') AS quoted,
       (SELECT t.remaining - coalesce((SELECT sum(greatest(o.claimed_base - o.filled_size - o.base_fees, 0))
               FROM orders o WHERE o.entry_key = t.entry_key AND o.side = 'SELL' AND NOT o.finished), 0)
          FROM trades t WHERE t.entry_key = $4) AS held
"""

_INSERT_ORDER = """
WITH gates AS (
    INSERT INTO gate_results (order_key, position, gate, passed, numbers)
    SELECT $1, g.position, g.gate, g.passed, g.numbers
    FROM unnest($28::text[], $29::bool[], $30::jsonb[]) WITH ORDINALITY AS g (gate, passed, numbers, position)
), attempt AS (
    INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, size, limit_price)
    SELECT $32::text, $1, 1, $2, $3, $33::jsonb, 'SUBMITTING', $23::numeric, $25::numeric WHERE $32::text IS NOT NULL
), plan AS (
    UPDATE exit_plans SET state = 'EXITING', exit_reason = $36::text, updated_at = now(),
           revision = nextval('exit_plan_revision')
     WHERE entry_key = $6::text AND state <> 'DISARMED' AND $34::bool
), trade AS (
    UPDATE trades SET state = CASE WHEN $34::bool THEN 'CLOSING' ELSE state END, exit_reason = $36::text,
           exit_legs = exit_legs + $34::bool::int, trigger_price = $37::numeric,
           trailing_state = coalesce($38::jsonb, trailing_state)
     WHERE entry_key = $6::text AND $35::bool
)
INSERT INTO orders (order_key, account, symbol, side, role, entry_key, order_type, source, entry_point, trigger,
    exit_reason, snapshot_id, buy_score, sell_score, indicator_breakdown, indicators_fired, intent, intent_digest,
    state, finished, gate, gate_sentence, base_size, quote_size, limit_price, reserved_quote, claimed_base,
    protection_role)
SELECT $1,$2,$3,$4,$5,$6::text,$7,$8,$9,$10,$11,coalesce(e.snapshot_id, $12::uuid),
    coalesce(e.buy_score, $13), coalesce(m.sell_score, $14),
    coalesce(e.indicator_breakdown, $15), coalesce(e.indicators_fired, $16), $17,$18,$19,$20,$21,$22,
    $23::numeric,$24,$25::numeric,$26,$27,$31
FROM (SELECT 1) one
-- an exit carries its entry's decision (a market maker's ask its own), and the newest sell score that the matrix has
LEFT JOIN orders e ON $5 = 'EXIT' AND $9 <> 'passive_mm' AND e.order_key = $6::text
LEFT JOIN LATERAL (SELECT sell_score FROM market_snapshots WHERE $5 = 'EXIT' AND symbol = $3
                   ORDER BY at DESC LIMIT 1) m ON true
RETURNING CASE WHEN $39::bool THEN pg_notify('exit_plan', $6::text) END
"""
