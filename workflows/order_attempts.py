"""An order's attempts: sent one after the other; the next step is decided when one ends.

One attempt at a time: the next is prepared only when the last has its final size, or certainly is not at the exchange.
An outcome that is unknown is looked up before anything else is sent. The exchange's answers are given to
`order_reports`, and the next step waits until the ledger has them.

Long on purpose: it is one order's attempts, of which sending, resolving and replacing share what is known of the last.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import CancelAttempt, EndOrder, LookUp, NextAttempt, OrderActivities, PlaceAttempt
    from domain.funds import LACK_OF_FUNDS
    from domain.intents import must_leave
    from domain.messages import Admission, AttemptPlan, PlaceAnswer, PlaceVerdict, ResolveVerdict
    from domain.orders import TAKES_NO_MARKET, AttemptStatus, OrderState, OrderType, end_state
    from domain.wording import money
    from workflows.changes import CodeChange, changed
    from workflows.durable import HEARTBEAT, ask_until, transact, wait_until
    from workflows.order_progress import OrderProgress
    from workflows.order_reports import OrderReports

__all__ = ["OrderAttempts", "pause_between_cancels", "pause_when_busy"]

_PLACE_TIMEOUT = timedelta(seconds=15)
_FILL_PATIENCE = timedelta(seconds=5)
_NOT_ACCEPTED_TRIES = 6
_LONGEST_WISH = 30.0
_LONGEST_WISH_EXIT = 2.0
"""Maximum wall seconds for a pause that the venue requests (EXIT-10); after that it is tried again."""
_LONGEST_CANCEL_PAUSE = 30.0
_LONGEST_CANCEL_PAUSE_URGENT = 4.0
"""Wall seconds between two cancels: a due exit may be waiting for a resting order of its trade."""
_WOULD_CROSS = frozenset({"INVALID_LIMIT_PRICE_POST_ONLY", "POST_ONLY_REJ", "POST_ONLY"})


class OrderAttempts:
    """The attempts of one order."""

    def __init__(self, progress: OrderProgress, reports: OrderReports) -> None:
        self._progress = progress
        self._reports = reports
        self._intent = progress.intent
        self._stopped = False
        """A gate has ended a post-only entry between two attempts."""
        self._limit_only = False
        """The exchange has refused a MARKET attempt as one that the product doesn't take."""
        self._wanted_until: datetime | None = None
        self._time_is_up = False
        """An attempt was cancelled because the order had expired, even if a clock later differs."""
        self._asked: set[int] = set()
        """Attempts for which we have requested a cancel."""

    async def run(self, admission: Admission) -> None:
        """Send attempts until the order has ended, then make sure that the ledger has its end."""
        progress = self._progress
        state = await self._run_attempts(admission)
        await workflow.wait_condition(lambda: not self._reports.behind)
        if not progress.sentence and progress.cancel_wish is None:
            progress.sentence = self._reports.reason(progress.number)
        if not progress.finished:
            result = await transact(
                OrderActivities.end_order,
                EndOrder(
                    order_key=self._intent.order_key,
                    symbol=self._intent.symbol,
                    state=state.value,
                    refusal=progress.refusal,
                    sentence=progress.sentence,
                    wish=progress.wish if progress.withdrawn else None,
                    verb=progress.wish_verb,
                ),
                f"the order ends: {state}",
            )
            self._reports.note(result)
        progress.tell(f"ended {progress.state}: filled {money(progress.filled.size)} at {money(progress.average)}")

    async def resume_finished(self, admission: Admission) -> None:
        """The order had ended before this run began: nothing is sent, attempts that appeared late are cancelled."""
        self._progress.resume_finished(admission)
        self._reports.recall(admission.attempts)
        for item in admission.attempts:
            if not item.status.final:
                self._progress.tell(
                    f"attempt {item.number} appeared late: it is cancelled, and its fills are protected"
                )
                await self.cancel_attempt(item.number)

    async def _run_attempts(self, admission: Admission) -> OrderState:
        """Send attempts one after the other; returns the order's final state."""
        plan, deadline = admission.plan, self._deadline()
        self._wanted_until = deadline
        if plan is None and not await self._resume_attempts(admission):
            return OrderState.FAILED
        reprices = 0
        while True:
            if plan is not None:
                self._progress.number = plan.number
                early = self._too_late()
                if early is not None:
                    return early
                if not await self._send(plan):
                    plan = await self._after_refusal(plan)
                    if plan is None:
                        return OrderState.CANCELLED if self._stopped else OrderState.FAILED
                    continue
            repricing = await self._await_attempt(self._progress.number, deadline)
            reprices += int(repricing)
            if not repricing and await self._cancelled_elsewhere():
                return OrderState.CANCELLED
            end = self._end_after_attempt(deadline, reprices, repricing=repricing)
            if end is not None:
                return end
            if not repricing and changed(CodeChange.BACKOFF_AFTER_ENDED_POST_ONLY):
                await self._back_off()
            self._progress.at_market = reprices > self._intent.rules.max_reprices
            plan = await self._next(market=self._progress.at_market)
            if plan is None:
                return OrderState.CANCELLED

    async def _resume_attempts(self, admission: Admission) -> bool:
        """After a restart: sent attempts are in the journal, and an open one is looked up first."""
        if not admission.attempts:
            return False
        last = admission.attempts[-1]
        self._progress.number = last.number
        self._reports.recall(admission.attempts)
        self._asked.update(item.number for item in admission.attempts if item.cancel_asked)
        if not last.status.final:
            await self._resolve(last.number)
        return True

    def _end_after_attempt(self, deadline: datetime | None, reprices: int, *, repricing: bool) -> OrderState | None:
        """The order's end after an attempt's end; None if another attempt follows."""
        status = self._reports.status(self._progress.number)
        if status is AttemptStatus.FILLED:
            return OrderState.FILLED
        if self._progress.cancel_wish is not None:
            return OrderState.CANCELLED
        if self._time_is_up or (deadline is not None and workflow.now() >= deadline):
            return OrderState.EXPIRED
        if not repricing:
            return None if self._may_replace(status) else end_state(status)
        if reprices > self._intent.rules.max_reprices and not self._progress.stays_due:
            self._progress.sentence = f"not filled after {self._intent.rules.max_reprices} re-pricings"
            return OrderState.CANCELLED
        return None

    async def _cancelled_elsewhere(self) -> bool:
        """Whether the attempt was cancelled at the exchange by someone else: such an order stays cancelled."""
        progress, number = self._progress, self._progress.number
        if self._reports.status(number) is not AttemptStatus.CANCELLED or number in self._asked:
            return False
        silent = not self._reports.reason(number)
        if not (silent and self._may_replace(AttemptStatus.CANCELLED)) and not self._reports.cancelled_on_request(
            number
        ):
            return False
        if not changed(CodeChange.CANCELLED_STAYS_CANCELLED):
            return False
        if silent:
            # A message may leave out why; the order itself may say.
            await self._look(number)
        if not self._reports.cancelled_on_request(number) or progress.cancel_wish is not None:
            return False
        progress.sentence = f"cancelled at the exchange by someone else ({self._reports.reason(number)})"
        progress.tell(progress.sentence)
        return True

    def _may_replace(self, status: AttemptStatus) -> bool:
        """A post-only entry that the exchange itself ended is retried with a fresh book."""
        attempts = self._progress.admission.max_post_only_attempts if self._progress.admission else 1
        ended = status in (AttemptStatus.CANCELLED, AttemptStatus.FAILED)
        return self._intent.post_only and ended and self._progress.number < attempts

    def _too_late(self) -> OrderState | None:
        if self._progress.cancel_wish is not None:
            self._progress.sentence = f"{self._progress.cancel_wish} before it was sent"
            self._progress.withdrawn = True
            return OrderState.CANCELLED
        until = self._intent.valid_until
        if until is not None and workflow.now() > until:
            self._progress.sentence = f"the decision was valid until {until.isoformat()} and is no longer sent"
            return OrderState.EXPIRED
        return None

    async def _send(self, plan: AttemptPlan) -> bool:
        """Send an attempt; True if it is (or may be) at the exchange, False if it certainly is not."""
        for attempt in range(1, _NOT_ACCEPTED_TRIES + 1):
            self._progress.move(OrderState.SUBMITTING)
            answer = await self._place(plan)
            if answer.verdict is PlaceVerdict.ACCEPTED:
                if self._reports.status(plan.number) in (AttemptStatus.SUBMITTING, AttemptStatus.UNKNOWN):
                    self._reports.know(plan.number, AttemptStatus.OPEN)
                self._progress.move(OrderState.OPEN)
                self._progress.tell(f"attempt {plan.number} is at the exchange as {answer.exchange_order_id}")
                return True
            if answer.verdict is PlaceVerdict.UNKNOWN:
                self._progress.tell(
                    f"attempt {plan.number}: outcome unknown ({answer.message or answer.code}); looking it up"
                )
                self._progress.move(OrderState.UNKNOWN)
                await self._resolve(plan.number)
                return True
            self._progress.refusal, self._progress.sentence = answer.code, answer.message
            self._progress.tell(f"attempt {plan.number} not accepted: {answer.code} {answer.message}")
            if answer.verdict is PlaceVerdict.REFUSED or answer.code == "AUTH_FAILURE":
                self._reports.know(plan.number, AttemptStatus.FAILED)
                return False
            pause = pause_when_busy(answer.retry_after, attempt, leaves=not self._progress.is_entry)
            await self._pause(pause, f"the exchange was busy or unreachable: {answer.code}")
            if self._too_late() is not None:
                return False
        return False

    async def _place(self, plan: AttemptPlan) -> PlaceAnswer:
        """One submit. If the worker dies during it, the outcome is unknown, which is also a result."""
        try:
            return await workflow.execute_activity_method(
                OrderActivities.place,
                PlaceAttempt(
                    order_key=self._intent.order_key,
                    symbol=self._intent.symbol,
                    plan=plan,
                    urgent=not self._progress.is_entry,
                ),
                start_to_close_timeout=_PLACE_TIMEOUT,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=RetryPolicy(maximum_attempts=1),
                summary=f"{self._intent.side} {plan.size or ''} {self._intent.symbol} attempt {plan.number}",
            )
        except ActivityError as error:
            return PlaceAnswer(verdict=PlaceVerdict.UNKNOWN, code="NO_ANSWER", message=str(error.cause or error))

    async def _after_refusal(self, plan: AttemptPlan) -> AttemptPlan | None:
        """A post-only order that would have crossed is moved off the touch and tried again; an exit that is refused for
        lack of funds asks for less.

        A due exit whose MARKET order the product doesn't take is sent as a limit that trades at once: the refusal says
        so before any read does.
        """
        if self._lacks_funds():
            return await self._next_smaller(plan)
        if self._is_refused_market(plan):
            return await self._next_at_limit()
        attempts = self._progress.admission.max_post_only_attempts if self._progress.admission else 1
        if self._progress.refusal not in _WOULD_CROSS or plan.number >= attempts or self._too_late() is not None:
            return None
        await self._back_off()
        return await self._next(market=False)

    def _lacks_funds(self) -> bool:
        """Whether it is an exit of whatever its trade has left, of which the exchange has not so much available."""
        progress, intent = self._progress, self._intent
        takes_less = not progress.is_entry and intent.entry_key is not None and intent.base_size is None
        short = takes_less and progress.refusal in LACK_OF_FUNDS
        return short and progress.cancel_wish is None and changed(CodeChange.LESS_AFTER_LACK_OF_FUNDS)

    async def _next_smaller(self, refused: AttemptPlan) -> AttemptPlan | None:
        # Where the product takes no market orders, the limit that stands in for one is followed by one.
        market = refused.limit_price is None or self._intent.order_type is OrderType.MARKET
        plan = await self._next(market=market, smaller=True)
        if plan is not None:
            self._progress.tell(f"{money(refused.size)} are not available: it asks for {money(plan.size)}")
            self._progress.refusal, self._progress.sentence = None, ""
        return plan

    def _is_refused_market(self, plan: AttemptPlan) -> bool:
        """Whether it is a due exit's first MARKET attempt that is refused as one."""
        return (
            plan.limit_price is None
            and self._progress.refusal in TAKES_NO_MARKET
            and not self._limit_only
            and must_leave(self._intent)
            and self._too_late() is None
            and changed(CodeChange.LIMIT_AFTER_REFUSED_MARKET)
        )

    async def _next_at_limit(self) -> AttemptPlan | None:
        self._limit_only = True
        plan = await self._next(market=True)
        if plan is not None:
            self._progress.refusal, self._progress.sentence = None, ""
        return plan

    async def _back_off(self) -> None:
        """Exponential backoff with jitter, so that many orders don't retry together."""
        first = float(self._progress.admission.post_only_backoff_seconds) if self._progress.admission else 0.2
        jitter = 0.5 + workflow.random().random()
        await self._pause(first * 2 ** (self._progress.number - 1) * jitter, "back off before a fresh book")

    async def _next(self, *, market: bool, smaller: bool = False) -> AttemptPlan | None:
        number = self._progress.number + 1
        request = NextAttempt(
            order_key=self._intent.order_key,
            number=number,
            market=market,
            smaller=smaller,
            limit_only=self._limit_only,
            recheck=not self._progress.is_entry and not self._progress.stays_due,
        )
        try:
            return await transact(OrderActivities.next_attempt, request, f"prepare attempt {number}")
        except ApplicationError as error:
            if error.type != "ENTRY_STOPPED":
                raise
            self._stopped = True
            self._progress.refusal, self._progress.sentence = str(error.details[0]), error.message
            self._progress.tell(f"no further attempt, {self._progress.refusal}: {self._progress.sentence}")
            return None

    async def _resolve(self, number: int) -> None:
        """Look up an attempt's outcome in the exchange's own records, before anything else is sent."""
        pause = 1.0
        while True:
            if self._reports.resolved(number):
                return
            resend = not self._progress.is_entry or (self._too_late() is None and not self._expired)
            answer = await ask_until(
                lambda: self._reports.resolved(number),
                OrderActivities.look_up,
                LookUp(
                    order_key=self._intent.order_key,
                    number=number,
                    resend=resend,
                    resend_first=resend and not self._progress.is_entry,
                ),
                f"look up the outcome of attempt {number}",
            )
            if answer is None:
                return
            if answer.update is not None:
                self._reports.take(answer.update)
                await workflow.wait_condition(lambda: self._reports.resolved(number))
                self._progress.tell(f"attempt {number}: {answer.sentence}")
                return
            if answer.verdict is ResolveVerdict.ABSENT:
                self._reports.know(number, AttemptStatus.ABSENT)
                self._progress.refusal, self._progress.sentence = "ABSENT", answer.sentence
                self._progress.tell(f"attempt {number} never reached the exchange: {answer.sentence}")
                return
            await wait_until(lambda: self._reports.resolved(number), pause, f"attempt {number}: {answer.sentence}")
            # An exit is sent again soon: its position is in danger meanwhile.
            pause = min(pause * 2, 10.0 if self._progress.is_entry else 2.0)

    async def _await_attempt(self, number: int, deadline: datetime | None) -> bool:
        """Wait until the attempt has ended; True if it was cancelled to be re-priced."""
        reprice_at = self._reprice_at()
        patience = _FILL_PATIENCE.total_seconds()
        at_once = self._intent.order_type is OrderType.MARKET or self._intent.time_in_force in ("IOC", "FOK")
        while not self._reports.ended(number):
            due = [moment for moment in (deadline, reprice_at) if moment is not None]
            left = (min(due) - workflow.now()).total_seconds() if due else None
            wait = min(left, patience) if left is not None and at_once else patience if at_once else left
            await wait_until(
                lambda: self._reports.ended(number) or self._progress.cancel_wish is not None,
                None if wait is None else max(wait, 0.0),
                "waiting for fills",
            )
            if self._reports.ended(number):
                return False
            now = workflow.now()
            repricing = reprice_at is not None and now >= reprice_at
            self._time_is_up = deadline is not None and now >= deadline
            if self._progress.cancel_wish is not None or repricing or self._time_is_up:
                await self.cancel_attempt(number)
                return repricing and self._progress.cancel_wish is None
            if at_once:
                await self._look(number)
                patience = min(patience * 2, 30.0)
        return False

    def _reprice_at(self) -> datetime | None:
        """When to re-price: exit limits after a while; MARKET exits, entries and prices given by a person never."""
        intent = self._intent
        if self._progress.is_entry or intent.exit_reason is None or intent.order_type is not OrderType.LIMIT:
            return None
        if intent.limit_price is not None:
            return None
        return workflow.now() + timedelta(seconds=float(self._intent.rules.reprice_seconds / self._progress.speed))

    async def cancel_attempt(self, number: int) -> None:
        """Cancel at the exchange and wait for the attempt's final size."""
        self._progress.move(OrderState.CANCELLING)
        self._asked.add(number)
        tries = 0
        while not self._reports.ended(number):
            tries += 1
            urgent = not self._progress.is_entry or self._progress.filled.size > 0
            request = CancelAttempt(order_key=self._intent.order_key, number=number, urgent=urgent)
            try:
                answer = await ask_until(
                    lambda: self._reports.ended(number),
                    OrderActivities.cancel,
                    request,
                    f"cancel attempt {number}",
                    tries=3,
                )
            except ActivityError as error:
                self._progress.tell(f"cancel of attempt {number} not confirmed: {error.cause or error}")
            else:
                if answer is not None and answer.update is not None:
                    self._reports.take(answer.update)
            pause = pause_between_cancels(tries, urgent=urgent)
            await wait_until(lambda: self._reports.ended(number), pause, "waiting until the cancel is final")
            if not self._reports.ended(number):
                await self._look(number)
                await wait_until(lambda: self._reports.ended(number), 0.05, "waiting until it is recorded")

    async def _look(self, number: int) -> None:
        try:
            answer = await ask_until(
                lambda: self._reports.ended(number),
                OrderActivities.look_up,
                LookUp(order_key=self._intent.order_key, number=number),
                f"look up attempt {number}",
                tries=3,
            )
        except ActivityError:
            return
        if answer is not None and answer.update is not None:
            self._reports.take(answer.update)
            await workflow.wait_condition(lambda: not self._reports.waiting(number))

    def _deadline(self) -> datetime | None:
        if self._intent.expires_after is None:
            return None
        return workflow.now() + timedelta(seconds=float(self._intent.expires_after / self._progress.speed))

    @property
    def _expired(self) -> bool:
        return self._wanted_until is not None and workflow.now() >= self._wanted_until

    async def _pause(self, seconds: float, summary: str) -> None:
        await wait_until(lambda: self._progress.cancel_wish is not None, seconds, summary)


def pause_when_busy(wish: float | None, tries: int, *, leaves: bool) -> float:
    """Wall seconds before a submit that the exchange certainly didn't accept is repeated; `wish` is the pause the venue
    requests.

    A requested pause is limited, so that it can't delay a stop (`leaves`) for long.
    """
    longest = _LONGEST_WISH_EXIT if leaves else _LONGEST_WISH
    return min(wish or min(0.25 * 2**tries, 5.0), longest)


def pause_between_cancels(tries: int, *, urgent: bool) -> float:
    """Wall seconds after the `tries`th cancel of an attempt that has not ended: 2, 4, 8, … within bounds.

    `urgent`: a resting order of a position, because an exit may be waiting for its end; other cancels are not urgent.
    """
    longest = _LONGEST_CANCEL_PAUSE_URGENT if urgent else _LONGEST_CANCEL_PAUSE
    return min(2.0 ** min(tries, 10), longest)
