"""The activities of orders and trades: admission, the exchange's commands, the ledger, the end of things.

`place` sends once per attempt and never again by itself; what to do after an unknown outcome is the workflow's.
Everything else here may be repeated: a transaction finds its own earlier work and a look-up changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

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
    account_transaction,
    bounded_transaction,
    lock_order,
    lock_symbol,
    lock_trade,
)
from activities.exits.protection import protection_view, tell_trouble
from activities.exits.stops import move_stops
from activities.heartbeat import alive
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
from activities.ledger.record import Ledger, UnknownAttemptError, update_of
from activities.ledger.rows import totals_of
from activities.orders.admission import (
    EXIT_ASKS_SECONDS,
    PROFIT_ASKS_SECONDS,
    Admissions,
    Draft,
    IntentConflictError,
    disabled_why,
    insert_attempt,
    limits_of,
    plan_of,
    store_gates,
)
from activities.orders.controls import trading_control
from activities.orders.limits import halt_if_lost_too_much
from activities.policy import Policy
from activities.venue import Venue
from domain.commands import CommandKind, cancelled_unsent
from domain.exits import ExitReason, exit_limit_price
from domain.gates import ATTEMPT_GATES, Facts, Market, first_refusal, run_gates
from domain.identity import Standing
from domain.ids import client_order_id, order_workflow_id
from domain.intents import must_leave
from domain.market import Product
from domain.messages import (
    Admission,
    AttemptPlan,
    OrderIntent,
    OrderUpdate,
    PlaceAnswer,
    PlaceVerdict,
    PositionView,
    ProtectionView,
    RecordResult,
    ResolveAnswer,
    ResolveVerdict,
    StatusSource,
    StopsAnswer,
    TradeOutcome,
)
from domain.money import ZERO, average
from domain.orders import AttemptStatus, OrderRole, OrderState, OrderType, Side, TimeInForce, TradeState, move_order
from domain.sizing import limit_price, post_only_price, size_problem, sized
from domain.stops import StopsRefusedError
from exchange.port import (
    CancelVerdict,
    CommandRefused,
    ExchangeError,
    NotAccepted,
    OutcomeUnknown,
    RepeatedId,
    SubmitAnswer,
    VenueOrder,
)

__all__ = ["TradingActivities"]

_log = structlog.get_logger()
_CLOCK_SKEW = timedelta(minutes=5)
_LONGEST_WISH, _LONGEST_WISH_URGENT = 30.0, 2.0
"""Seconds that a pause which the exchange asks for is obeyed by a cancel."""
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
        self.ledger = Ledger(pool, self._account)

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
        draft = await self._redraft(intent, order, product, request)
        if draft is None:
            return None
        async with self._pool.acquire() as connection, connection.transaction():
            await lock_symbol(connection, intent.account, intent.symbol)
            return await self._plan_rest(connection, intent, draft, product, request)

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
        rules = asyncio.create_task(self._venue.rules(intent.symbol, within=EXIT_ASKS_SECONDS))
        touch = None if request.market else await self._admissions.last_touch(intent)
        product = await rules
        if touch is None or product is None:
            draft = await self._admissions.market_exit(intent, product)
        else:
            price = exit_limit_price(touch.bid, intent.rules, product.price_increment)
            draft = Draft(OrderType.LIMIT, None, None, price, TimeInForce.GTC)
        async with bounded_transaction(self._pool) as connection:
            return await self._plan_rest(connection, intent, draft, product, request)

    async def _plan_rest(
        self, connection: Connection, intent: OrderIntent, draft: Draft, product: Product | None, request: NextAttempt
    ) -> AttemptPlan | None:
        """Commit an attempt at what is left of the order; None if that can't be sold or bought."""
        left = await self._left_of(connection, request.order_key)
        size = left if product is None else sized(left, product)
        if size <= 0 or (product is not None and size_problem(size, draft.limit_price, product) is not None):
            return None
        plan = self._admissions.plan(
            intent,
            Draft(draft.order_type, size, None, draft.limit_price, draft.time_in_force, draft.post_only),
            request.number,
        )
        await insert_attempt(connection, intent, plan)
        return plan

    async def _next_of_entry(
        self, intent: OrderIntent, order: Any, product: Product, request: NextAttempt
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
                halted_by=": ".join(part for part in (control.changed_by or "somebody", control.reason) if part),
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
        self, intent: OrderIntent, order: Any, product: Product, number: int
    ) -> tuple[Draft, Market]:
        """The next attempt at no worse a price than asked; a buy's at none above the first, which was reserved for."""
        first = order["limit_price"]
        wanted = intent.limit_price or first
        if intent.side is Side.BUY and first is not None:
            wanted = min(wanted, first)
        attempt = client_order_id(intent.order_key, number)
        if intent.post_only:
            quote = await self._venue.quote_for(attempt, intent.symbol)
            market = Market(quote.bid, quote.ask, datetime.now(UTC))
            price = post_only_price(wanted, intent.side, quote, product)
        else:
            asks_for = None if intent.entry_point == "manual" else attempt
            market = await self._admissions.market(intent.symbol, self._policy(), asks_for=asks_for)
            price = limit_price(wanted, intent.side, product)
        return Draft(OrderType.LIMIT, None, None, price, intent.time_in_force, intent.post_only), market

    async def _redraft(self, intent: OrderIntent, order: Any, product: Product, request: NextAttempt) -> Draft | None:
        """What follows of a sell that is no due stop's; None for a profit exit that doesn't hold any more, or of which
        nobody knows.
        """
        if intent.role is OrderRole.EXIT and not intent.post_only:
            if request.market:
                return await self._admissions.market_exit(intent, product)
            quote = await self._venue.touch(intent.symbol, within=PROFIT_ASKS_SECONDS)
            if quote is None or (request.recheck and not await self._admissions.holds_at(intent, quote.bid, quote.at)):
                return None
            price = exit_limit_price(quote.bid, intent.rules, product.price_increment)
            return Draft(OrderType.LIMIT, None, None, price, TimeInForce.GTC)
        draft, _ = await self._redraft_resting(intent, order, product, request.number)
        return draft

    async def _left_of(self, connection: Connection, order_key: str) -> Decimal:
        left = await connection.fetchval(
            """
            SELECT CASE WHEN o.side = 'SELL'
                        THEN least(o.claimed_base - o.filled_size - o.base_fees, t.remaining)
                        ELSE o.base_size - o.filled_size END
            FROM orders o LEFT JOIN trades t ON t.entry_key = o.entry_key WHERE o.order_key = $1
            """,
            order_key,
        )
        return Decimal(left) if left is not None else ZERO

    @activity.defn(name="place")
    async def place(self, request: PlaceAttempt) -> PlaceAnswer:
        plan = request.plan
        if not await self._mark_sent(plan.client_order_id):
            return PlaceAnswer(verdict=PlaceVerdict.UNKNOWN, code="SENT_BEFORE", message="it was sent before")
        leg = "exit" if request.urgent else "entry"
        crash_at(f"before_{leg}_submit")
        try:
            async with alive():
                answer = await self._venue.exchange.submit(plan.body, urgent=request.urgent)
        except CommandRefused as error:
            self._venue.forget_product(request.symbol)
            await self._pool.execute(
                """UPDATE attempts SET status = 'FAILED', live = false, refusal = $2, refusal_text = $3,
                   final_at = now(), status_source = 'submit_response'
                   WHERE client_order_id = $1 AND status IN ('SUBMITTING','UNKNOWN')""",
                plan.client_order_id,
                error.code,
                str(error),
            )
            return PlaceAnswer(verdict=PlaceVerdict.REFUSED, code=error.code, message=str(error))
        except NotAccepted as error:
            await self._pool.execute("UPDATE attempts SET sends = 0 WHERE client_order_id = $1", plan.client_order_id)
            return PlaceAnswer(
                verdict=PlaceVerdict.NOT_ACCEPTED, code=error.code, message=str(error), retry_after=error.retry_after
            )
        except OutcomeUnknown as error:
            await self._pool.execute(
                "UPDATE attempts SET status = 'UNKNOWN' WHERE client_order_id = $1 AND status = 'SUBMITTING'",
                plan.client_order_id,
            )
            return PlaceAnswer(verdict=PlaceVerdict.UNKNOWN, code=error.code, message=str(error))
        crash_at(f"before_{leg}_acknowledgement")
        await self._acknowledge(plan.client_order_id, answer.exchange_order_id)
        await self.ledger.expect(request.order_key, plan.size)
        return PlaceAnswer(verdict=PlaceVerdict.ACCEPTED, exchange_order_id=answer.exchange_order_id)

    async def _mark_sent(self, client_order_id: str) -> bool:
        """True once per attempt: a reset workflow that comes by again looks the attempt up instead of sending it."""
        # The row itself is durable. Should a crash of the database's machine lose this mark, the identical body may be
        # sent again under the same id, which the venue answers with the first order or refuses: no need to wait.
        marked = await self._pool.fetchval(
            """UPDATE attempts SET sends = sends + 1
               WHERE client_order_id = $1 AND sends = 0 AND live
                 AND set_config('synchronous_commit', 'off', true) = 'off' RETURNING true""",
            client_order_id,
        )
        return bool(marked)

    async def _acknowledge(self, client_order_id: str, exchange_order_id: str) -> None:
        await self._pool.execute(
            """
            WITH attempt AS (
                UPDATE attempts SET exchange_order_id = coalesce(exchange_order_id, $2),
                       acknowledged_at = coalesce(acknowledged_at, now()),
                       status = CASE WHEN status IN ('SUBMITTING','UNKNOWN') THEN 'OPEN' ELSE status END
                WHERE client_order_id = $1 RETURNING order_key)
            UPDATE orders SET placed_at = coalesce(placed_at, now()),
                   state = CASE WHEN state IN ('ADMITTED','SUBMITTING','UNKNOWN') THEN 'OPEN' ELSE state END
            WHERE order_key = (SELECT order_key FROM attempt)
            """,
            client_order_id,
            exchange_order_id,
        )

    @activity.defn(name="look_up")
    async def look_up(self, request: LookUp) -> ResolveAnswer:
        row = await self._attempt(request.order_key, request.number)
        again = request.resend and row["live"] and not row["exchange_order_id"]
        try:
            async with alive():
                if again and request.resend_first:
                    answer = await self._send_again(row)
                    if answer is not None and answer.verdict is ResolveVerdict.FOUND:
                        return answer
                order, source = await self._find(row)
                if order is None and again and not request.resend_first:
                    answer = await self._send_again(row)
                    if answer is not None:
                        return answer
        except ExchangeError as error:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence=f"the exchange can't be asked: {error}")
        if order is not None:
            return await self._answer_found(row, order, source)
        if row["status"] == AttemptStatus.FAILED and row["refusal"] and not row["exchange_order_id"]:
            # The exchange had refused it, and the worker died before it could say so: nothing is left to wait for.
            return ResolveAnswer(
                verdict=ResolveVerdict.ABSENT, sentence=f"the exchange had refused it: {row['refusal']}"
            )
        # The exchange answered, and has no such order: proof only once a delayed request could no longer arrive.
        age = (datetime.now(UTC) - row["prepared_at"]).total_seconds()
        if row["exchange_order_id"] is None and age > self._policy().late_acceptance_seconds:
            await self._pool.execute(
                """UPDATE attempts SET status = 'ABSENT', live = false, refusal = 'ABSENT', final_at = now(),
                   status_source = 'order_history' WHERE client_order_id = $1 AND status IN ('SUBMITTING','UNKNOWN')""",
                row["client_order_id"],
            )
            return ResolveAnswer(
                verdict=ResolveVerdict.ABSENT, sentence=f"not among the exchange's orders {age:.0f} s after it was sent"
            )
        return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="not among the exchange's orders yet")

    async def _find(self, row: Any) -> tuple[VenueOrder | None, StatusSource]:
        exchange = self._venue.exchange
        if row["exchange_order_id"]:
            return await exchange.order(row["exchange_order_id"]), StatusSource.ORDER_HISTORY
        since = row["prepared_at"] - _CLOCK_SKEW
        found = await exchange.find_order(row["client_order_id"], row["symbol"], since)
        return found, StatusSource.ORDER_HISTORY

    async def _send_again(self, row: Any) -> ResolveAnswer | None:
        """Where a repeated id is answered with the first order, the identical body either finds it or places it.

        None if that says nothing new; NOT_YET if what was sent now may still arrive.
        """
        exchange = self._venue.exchange
        if exchange.capabilities.repeated_id is not RepeatedId.RETURNS_FIRST:
            return None
        # From now on a delayed request could arrive again: the time after which absence is proof begins anew.
        await self._pool.execute(
            "UPDATE attempts SET sends = sends + 1, prepared_at = now() WHERE client_order_id = $1",
            row["client_order_id"],
        )
        try:
            answer = await exchange.submit(row["body"], urgent=True)
        except (CommandRefused, NotAccepted) as error:
            _log.info("resend_not_taken", client_order_id=row["client_order_id"], code=error.code)
            # It was answered, so it can't arrive any more: only what was sent before it still could.
            await self._pool.execute(
                "UPDATE attempts SET prepared_at = $2 WHERE client_order_id = $1",
                row["client_order_id"],
                row["prepared_at"],
            )
            return None
        except OutcomeUnknown as error:
            _log.info("resend_not_answered", client_order_id=row["client_order_id"], code=error.code)
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="sent again, without an answer")
        return await self._taken(row, answer)

    async def _taken(self, row: Any, answer: SubmitAnswer) -> ResolveAnswer | None:
        """The exchange has the order, by its answer to a repeated id. How it stands it is asked, but not waited for."""
        # The echo shows the new request, whatever the first one was: the order itself is believed.
        try:
            async with asyncio.timeout(EXIT_ASKS_SECONDS):
                order = await self._venue.exchange.order(answer.exchange_order_id)
        except (ExchangeError, TimeoutError):
            order = None
        if order is not None and order.client_order_id not in ("", row["client_order_id"]):
            return None
        if order is not None:
            return await self._answer_found(row, order, StatusSource.SUBMIT_RESPONSE)
        await self._acknowledge(row["client_order_id"], answer.exchange_order_id)
        update = OrderUpdate(
            attempt=row["number"],
            status=AttemptStatus.OPEN,
            exchange_order_id=answer.exchange_order_id,
            source=StatusSource.SUBMIT_RESPONSE,
            at=datetime.now(UTC),
        )
        return ResolveAnswer(verdict=ResolveVerdict.FOUND, update=update, sentence="sent again, and taken")

    async def _answer_found(self, row: Any, order: VenueOrder, source: StatusSource) -> ResolveAnswer:
        await self._pool.execute(
            """INSERT INTO raw_facts
                      (account, source, kind, symbol, exchange_order_id, client_order_id, body, routed_at)
               VALUES ($1,$2,'order',$3,$4,$5,$6,now())""",
            self._account,
            source.value,
            order.symbol,
            order.exchange_order_id,
            order.client_order_id,
            dict(order.raw),
        )
        await self._acknowledge(row["client_order_id"], order.exchange_order_id)
        update = update_of(order, row["number"], source, order.updated_at or datetime.now(UTC))
        return ResolveAnswer(
            verdict=ResolveVerdict.FOUND, update=update, sentence=f"{order.status} at the exchange ({source})"
        )

    @activity.defn(name="cancel")
    async def cancel(self, request: CancelAttempt) -> ResolveAnswer:
        row = await self._attempt(request.order_key, request.number)
        if not row["exchange_order_id"]:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="the exchange's id is not known yet")
        try:
            async with alive():
                answer = await self._venue.exchange.cancel(row["exchange_order_id"], urgent=request.urgent)
        except ExchangeError as error:
            longest = _LONGEST_WISH_URGENT if request.urgent else _LONGEST_WISH
            raise ApplicationError(
                f"cancel of {row['exchange_order_id']} not confirmed: {error}",
                type=error.code,
                next_retry_delay=timedelta(seconds=min(error.retry_after, longest)) if error.retry_after else None,
            ) from error
        if answer.verdict is CancelVerdict.ACCEPTED:
            await self._pool.execute(
                """UPDATE attempts SET cancel_asked_at = coalesce(cancel_asked_at, now()),
                          status = CASE WHEN status = 'OPEN' THEN 'CANCELLING' ELSE status END
                   WHERE client_order_id = $1""",
                row["client_order_id"],
            )
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="the exchange took the cancel")
        # Done already, or unknown: the order's own state says how it ended.
        try:
            order = await self._venue.exchange.order(row["exchange_order_id"])
        except ExchangeError as error:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence=str(error))
        if order is None:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence=f"cancel: {answer.reason}")
        return await self._answer_found(row, order, StatusSource.CANCEL_RESPONSE)

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
        return await position_view(self._pool, self._venue, request.entry_key, seconds=_LOOK_WHILE_DUE)

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
                    "EXIT_REFUSED",
                    "CRITICAL",
                    request.entry_key,
                    f"an exit of trade {request.entry_key} did not go through: {request.why}",
                )
        return await position_view(self._pool, self._venue, request.entry_key, seconds=_LOOK_WHILE_DUE)

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

    async def _attempt(self, order_key: str, number: int) -> Any:
        row = await self._pool.fetchrow(
            "SELECT * FROM attempts WHERE order_key = $1 AND number = $2", order_key, number
        )
        if row is None:
            raise ApplicationError(
                f"no attempt {number} of order {order_key}", type="UNKNOWN_ATTEMPT", non_retryable=True
            )
        return row
