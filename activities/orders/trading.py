"""The activities of orders and trades: admission, the exchange's commands, the ledger, the end of things.

What is sent to the exchange and asked of it is in `activities.orders.attempts`. Everything else here may be repeated: a
transaction finds its own earlier work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.commands import given_by, keep
from activities.crash_points import crash_at
from activities.database import (
    Connection,
    Pool,
    Record,
    account_transaction,
    bounded_transaction,
    lock_order,
    lock_symbol,
    lock_trade,
)
from activities.exits.protection import protection_view, tell_trouble
from activities.exits.stops import move_stops
from activities.incidents import report_once
from activities.interfaces.orders import (
    CancelAttempt,
    EndOrder,
    KeepCommand,
    LookUp,
    MoveStops,
    NextAttempt,
    OrderActivities,
    PlaceAttempt,
    ProtectionRequest,
    ProtectionTrouble,
    RearmTrade,
    RecordUpdate,
    TradeKey,
)
from activities.ledger.closing import close_trade, finish_order, position_view
from activities.ledger.record import LedgerWriter, UnknownAttemptError
from activities.ledger.rows import totals_of
from activities.measures import Measures
from activities.obstacles import ObstacleNews
from activities.orders.admission import Admissions
from activities.orders.attempts import AttemptCommands
from activities.orders.controls import trading_control
from activities.orders.decisions import IntentConflictError, insert_attempt, plan_of, store_gates
from activities.orders.entry_facts import disabled_why, limits_of
from activities.orders.funds import next_size
from activities.orders.group_limits import halt_groups_that_lost, halts_of_entry
from activities.orders.limits import halt_if_lost_too_much
from activities.orders.resends import Resends
from activities.orders.touches import EXIT_ASKS_SECONDS, PROFIT_ASKS_SECONDS
from activities.policy import Policy
from activities.venue import Venue
from domain.commands import CommandKind, cancelled_unsent
from domain.drafting import Draft, at_bid, protecting, remainder, rests_again
from domain.exits import ExitReason
from domain.gate_facts import Facts, MarketFacts
from domain.gates import ATTEMPT_GATES, first_refusal, run_gates
from domain.identity import Standing
from domain.ids import client_order_id, order_workflow_id
from domain.incidents import IncidentKind
from domain.intents import must_leave
from domain.market import Product, base_of
from domain.messages import (
    Admission,
    AttemptPlan,
    OrderIntent,
    PlaceAnswer,
    PositionView,
    ProtectionView,
    RecordResult,
    ResolveAnswer,
    StopsAnswer,
    TradeOutcome,
)
from domain.money import ZERO, average
from domain.orders import AttemptStatus, OrderRole, OrderState, OrderType, TradeState, move_order
from domain.stops import StopsRefusedError

__all__ = ["TradingActivities"]

_log = structlog.get_logger()
_LOOK_WHILE_DUE = 0.3
"""Seconds for the dust question while an exit is due: a remainder of which it isn't known that it is dust is sold."""


class TradingActivities(OrderActivities):
    """The implementation behind `activities.interfaces.orders.OrderActivities` for one account."""

    def __init__(
        self,
        pool: Pool,
        venue: Venue,
        policy: Callable[[], Policy],
        client: Client,
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        """`policy` gives the limits in force now: it is asked for each decision, as they change while we run; so is
        `trouble`, why this process sends no entry now.
        """
        self._client = client
        self._pool = pool
        self._venue = venue
        self._policy = policy
        self._account = policy().account
        self._trouble = trouble
        self._admissions = Admissions(pool, venue, policy, trouble)
        self._touches = self._admissions.touches
        self.ledger = LedgerWriter(pool, self._account)
        resends = Resends(pool, venue, self._admissions.decisions, self._touches)
        obstacles = ObstacleNews(pool, client, self._account)
        self._attempts = AttemptCommands(pool, venue, policy, self.ledger, obstacles, resends)

    def listen(self, measures: Measures) -> None:
        """From now on `measures` is told what reports wrote and how fills were matched."""
        self.ledger.measures = self._attempts.measures = measures

    @activity.defn(name="admit")
    async def admit(self, intent: OrderIntent) -> Admission:
        try:
            return await self._admissions.admit(intent)
        except IntentConflictError as error:
            raise ApplicationError(str(error), type="INTENT_CONFLICT", non_retryable=True) from error

    @activity.defn(name="next_attempt")
    async def next_attempt(self, request: NextAttempt) -> AttemptPlan | None:
        stored = await self._pool.fetchrow(
            "SELECT * FROM attempts WHERE order_key = $1 AND number = $2", request.order_key, request.number
        )
        if stored is not None:
            return plan_of(stored)
        order = await self._pool.fetchrow("SELECT * FROM orders WHERE order_key = $1", request.order_key)
        intent = OrderIntent.model_validate(order["intent"])
        if intent.role is OrderRole.EXIT and self._kept(intent):
            return None
        if must_leave(intent):
            return await self._next_of_stop(intent, request)
        if intent.entry_key is not None and intent.role is OrderRole.EXIT:
            product = await self._venue.rules(intent.symbol, within=PROFIT_ASKS_SECONDS)
        else:
            product = await self._venue.product(intent.symbol)
        if product is None:
            return None
        if intent.role is OrderRole.ENTRY:
            return await self._next_of_entry(intent, order, product, request)
        draft, free = await asyncio.gather(
            self._redraft(intent, order, product, request), self._free(intent, request, PROFIT_ASKS_SECONDS)
        )
        if draft is None:
            return None
        async with self._pool.acquire() as connection, connection.transaction():
            await lock_symbol(connection, intent.account, intent.symbol)
            return await self._plan_rest(connection, intent, draft, product, request, free)

    def _kept(self, intent: OrderIntent) -> bool:
        """Whether the HODL list came while an exit was at work: its monitor's next order is refused by the gate, which
        says so.
        """
        return intent.symbol in self._policy().hodl and intent.exit_reason is not ExitReason.MANUAL

    async def _next_of_stop(self, intent: OrderIntent, request: NextAttempt) -> AttemptPlan | None:
        """The next attempt of a due stop's exit: within the bounds of its admission, and without the symbol's lock.

        It sells what the order has claimed and not sold, which nobody but this order's own reports changes. Where no
        price is known to go by it goes MARKET.
        """
        rules = asyncio.create_task(self._venue.rules(intent.symbol, within=EXIT_ASKS_SECONDS, due=True))
        asked = asyncio.create_task(self._free(intent, request, EXIT_ASKS_SECONDS))
        touch = None if request.market else await self._touches.last_touch(intent)
        product, free = await rules, await asked
        if product is not None and request.limit_only:
            product = replace(product, limit_only=True)
        if touch is None or product is None:
            draft = await self._touches.market_exit(intent, product)
        else:
            draft = at_bid(touch, intent.rules, product)
        async with bounded_transaction(self._pool) as connection:
            return await self._plan_rest(connection, intent, draft, product, request, free)

    async def _free(self, intent: OrderIntent, request: NextAttempt, within: float) -> Decimal | None:
        """What is available by the exchange, for an order that asks for less as that says no; None: it doesn't say."""
        if not request.smaller:
            return None
        return await self._venue.available(base_of(intent.symbol), within=within, due=must_leave(intent))

    async def _plan_rest(
        self,
        connection: Connection,
        intent: OrderIntent,
        draft: Draft,
        product: Product | None,
        request: NextAttempt,
        free: Decimal | None = None,
    ) -> AttemptPlan | None:
        """Commit an attempt at what is left of the order, or at less; None if that can't be sold or bought."""
        left = await self._left_of(connection, request.order_key)
        if request.smaller:
            left = await next_size(connection, intent, left, free, product, draft.limit_price or intent.trigger_price)
        rest = remainder(draft, left, product)
        if rest is None:
            return None
        plan = self._admissions.decisions.plan(intent, rest, request.number)
        await insert_attempt(connection, intent, plan)
        return plan

    async def _next_of_entry(
        self, intent: OrderIntent, order: Record, product: Product, request: NextAttempt
    ) -> AttemptPlan | None:
        """An entry is held to what may have changed since its admission, on a fresh book, before each attempt.

        The account's lock is taken first, as at admission: once a halt is committed, no attempt follows. Raises
        ApplicationError ENTRY_STOPPED with the gate.
        """
        if intent.order_type is OrderType.MARKET:
            return None
        draft, market = await self._redraft_resting(intent, order, product, request.number)
        policy = self._policy()
        async with account_transaction(self._pool, intent.account) as connection:
            await lock_symbol(connection, intent.account, intent.symbol)
            control = await trading_control(connection, intent.account)
            facts = Facts(
                intent=intent,
                now=datetime.now(UTC),
                product=product,
                price=draft.limit_price,
                size=None,
                standing=Standing(control.mode, control.armed, self._trouble()),
                dry_run=policy.dry_run,
                halted=control.halted,
                groups=await halts_of_entry(connection, policy, intent.linkage.trigger),
                halted_by=": ".join(
                    part for part in (control.changed_by or "an unknown person", control.reason) if part
                ),
                blocked=intent.symbol in policy.blocked,
                disabled=disabled_why(intent.symbol, policy),
                limits=limits_of(policy),
                market=market,
            )
            results = run_gates(ATTEMPT_GATES, facts)
            await store_gates(connection, request.order_key, request.number, results)
            refusal = first_refusal(results)
            if refusal is None:
                return await self._plan_rest(connection, intent, draft, product, request)
        raise ApplicationError(refusal.sentence, refusal.gate, type="ENTRY_STOPPED", non_retryable=True)

    async def _redraft_resting(
        self, intent: OrderIntent, order: Record, product: Product, number: int
    ) -> tuple[Draft, MarketFacts]:
        """`domain.drafting.rests_again`, and the market that its gates go by."""
        attempt = client_order_id(intent.order_key, number)
        if intent.post_only:
            quote = await self._venue.quote_for(attempt, intent.symbol)
            market = MarketFacts(quote.bid, quote.ask, datetime.now(UTC))
        else:
            quote, asks_for = None, None if intent.by_hand else attempt
            market = await self._touches.market(intent.symbol, asks_for=asks_for)
        return rests_again(intent, order["limit_price"], quote, product), market

    async def _redraft(
        self, intent: OrderIntent, order: Record, product: Product, request: NextAttempt
    ) -> Draft | None:
        """What follows of a sell that is no due stop's; None for a profit exit that doesn't hold any more, or of which
        nobody knows.
        """
        if intent.protection_role is not None and intent.role is OrderRole.EXIT:
            return protecting(intent)
        if intent.role is OrderRole.EXIT and not intent.post_only:
            if request.market:
                return await self._touches.market_exit(intent, product)
            quote = await self._touches.of_profit(intent)
            if quote is None or (request.recheck and not await self._touches.holds_at(intent, quote.bid, quote.at)):
                return None
            return at_bid(quote, intent.rules, product)
        draft, _ = await self._redraft_resting(intent, order, product, request.number)
        return draft

    async def _left_of(self, connection: Connection, order_key: str) -> Decimal:
        left = await connection.fetchval(
            """
            SELECT CASE WHEN o.side = 'SELL' THEN least(o.open_claim, t.remaining) ELSE o.base_size - o.filled_size END
            FROM orders o LEFT JOIN trades t ON t.entry_key = o.entry_key WHERE o.order_key = $1
            """,
            order_key,
        )
        return Decimal(left) if left is not None else ZERO

    @activity.defn(name="place")
    async def place(self, request: PlaceAttempt) -> PlaceAnswer:
        return await self._attempts.place(request)

    @activity.defn(name="look_up")
    async def look_up(self, request: LookUp) -> ResolveAnswer:
        return await self._attempts.look_up(request)

    @activity.defn(name="cancel")
    async def cancel(self, request: CancelAttempt) -> ResolveAnswer:
        return await self._attempts.cancel(request)

    @activity.defn(name="record")
    async def record(self, request: RecordUpdate) -> RecordResult:
        if request.update.filled_size > 0:
            crash_at("before_record")
        try:
            return await self.ledger.record(request.order_key, request.update, symbol=request.symbol)
        except UnknownAttemptError as error:
            raise ApplicationError(str(error), type="UNKNOWN_ATTEMPT", non_retryable=True) from error

    @activity.defn(name="end_order")
    async def end_order(self, request: EndOrder) -> RecordResult:
        async with bounded_transaction(self._pool) as connection:
            # An exit's end frees its claim, for which the next exit waits, so that it takes no lock of the symbol: the
            # rows that its reports hold, too, keep those apart from it.
            order = await lock_order(connection, request.order_key)
            state, now = OrderState(request.state), OrderState(order["state"])
            if order["finished"]:
                state = now
            elif not now.final:
                state = move_order(now, state)
            sentence = request.sentence
            if request.wish is not None:
                kind = CommandKind.CLOSE if request.verb == "closed" else CommandKind.CANCEL
                by = await given_by(connection, self._account, request.wish.command, kind, request.order_key)
                sentence = cancelled_unsent(request.verb, request.wish, by)
            await finish_order(connection, order, state, refusal=request.refusal, sentence=sentence)
            trade = await connection.fetchrow(
                "SELECT remaining, state, entry_final FROM trades WHERE entry_key = $1", order["entry_key"]
            )
            last = await connection.fetchrow(
                "SELECT number, status FROM attempts WHERE order_key = $1 ORDER BY number DESC LIMIT 1",
                request.order_key,
            )
        totals = totals_of(order)
        return RecordResult(
            attempt=last["number"] if last else 0,
            attempt_status=AttemptStatus(last["status"]) if last else AttemptStatus.FAILED,
            state=state,
            filled_size=totals.size,
            filled_value=totals.value,
            fees=totals.quote_fees,
            average_price=average(totals.value, totals.size),
            trade_remaining=trade["remaining"] if trade else None,
            trade_state=TradeState(trade["state"]) if trade else None,
            entry_final=trade["entry_final"] if trade else None,
            finished=True,
        )

    @activity.defn(name="keep_command")
    async def keep_command(self, request: KeepCommand) -> None:
        await keep(self._pool, self._account, request.kind, request.subject, request.request)

    @activity.defn(name="position")
    async def position(self, request: TradeKey) -> PositionView:
        if request.reason is None:
            return await position_view(self._pool, self._venue, request.entry_key)
        # An exit is due, which doesn't wait for what may not come.
        return await position_view(self._pool, self._venue, request.entry_key, seconds=_LOOK_WHILE_DUE, due=True)

    @activity.defn(name="protection")
    async def protection(self, request: ProtectionRequest) -> ProtectionView:
        return await protection_view(self._pool, self._venue, self._policy(), request)

    @activity.defn(name="protection_trouble")
    async def protection_trouble(self, request: ProtectionTrouble) -> None:
        await tell_trouble(self._pool, self._account, request)

    @activity.defn(name="rearm")
    async def rearm(self, request: RearmTrade) -> PositionView:
        async with self._pool.acquire() as connection, connection.transaction():
            await lock_trade(connection, request.entry_key)
            await connection.execute(
                """
                WITH trade AS (
                    UPDATE trades SET state = 'PROTECTED' WHERE entry_key = $1 AND state = 'CLOSING')
                UPDATE exit_plans SET state = 'ARMED', exit_reason = NULL, updated_at = now(),
                       revision = nextval('exit_plan_revision'),
                       quantity = (SELECT remaining FROM trades WHERE entry_key = $1)
                WHERE entry_key = $1 AND state = 'EXITING' AND NOT $2
                """,
                request.entry_key,
                request.keep_exiting,
            )
            await connection.execute("SELECT pg_notify('exit_plan', $1)", request.entry_key)
            if request.critical:
                await report_once(
                    connection,
                    self._account,
                    IncidentKind.EXIT_REFUSED,
                    "CRITICAL",
                    request.entry_key,
                    f"an exit of trade {request.entry_key} did not go through: {request.why}",
                )
        return await position_view(self._pool, self._venue, request.entry_key, seconds=_LOOK_WHILE_DUE, due=True)

    @activity.defn(name="move_stops")
    async def move_stops(self, request: MoveStops) -> StopsAnswer:
        try:
            return await move_stops(self._pool, self._venue, self._account, request)
        except StopsRefusedError as refused:
            raise ApplicationError(str(refused), refused.code, type="STOPS_REFUSED", non_retryable=True) from refused

    @activity.defn(name="close_trade")
    async def close_trade(self, request: TradeKey) -> TradeOutcome | None:
        outcome = await close_trade(self._pool, self._venue, self._account, request)
        if outcome is not None:
            await halt_if_lost_too_much(self._pool, self._policy(), self._venue)
            await halt_groups_that_lost(self._pool, self._policy(), self._venue)
        if outcome is not None and request.tell_entry:
            await self._tell_entry(outcome)
        return outcome

    async def _tell_entry(self, outcome: TradeOutcome) -> None:
        """The entry returns the trade's outcome, also where another run of its monitor closed the trade."""
        entry = self._client.get_workflow_handle(order_workflow_id(outcome.entry_key))
        try:
            await entry.signal("trade_closed", outcome)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            _log.info("entry_had_ended", entry_key=outcome.entry_key)
