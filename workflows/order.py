"""One order, from intent to end; an entry stays running until its trade is closed (LIFE).

Three things go on beside each other. The *course* admits the order, sends its attempts one after the other and decides
what to do when one ends. The *recorder* folds every report into the ledger as it comes, also while an attempt is still
being sent, and starts the exit monitor at the first fill. *People* ask, cancel and close by queries, signals and
updates. A cancel of the workflow reaches only `run`, which passes it on as a wish: no exchange answer is ever lost
to it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
)
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces import (
        CancelAttempt,
        EndOrder,
        LookUp,
        NextAttempt,
        OrderActivities,
        PlaceAttempt,
        RecordUpdate,
        TradeKey,
    )
    from activities.quoting_interfaces import QuoteWithdrawalActivity, WithdrawQuotes
    from domain.exits import price_stop
    from domain.ids import exit_workflow_id
    from domain.intents import same_intent
    from domain.messages import (
        Admission,
        AttemptPlan,
        CloseAnswer,
        CloseRequest,
        Decision,
        EntryNews,
        MonitorStart,
        OrderIntent,
        OrderOutcome,
        OrderUpdate,
        PlaceAnswer,
        PlaceVerdict,
        RecordResult,
        ResolveVerdict,
        TradeOutcome,
    )
    from domain.money import average
    from domain.orders import (
        AttemptStatus,
        OrderRole,
        OrderState,
        OrderType,
        Report,
        Totals,
        TradeState,
        end_state,
        merge,
        public_state,
    )
    from workflows.durable import HEARTBEAT, TASK_TIMEOUT, ask_exchange, transact
    from workflows.narrative import Timeline, gates_table, money, order_summary, outcome_sentence, rules_sentence
    from workflows.search_attributes import STATUS, of_monitor

__all__ = ["OrderView", "OrderWorkflow"]

_PLACE_TIMEOUT = timedelta(seconds=15)
_FILL_PATIENCE = timedelta(seconds=5)
_NOT_ACCEPTED_TRIES = 6
_QUOTES_PATIENCE = 5.0
_QUOTES_PATIENCE_MARKET = 2.0
"""Wall seconds that a sell waits for the market maker's quotes on its symbol to leave; a stop at MARKET waits less."""
_WOULD_CROSS = frozenset({"INVALID_LIMIT_PRICE_POST_ONLY", "POST_ONLY_REJ", "POST_ONLY"})


class OrderView(BaseModel):
    """What the `state` query answers."""

    order_key: str
    state: str
    public_state: str
    symbol: str
    side: str
    role: str
    trigger: str
    filled_size: Decimal
    average_price: Decimal | None
    fees: Decimal
    attempts: int
    gate: str | None
    sentence: str
    trade_state: str | None
    exit_monitor: str | None


@workflow.defn(name="OrderWorkflow")
class OrderWorkflow:
    """Owns the whole life of an order."""

    @workflow.init
    def __init__(self, intent: OrderIntent) -> None:
        self._intent = intent
        self._state = OrderState.RECEIVED
        self._admission: Admission | None = None
        self._news: dict[int, OrderUpdate] = {}
        self._known: dict[int, Report] = {}
        self._number = 0
        self._filled = Totals()
        self._average: Decimal | None = None
        self._finished = False
        self._refusal: str | None = None
        self._stopped = False
        self._sentence = ""
        self._cancel_wish: str | None = None
        self._wanted_until: datetime | None = None
        self._trade: TradeOutcome | None = None
        self._trade_state: TradeState | None = None
        self._trade_remaining: Decimal | None = None
        self._entry_final: bool | None = None
        self._monitor_started = False
        self._monitor: workflow.ChildWorkflowHandle[Any, TradeOutcome] | None = None
        self._monitor_knows_end = False
        self._timeline = Timeline()
        self._late: asyncio.Task[None] | None = None

    # --- the run -------------------------------------------------------------------------------------------------

    @workflow.run
    async def run(self, intent: OrderIntent) -> OrderOutcome:
        """Admit, place, wait, record; for an entry, until its trade is closed. Returns the outcome."""
        life = asyncio.create_task(self._live())
        while True:
            try:
                outcome = await asyncio.shield(life)
            except asyncio.CancelledError:
                if life.cancelled():  # not a person's cancel: the worker puts the workflow out of its memory
                    raise
                self._wish_cancel("the workflow was cancelled")
                continue
            if outcome is None:
                self._continue_as_new()
            return outcome

    def _continue_as_new(self) -> NoReturn:
        """The admission's stored decision leads a fresh history back to where this one was."""
        workflow.continue_as_new(self._intent)

    async def _live(self) -> OrderOutcome | None:
        try:
            admission = await transact(OrderActivities.admit, self._intent, "gates and reservation")
            if admission.quotes_rest:
                await self._withdraw_quotes()
                intent = self._intent.model_copy(update={"past_quotes": True})
                admission = await transact(OrderActivities.admit, intent, "gates and claim, past the quotes")
        except ApplicationError as error:
            raise ApplicationError(str(error), type=error.type, non_retryable=True) from error
        self._admission = admission
        self._state = admission.state
        if not admission.accepted:
            self._sentence = admission.sentence
            self._tell(f"refused by {admission.gate}: {admission.sentence}")
            workflow.upsert_search_attributes([STATUS.value_set("REJECTED")])
            await workflow.wait_condition(workflow.all_handlers_finished)
            return self._outcome()
        self._tell(f"admitted: {order_summary(self._intent)}")
        recorder = asyncio.create_task(self._record_reports())
        try:
            if not admission.finished:
                await self._work(admission)
            else:
                await self._resume_finished(admission)
            if self._is_entry and (self._filled.size > 0 or admission.filled_size > 0):
                if not await self._await_trade(admission):
                    return None
            elif not self._is_entry or self._state is not OrderState.FILLED:
                workflow.upsert_search_attributes([STATUS.value_set(self._state.value)])
            if intent_sold_by_hand(self._intent) and (self._filled.size > 0 or self._intent.protection_role):
                await self._tell_trade_sold()
            # A report that came with the last step is still recorded, and an attempt that appeared late is ended.
            await workflow.wait_condition(
                lambda: (
                    not self._news and (self._late is None or self._late.done()) and workflow.all_handlers_finished()
                )
            )
            return self._outcome()
        finally:
            recorder.cancel()

    async def _withdraw_quotes(self) -> None:
        """The market maker's quotes on the symbol leave first (EXIT-4), within bounds: what one that isn't answered has
        claimed is left out of what is sold. A cancel, as a higher exit asks for one, ends the wait.
        """
        market = self._intent.order_type is OrderType.MARKET
        seconds = _QUOTES_PATIENCE_MARKET if market else _QUOTES_PATIENCE
        self._tell("the market maker's quotes on the symbol are taken away first")
        leaving = workflow.start_activity_method(
            QuoteWithdrawalActivity.withdraw_quotes,
            WithdrawQuotes(
                account=self._intent.account, symbol=self._intent.symbol, seconds=seconds, by="an exit of the symbol"
            ),
            start_to_close_timeout=timedelta(seconds=seconds + 2),
            schedule_to_close_timeout=timedelta(seconds=seconds + 2),
            retry_policy=RetryPolicy(maximum_attempts=2),
            summary=f"quotes on {self._intent.symbol} leave before a sell",
        )
        await workflow.wait_condition(lambda: leaving.done() or self._cancel_wish is not None)
        if not leaving.done():
            leaving.cancel()
        try:
            report = await leaving
        except (ActivityError, asyncio.CancelledError) as error:
            self._tell(f"the market maker's quotes may still rest ({error}): what they claim is not sold")
            return
        if report.left:
            self._tell(f"{len(report.left)} quotes are not known to have ended: what they claim is not sold")

    async def _resume_finished(self, admission: Admission) -> None:
        """The order had ended before this run began: nothing is sent, what appeared late is ended."""
        self._finished = True
        self._number = len(admission.attempts)
        self._filled = Totals(admission.filled_size, admission.filled_value, admission.fees)
        self._average = average(admission.filled_value, admission.filled_size)
        self._trade_state = admission.trade_state
        self._known = {item.number: Report(item.status) for item in admission.attempts}
        for item in admission.attempts:
            if not item.status.final:
                self._tell(f"attempt {item.number} appeared late: it is cancelled, what it fills is protected")
                await self._cancel_attempt(item.number)

    async def _await_trade(self, admission: Admission) -> bool:
        """Until the trade is closed; False if the history should be continued in a new one."""
        if admission.trade_state is TradeState.CLOSED:
            request = TradeKey(entry_key=self._intent.order_key)
            self._trade = await transact(OrderActivities.close_trade, request, "the trade's outcome")
        if self._trade is None and not self._monitor_started:
            await self._start_monitor()
        elif self._trade is None and not self._monitor_knows_end:
            await self._signal_monitor()
        while self._trade is None or self._news:
            await workflow.wait_condition(
                lambda: (
                    (self._trade is not None and not self._news)
                    or self._monitor_ended
                    or workflow.info().is_continue_as_new_suggested()
                ),
                timeout_summary="until the trade is closed",
            )
            if self._monitor_ended:
                await self._hear_monitor()
            elif self._trade is None:
                return False
        self._tell(f"closed: {outcome_sentence(self._trade)}")
        workflow.upsert_search_attributes([STATUS.value_set("CLOSED")])
        return True

    @property
    def _monitor_ended(self) -> bool:
        return self._monitor is not None and self._monitor.done()

    async def _hear_monitor(self) -> None:
        """The monitor's result is the trade's outcome; one that was terminated is replaced by the sweep."""
        monitor, self._monitor = self._monitor, None
        if monitor is None:
            return
        try:
            self.trade_closed(await monitor)
        except ChildWorkflowError as error:
            self._tell(
                f"the exit monitor ended without closing the trade ({error.cause or error}); the sweep starts one"
            )

    # --- the course ----------------------------------------------------------------------------------------------

    async def _work(self, admission: Admission) -> None:
        """Send attempts until the order has ended, then make sure that the ledger says so."""
        state = await self._run_attempts(admission)
        await workflow.wait_condition(lambda: not self._news)
        if not self._finished:
            result = await transact(
                OrderActivities.end_order,
                EndOrder(
                    order_key=self._intent.order_key,
                    symbol=self._intent.symbol,
                    state=state.value,
                    refusal=self._refusal,
                    sentence=self._sentence,
                ),
                f"the order ends: {state}",
            )
            self._note(result)
        self._tell(f"ended {self._state}: filled {money(self._filled.size)} at {money(self._average)}")

    async def _run_attempts(self, admission: Admission) -> OrderState:
        """The attempts, one after the other; returns the state that the order ends in."""
        plan, deadline = admission.plan, self._deadline()
        self._wanted_until = deadline
        if plan is None and not await self._resume_attempts(admission):
            return OrderState.FAILED
        reprices = 0
        while True:
            if plan is not None:
                self._number = plan.number
                early = self._too_late()
                if early is not None:
                    return early
                if not await self._send(plan):
                    plan = await self._after_refusal(plan)
                    if plan is None:
                        return OrderState.CANCELLED if self._stopped else OrderState.FAILED
                    continue
            repricing = await self._await_attempt(self._number, deadline)
            reprices += int(repricing)
            end = self._end_after_attempt(deadline, reprices, repricing=repricing)
            if end is not None:
                return end
            if not repricing and workflow.patched("back-off before a post-only attempt follows one that was ended"):
                await self._back_off()
            plan = await self._next(market=reprices > self._intent.rules.max_reprices)
            if plan is None:
                return OrderState.CANCELLED

    async def _resume_attempts(self, admission: Admission) -> bool:
        """Restarted: what was sent is in the journal, and an attempt without an end is looked up first."""
        if not admission.attempts:
            return False
        last = admission.attempts[-1]
        self._number = last.number
        self._known.update({item.number: Report(item.status) for item in admission.attempts})
        if not last.status.final:
            await self._resolve(last.number)
        return True

    def _end_after_attempt(self, deadline: datetime | None, reprices: int, *, repricing: bool) -> OrderState | None:
        """The order's end after an attempt's end; None if another attempt follows."""
        status = self._status(self._number)
        if status is AttemptStatus.FILLED:
            return OrderState.FILLED
        if self._cancel_wish is not None:
            return OrderState.CANCELLED
        if deadline is not None and workflow.now() >= deadline:
            return OrderState.EXPIRED
        if not repricing:
            return None if self._may_replace(status) else end_state(status)
        if reprices > self._intent.rules.max_reprices and not self._stays_due:
            self._sentence = f"not filled after {self._intent.rules.max_reprices} re-pricings"
            return OrderState.CANCELLED
        return None

    def _may_replace(self, status: AttemptStatus) -> bool:
        """A post-only entry that the exchange ended by itself is tried again with a fresh book."""
        attempts = self._admission.max_post_only_attempts if self._admission else 1
        ended = status in (AttemptStatus.CANCELLED, AttemptStatus.FAILED)
        return self._intent.post_only and ended and self._number < attempts

    def _too_late(self) -> OrderState | None:
        if self._cancel_wish is not None:
            self._sentence = f"{self._cancel_wish} before it was sent"
            return OrderState.CANCELLED
        until = self._intent.valid_until
        if until is not None and workflow.now() > until:
            self._sentence = f"the decision was valid until {until.isoformat()} and is not sent any more"
            return OrderState.EXPIRED
        return None

    async def _send(self, plan: AttemptPlan) -> bool:
        """Send an attempt; True if it is (or may be) at the exchange, False if it certainly is not."""
        for attempt in range(1, _NOT_ACCEPTED_TRIES + 1):
            self._move(OrderState.SUBMITTING)
            answer = await self._place(plan)
            if answer.verdict is PlaceVerdict.ACCEPTED:
                if self._status(plan.number) in (AttemptStatus.SUBMITTING, AttemptStatus.UNKNOWN):
                    self._known[plan.number] = Report(AttemptStatus.OPEN)
                self._move(OrderState.OPEN)
                self._tell(f"attempt {plan.number} is at the exchange as {answer.exchange_order_id}")
                return True
            if answer.verdict is PlaceVerdict.UNKNOWN:
                self._tell(f"attempt {plan.number}: outcome unknown ({answer.message or answer.code}); looking it up")
                self._move(OrderState.UNKNOWN)
                await self._resolve(plan.number)
                return True
            self._refusal, self._sentence = answer.code, answer.message
            self._tell(f"attempt {plan.number} not taken: {answer.code} {answer.message}")
            if answer.verdict is PlaceVerdict.REFUSED or answer.code == "AUTH_FAILURE":
                self._known[plan.number] = Report(AttemptStatus.FAILED)
                return False
            pause = answer.retry_after or min(0.25 * 2**attempt, 5.0)
            await self._pause(pause, f"the exchange was busy or away: {answer.code}")
            if self._too_late() is not None:
                return False
        return False

    async def _place(self, plan: AttemptPlan) -> PlaceAnswer:
        """One submit. A worker that dies with it leaves the outcome unknown, which is an answer too."""
        try:
            return await workflow.execute_activity_method(
                OrderActivities.place,
                PlaceAttempt(
                    order_key=self._intent.order_key,
                    symbol=self._intent.symbol,
                    plan=plan,
                    urgent=not self._is_entry,
                ),
                start_to_close_timeout=_PLACE_TIMEOUT,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=RetryPolicy(maximum_attempts=1),
                summary=f"{self._intent.side} {plan.size or ''} {self._intent.symbol} attempt {plan.number}",
            )
        except ActivityError as error:
            return PlaceAnswer(verdict=PlaceVerdict.UNKNOWN, code="NO_ANSWER", message=str(error.cause or error))

    async def _after_refusal(self, plan: AttemptPlan) -> AttemptPlan | None:
        """A post-only order that would have crossed is moved off the touch and tried again."""
        attempts = self._admission.max_post_only_attempts if self._admission else 1
        if self._refusal not in _WOULD_CROSS or plan.number >= attempts or self._too_late() is not None:
            return None
        await self._back_off()
        return await self._next(market=False)

    async def _back_off(self) -> None:
        """Twice as long before each further attempt, with jitter, so that many don't come back together."""
        first = float(self._admission.post_only_backoff_seconds) if self._admission else 0.2
        jitter = 0.5 + workflow.random().random()
        await self._pause(first * 2 ** (self._number - 1) * jitter, "back off before a fresh book")

    async def _next(self, *, market: bool) -> AttemptPlan | None:
        number = self._number + 1
        request = NextAttempt(
            order_key=self._intent.order_key,
            number=number,
            market=market,
            recheck=not self._is_entry and not self._stays_due,
        )
        try:
            return await transact(OrderActivities.next_attempt, request, f"prepare attempt {number}")
        except ApplicationError as error:
            if error.type != "ENTRY_STOPPED":
                raise
            self._stopped = True
            self._refusal, self._sentence = str(error.details[0]), error.message
            self._tell(f"no further attempt, {self._refusal}: {self._sentence}")
            return None

    async def _resolve(self, number: int) -> None:
        """Find out what became of an attempt, by the exchange's own records, before anything else is sent."""
        pause = 1.0
        while True:
            if self._resolved(number):
                return
            resend = not self._is_entry or (self._too_late() is None and not self._expired)
            answer = await ask_exchange(
                OrderActivities.look_up,
                LookUp(order_key=self._intent.order_key, number=number, resend=resend),
                f"what became of attempt {number}?",
            )
            if answer.update is not None:
                self._take(answer.update)
                await workflow.wait_condition(lambda: self._resolved(number))
                self._tell(f"attempt {number}: {answer.sentence}")
                return
            if answer.verdict is ResolveVerdict.ABSENT:
                self._known[number] = Report(AttemptStatus.ABSENT)
                self._refusal, self._sentence = "ABSENT", answer.sentence
                self._tell(f"attempt {number} never reached the exchange: {answer.sentence}")
                return
            await self._wait(lambda: self._resolved(number), pause, f"attempt {number}: {answer.sentence}")
            # An exit is sent again soon: its position is in danger meanwhile.
            pause = min(pause * 2, 10.0 if self._is_entry else 2.0)

    def _resolved(self, number: int) -> bool:
        return number not in self._news and self._status(number) not in (
            AttemptStatus.SUBMITTING,
            AttemptStatus.UNKNOWN,
        )

    async def _await_attempt(self, number: int, deadline: datetime | None) -> bool:
        """Until the attempt has ended; True if it was cancelled to be re-priced."""
        reprice_at = self._reprice_at()
        patience = _FILL_PATIENCE.total_seconds()
        at_once = self._intent.order_type is OrderType.MARKET or self._intent.time_in_force in ("IOC", "FOK")
        while not self._ended(number):
            due = [moment for moment in (deadline, reprice_at) if moment is not None]
            left = (min(due) - workflow.now()).total_seconds() if due else None
            wait = min(left, patience) if left is not None and at_once else patience if at_once else left
            await self._wait(
                lambda: self._ended(number) or self._cancel_wish is not None,
                None if wait is None else max(wait, 0.0),
                "until it fills",
            )
            if self._ended(number):
                return False
            now = workflow.now()
            repricing = reprice_at is not None and now >= reprice_at
            if self._cancel_wish is not None or repricing or (deadline is not None and now >= deadline):
                await self._cancel_attempt(number)
                return repricing and self._cancel_wish is None
            if at_once:
                await self._look(number)
                patience = min(patience * 2, 30.0)
        return False

    def _reprice_at(self) -> datetime | None:
        """Exit limits are re-priced after a while; a MARKET exit, an entry and a price that a person named are not."""
        intent = self._intent
        if self._is_entry or intent.exit_reason is None or intent.order_type is not OrderType.LIMIT:
            return None
        if intent.limit_price is not None:
            return None
        return workflow.now() + timedelta(seconds=float(self._intent.rules.reprice_seconds / self._speed))

    async def _cancel_attempt(self, number: int) -> None:
        """Cancel at the exchange and wait for the attempt's final size."""
        self._move(OrderState.CANCELLING)
        pause = 2.0
        while not self._ended(number):
            request = CancelAttempt(
                order_key=self._intent.order_key, number=number, urgent=not self._is_entry or self._filled.size > 0
            )
            try:
                answer = await ask_exchange(OrderActivities.cancel, request, f"cancel attempt {number}", tries=3)
            except ActivityError as error:
                self._tell(f"cancel of attempt {number} not confirmed: {error.cause or error}")
            else:
                if answer.update is not None:
                    self._take(answer.update)
            await self._wait(lambda: self._ended(number), pause, "until the cancel is final")
            if not self._ended(number):
                await self._look(number)
                await self._wait(lambda: self._ended(number), 0.05, "until it is recorded")
            pause = min(pause * 2, 30.0)

    async def _look(self, number: int) -> None:
        try:
            answer = await ask_exchange(
                OrderActivities.look_up,
                LookUp(order_key=self._intent.order_key, number=number),
                f"ask the exchange for attempt {number}",
                tries=3,
            )
        except ActivityError:
            return
        if answer.update is not None:
            self._take(answer.update)
            await workflow.wait_condition(lambda: number not in self._news)

    # --- the recorder --------------------------------------------------------------------------------------------

    async def _record_reports(self) -> None:
        """Fold reports into the ledger one after the other, as they come."""
        while True:
            await workflow.wait_condition(lambda: bool(self._news))
            number = min(self._news)
            update = self._news[number]
            request = RecordUpdate(order_key=self._intent.order_key, symbol=self._intent.symbol, update=update)
            try:
                result = await transact(
                    OrderActivities.record,
                    request,
                    f"{update.status} {money(update.filled_size)} ({update.source})",
                )
            except ApplicationError as error:
                self._tell(f"a report was not for this order: {error}")
                self._news.pop(number, None)
                continue
            # What came while it was being recorded stays to be recorded next.
            if self._news.get(number) is update:
                del self._news[number]
            self._known[number] = merge(self._report(number), _report_of(update))
            self._note(result)
            if result.new_fill:
                self._tell(
                    f"filled {money(result.filled_size)} at {money(result.average_price)}, fees {money(result.fees)}"
                )
            if self._is_entry and self._filled.size > 0:
                if not self._monitor_started:
                    await self._start_monitor()
                elif result.new_fill or (self._finished and not self._monitor_knows_end):
                    await self._signal_monitor()
            late = not self._status(number).final and (number < self._number or self._finished)
            if late and (self._late is None or self._late.done()):
                self._tell(f"attempt {number} appeared late: it is cancelled, what it fills is protected")
                self._late = asyncio.create_task(self._cancel_attempt(number))

    def _note(self, result: RecordResult) -> None:
        self._move(result.state)
        self._filled = Totals(size=result.filled_size, value=result.filled_value, quote_fees=result.fees)
        self._average = result.average_price
        self._finished = self._finished or result.finished
        self._trade_state = result.trade_state or self._trade_state
        self._trade_remaining = result.trade_remaining
        self._entry_final = result.entry_final
        if result.finished:
            self._known[result.attempt] = (
                Report(result.attempt_status) if result.attempt else Report(AttemptStatus.FAILED)
            )

    async def _start_monitor(self) -> None:
        """Start the exit monitor at the first fill; one that runs already is told what it has to know."""
        self._monitor_started, self._monitor_knows_end = True, self._finished
        start = self._monitor_start()
        try:
            self._monitor = await workflow.start_child_workflow(
                "ExitMonitorWorkflow",
                start,
                result_type=TradeOutcome,
                id=exit_workflow_id(self._intent.order_key),
                parent_close_policy=ParentClosePolicy.ABANDON,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                task_timeout=TASK_TIMEOUT,
                search_attributes=of_monitor(start),
                static_summary=f"guards {money(start.size)} {start.symbol} bought at {money(start.entry_price)}",
                static_details=rules_sentence(start.rules, start.entry_price),
            )
        except WorkflowAlreadyStartedError:
            await self._signal_monitor()
        workflow.upsert_search_attributes([STATUS.value_set("PROTECTED")])

    def _monitor_start(self) -> MonitorStart:
        intent = self._intent
        return MonitorStart(
            entry_key=intent.order_key,
            account=intent.account,
            symbol=intent.symbol,
            source=intent.source,
            trigger=intent.linkage.trigger,
            snapshot_id=intent.linkage.snapshot_id,
            rules=intent.rules,
            size=self._filled.size,
            entry_price=self._average,
            entry_final=self._finished,
            market_speed=self._speed,
            protection=intent.protection,
        )

    async def _signal_monitor(self) -> None:
        self._monitor_knows_end = self._finished
        news = EntryNews(
            size=self._filled.size,
            entry_price=self._average,
            entry_final=self._finished,
            tell_when_closed=self._monitor is None,
        )
        handle = workflow.get_external_workflow_handle(exit_workflow_id(self._intent.order_key))
        try:
            await handle.signal("entry_news", news)
        except ApplicationError:
            # It ended with the position it knew; a late fill needs a new one.
            if self._trade is None:
                await self._start_monitor()

    async def _tell_trade_sold(self) -> None:
        """A sell of a named trade that its own monitor didn't start: the monitor looks at its position again."""
        handle = workflow.get_external_workflow_handle(exit_workflow_id(self._intent.entry_key or ""))
        try:
            await handle.signal("position_changed")
        except ApplicationError as error:
            self._tell(f"the exit monitor could not be told: {error}")

    # --- people and streams ------------------------------------------------------------------------------------

    @workflow.signal
    def order_update(self, update: OrderUpdate) -> None:
        """The exchange's newest totals of an attempt; repeats and old ones change nothing."""
        self._take(update)

    @workflow.signal
    def trade_closed(self, outcome: TradeOutcome) -> None:
        """The exit monitor says that the trade is closed."""
        self._trade = outcome
        self._trade_state = TradeState.CLOSED

    @workflow.signal(name="cancel")
    def cancel_signal(self, request: CloseRequest | None = None) -> None:
        """Cancel the order at the exchange; what was filled stays protected."""
        self._wish_cancel(_asked("cancelled", request))

    @workflow.update(name="cancel")
    async def cancel_update(self, request: CloseRequest) -> CloseAnswer:
        """Cancel the order at the exchange; answers at once."""
        self._wish_cancel(_asked("cancelled", request))
        return CloseAnswer(accepted=True, sentence="the order is being cancelled; what was filled stays protected")

    @cancel_update.validator
    def _may_cancel(self, request: CloseRequest) -> None:
        if self._finished or self._state.final:
            raise ApplicationError(f"the order has ended: {self._state}", type="ORDER_ENDED")

    @workflow.signal(name="close")
    async def close_signal(self, request: CloseRequest | None = None) -> None:
        """Sell the trade's position; cancels what remains of the entry first."""
        await self._pass_close(request or CloseRequest())

    @workflow.update(name="close")
    async def close_update(self, request: CloseRequest) -> CloseAnswer:
        """Sell the trade's position; answers at once."""
        await self._pass_close(request)
        return CloseAnswer(accepted=True, sentence="the position is being sold")

    @close_update.validator
    def _may_close(self, request: CloseRequest) -> None:
        if not self._is_entry:
            raise ApplicationError("only an entry's trade can be closed", type="NOT_A_TRADE")
        if self._trade is not None or (self._finished and self._filled.size == 0):
            raise ApplicationError("there is no open position", type="TRADE_CLOSED")

    async def _pass_close(self, request: CloseRequest) -> None:
        self._wish_cancel(_asked("closed", request))
        if not self._is_entry or self._filled.size == 0:
            return
        handle = workflow.get_external_workflow_handle(exit_workflow_id(self._intent.order_key))
        try:
            await handle.signal("close", request)
        except ApplicationError as error:
            self._tell(f"the exit monitor could not be told to close: {error}")

    @workflow.update
    async def decide(self, intent: OrderIntent) -> Decision:
        """The decision on the intent, as soon as it is stored: one round trip with the start."""
        await workflow.wait_condition(lambda: self._admission is not None)
        admission = self._admission
        return Decision(
            order_key=intent.order_key,
            accepted=bool(admission and admission.accepted),
            state=self._state,
            gate=admission.gate if admission else None,
            sentence=admission.sentence if admission else "",
            workflow_id=workflow.info().workflow_id,
            numbers=admission.gates[-1].numbers if admission and admission.gates else {},
        )

    @decide.validator
    def _is_this_intent(self, intent: OrderIntent) -> None:
        if not same_intent(intent, self._intent):
            raise ApplicationError(
                f"order key {intent.order_key} was used for another intent: {order_summary(self._intent)}; "
                "use a new request id",
                type="INTENT_CONFLICT",
            )

    @workflow.query
    def state(self) -> OrderView:
        """Where the order stands."""
        intent = self._intent
        return OrderView(
            order_key=intent.order_key,
            state=self._state.value,
            public_state=public_state(self._state, self._filled.size),
            symbol=intent.symbol,
            side=intent.side.value,
            role=intent.role.value,
            trigger=intent.linkage.trigger,
            filled_size=self._filled.size,
            average_price=self._average,
            fees=self._filled.quote_fees,
            attempts=self._number,
            gate=self._admission.gate if self._admission else None,
            sentence=self._sentence,
            trade_state=self._trade_state.value if self._trade_state else None,
            exit_monitor=exit_workflow_id(intent.order_key) if self._monitor_started else None,
        )

    @workflow.query
    def timeline(self) -> list[str]:
        """What happened, in order."""
        return self._timeline.lines

    # --- small things --------------------------------------------------------------------------------------------

    @property
    def _is_entry(self) -> bool:
        return self._intent.role is OrderRole.ENTRY

    @property
    def _stays_due(self) -> bool:
        return self._intent.exit_reason is not None and price_stop(self._intent.exit_reason)

    @property
    def _speed(self) -> Decimal:
        return self._admission.market_speed if self._admission else Decimal(1)

    def _deadline(self) -> datetime | None:
        if self._intent.expires_after is None:
            return None
        return workflow.now() + timedelta(seconds=float(self._intent.expires_after / self._speed))

    @property
    def _expired(self) -> bool:
        return self._wanted_until is not None and workflow.now() >= self._wanted_until

    def _report(self, number: int) -> Report:
        return self._known.get(number, Report(AttemptStatus.SUBMITTING))

    def _status(self, number: int) -> AttemptStatus:
        return self._report(number).status

    def _ended(self, number: int) -> bool:
        return number not in self._news and self._status(number).final

    def _take(self, update: OrderUpdate) -> None:
        """Keep a report to be recorded, folded into one that is still waiting; one that says nothing new is dropped."""
        number = update.attempt
        waiting = self._news.get(number)
        before = merge(self._report(number), _report_of(waiting)) if waiting else self._report(number)
        after = merge(before, _report_of(update))
        if after == before and waiting is None and number in self._known:
            return
        if waiting is None or after != before:
            self._news[number] = update.model_copy(
                update={
                    "status": after.status,
                    "filled_size": after.totals.size,
                    "filled_value": after.totals.value,
                    "quote_fees": after.totals.quote_fees,
                    "base_fees": after.totals.base_fees,
                }
            )

    def _wish_cancel(self, why: str) -> None:
        if self._cancel_wish is None and not self._finished:
            self._cancel_wish = why
            self._tell(why)

    def _move(self, state: OrderState) -> None:
        """Follow the ledger's state; the machine in `domain` guards the ledger, not this shadow of it."""
        if not (self._finished and not state.final):
            self._state = state

    async def _wait(self, condition: object, seconds: float | None, summary: str) -> None:
        try:
            await workflow.wait_condition(
                condition,  # type: ignore[arg-type]
                timeout=None if seconds is None else timedelta(seconds=seconds),
                timeout_summary=summary,
            )
        except TimeoutError:
            return

    async def _pause(self, seconds: float, summary: str) -> None:
        await self._wait(lambda: self._cancel_wish is not None, seconds, summary)

    def _tell(self, sentence: str) -> None:
        self._timeline.add(workflow.now().strftime("%H:%M:%S.%f")[:-3], sentence)
        intent = self._intent
        lines = [f"**{order_summary(intent)}**", "", f"Order is **{self._state}**: {sentence}"]
        if self._filled.size > 0:
            lines.append(
                f"\nFilled {money(self._filled.size)} at {money(self._average)}, fees {money(self._filled.quote_fees)}"
            )
        if self._is_entry and self._filled.size > 0 and self._trade is None:
            lines.append(
                f"\nGuarded by `{exit_workflow_id(intent.order_key)}`: {rules_sentence(intent.rules, self._average)}"
            )
        if self._admission is not None and self._admission.gates:
            lines += ["", *gates_table(self._admission.gates)]
        lines += ["", *self._timeline.markdown]
        workflow.set_current_details("\n".join(lines))

    def _outcome(self) -> OrderOutcome:
        intent = self._intent
        return OrderOutcome(
            order_key=intent.order_key,
            symbol=intent.symbol,
            side=intent.side,
            role=intent.role,
            state=self._state,
            gate=self._admission.gate if self._admission else None,
            sentence=self._sentence,
            filled_size=self._filled.size,
            filled_value=self._filled.value,
            fees=self._filled.quote_fees,
            average_price=self._average,
            attempts=self._number,
            refusal=self._refusal,
            exit_reason=intent.exit_reason,
            trade_remaining=self._trade_remaining,
            entry_final=self._entry_final,
            trade=self._trade,
        )


def intent_sold_by_hand(intent: OrderIntent) -> bool:
    """Whether it sells from a trade without being one of its monitor's exits."""
    return intent.role is OrderRole.EXIT and intent.entry_key is not None and intent.entry_point != "exit"


def _report_of(update: OrderUpdate) -> Report:
    return Report(update.status, Totals(update.filled_size, update.filled_value, update.quote_fees, update.base_fees))


def _asked(verb: str, request: CloseRequest | None) -> str:
    by = f" by {request.by}" if request and request.by else ""
    note = f": {request.note}" if request and request.note else ""
    return f"{verb}{by}{note}"
