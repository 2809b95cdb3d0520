"""One trade's guard: sells when an exit is due, and ends only when its entry has ended and its position is zero.

Prices never come in here: the price watcher signals `exit_due` once, and the database's plan row says what is being
done about it. A price stop, once due, stays due until the position is sold; a profit exit that doesn't hold any more
or doesn't fill goes back to monitoring. Cancelling this workflow neither disarms it nor sells: `close` sells.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from decimal import Decimal

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, TerminatedError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities, RearmTrade, TradeKey
    from activities.interfaces.search_attributes import EXIT_REASON, STATUS
    from domain.commands import CommandKind, TimelineEntry, Wish
    from domain.exits import ExitReason, outranks, price_stop, replaces
    from domain.gate_names import GateName
    from domain.ids import order_workflow_id
    from domain.intents import monitor_exit
    from domain.messages import (
        CloseAnswer,
        CloseRequest,
        EntryNews,
        ExitDue,
        MonitorStart,
        OrderIntent,
        OrderOutcome,
        PositionView,
        StopsAnswer,
        StopsRequest,
        TradeOutcome,
    )
    from domain.orders import OrderState
    from domain.wording import money, outcome_sentence, rules_sentence
    from workflows.durable import OrderChild, start_order_child, transact, wait_until
    from workflows.exit_order import sells_beside
    from workflows.promise import Promise, refuse_unknown
    from workflows.protection import ExchangeProtection
    from workflows.stops import move_stops
    from workflows.timeline import Timeline

__all__ = ["ExitMonitorWorkflow", "MonitorViewState"]

_PATIENCE = 0.5
"""Wall seconds that an exit waits for the end of each thing that rests of its trade (EXIT-10)."""
_ENTRY_LOOK = 10.0
_EARLIER_LOOK = 0.1
"""Seconds between two looks at what an earlier monitor's exit has become."""
_CLAIMS_LOOK = 5.0
_ENDS_SECONDS = 15.0
"""So long a trade of which nothing is left waits for the ends of its exits, whose sending may not be answered yet."""
_HODL_PAUSE = 3600.0
_TELL_AT = 3
"""So many exits in a row that sold nothing are told to people, however they ended."""
_FIRST_PAUSE = 1.0
"""Wall seconds after the first exit in a row that sold nothing; twice as long after each further one."""
_LITTLE = Decimal("0.05")
"""An exit that sells less than this share of its trade has sold next to nothing."""
_PAUSE_AFTER_LITTLE = "a pause after an exit sold next to nothing"
_GOES_ON = "an exit order whose workflow was terminated goes on in another"
_ASKED_AGAIN = "an exit whose workflow was gone is asked again to stand down"
_STILL_WORKS = "an earlier monitor's exit that was waited for stands down for what became due meanwhile"
_CLAIMS_FIRST = "an exit that has no claim in the ledger yet is not left behind"
_HIGHER_FIRST = "no exit is begun for a reason that a higher one goes before"
_ENDS_FIRST = "exits that were left behind end before their trade is closed"
_KNOWN = "a pause ends when what its exit could not know is known"
_SIZE_IS_ENOUGH = "an exit whose size is told is waited for no longer"
_LONG_HISTORY = 2000
"""Events, after which the history starts anew whether the server suggests it or not. A try of an exit that is refused
is about 17, so this is far below the 51,200 at which a server with its own limits ends the workflow."""


class MonitorViewState(BaseModel):
    """What the `state` query answers."""

    entry_key: str
    symbol: str
    state: str
    size: Decimal
    entry_price: Decimal | None
    entry_final: bool
    due: str | None
    exit_orders: int
    sentence: str


@workflow.defn(name="ExitMonitorWorkflow")
class ExitMonitorWorkflow:
    """Guards one trade until it is flat."""

    @workflow.init
    def __init__(self, start: MonitorStart) -> None:
        self._start = start
        self._size = start.size
        self._entry_price = start.entry_price
        self._entry_final = start.entry_final
        self._legs = start.exit_legs
        self._due: ExitDue | None = start.due
        self._close: CloseRequest | None = start.close
        self._look = start.size == 0 or start.resumed or start.short
        self._take_over = start.resumed
        self._claims = Decimal(0)
        self._selling: ExitReason | None = None
        self._on_hodl = False
        self._hodl_changed = False
        self._failures = start.failures
        self._failed_at: datetime | None = None
        self._may_start_anew = True
        self._flat = False
        self._touched = False
        self._changed = False
        """The position, or what claims it, has changed since the exit at work was sent."""
        self._tell_when_closed = start.tell_when_closed
        self._closed: TradeOutcome | None = None
        self._sentence = ""
        self._timeline = Timeline()
        self._promise = Promise()
        self._behind: list[asyncio.Task[None]] = []
        self._freed = False
        self._protection: ExchangeProtection | None = None
        if start.protection is not None:
            self._protection = ExchangeProtection(
                start,
                start.protection,
                tell=self._tell,
                due=lambda: self._reason is not None,
                entry_final=lambda: self._entry_final,
                beyond=self._stop_is_due,
            )

    @workflow.run
    async def run(self, start: MonitorStart) -> TradeOutcome:
        """Wait, sell, close. Returns the trade's outcome."""
        life = asyncio.create_task(self._live())
        while True:
            try:
                outcome = await asyncio.shield(life)
            except asyncio.CancelledError:
                if life.cancelled():  # not a person's cancel: the worker puts the workflow out of its memory
                    raise
                self._tell("a cancel was asked for and refused: the trade stays protected; `close` sells it")
                continue
            if outcome is None:
                workflow.continue_as_new(
                    self._start.model_copy(
                        update={
                            "size": self._size,
                            "entry_price": self._entry_price,
                            "entry_final": self._entry_final,
                            "exit_legs": self._legs,
                            "resumed": True,
                            "tell_when_closed": self._tell_when_closed,
                            "due": self._due,
                            "close": self._close,
                            "failures": self._failures,
                        }
                    )
                )
            return outcome

    async def _live(self) -> TradeOutcome | None:
        self._tell(f"guards {money(self._size)} {self._start.symbol} bought at {money(self._entry_price)}")
        while True:
            await workflow.wait_condition(
                lambda: (
                    self._reason is not None
                    or self._look
                    or self._protection_wanted
                    or workflow.info().is_continue_as_new_suggested()
                    or self._history_is_long
                ),
                timeout_summary="until an exit is due",
            )
            if self._history_is_long and self._starts_anew():
                await workflow.wait_condition(lambda: workflow.all_handlers_finished() and self._promise.kept)
                return None
            if self._reason is not None:
                await self._leave(self._reason)
            elif self._protection is not None and (self._look or self._protection_wanted):
                self._look = False
                await self._tend(self._protection)
            elif self._look:
                self._look, before = False, self._size
                await self._close_if_flat(None)
                if self._closed is None and self._size < before:
                    self._tell(
                        f"{money(before - self._size)} left without an exit of ours, {money(self._size)} guarded"
                    )
                if self._take_over and self._closed is None:
                    await self._take_plan_over()
            elif workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(lambda: workflow.all_handlers_finished() and self._promise.kept)
                return None
            if self._closed is not None:
                await workflow.wait_condition(workflow.all_handlers_finished)
                return self._closed

    @property
    def _history_is_long(self) -> bool:
        """Whether it is time for a new history, whatever else there is to do: a stop that stays refused tries for
        days, and a server ends a workflow whose history grows too long.
        """
        info = workflow.info()
        long = info.is_continue_as_new_suggested() or info.get_current_history_length() >= _LONG_HISTORY
        return self._may_start_anew and long

    def _starts_anew(self) -> bool:
        # A run that passed this point before there was such a point goes on as it did.
        self._may_start_anew = workflow.patched("a history starts anew also while an exit is due")
        return self._may_start_anew

    async def _take_plan_over(self) -> None:
        """An earlier monitor may have left its plan in the middle of an exit: let that end, then arm it again.

        Otherwise the watcher would take the exit for acknowledged and say nothing more.
        """
        self._take_over = False
        while self._reason is None and self._claims > 0:
            self._tell("an exit of an earlier monitor is still working; waiting for it")
            await self._wait_for_any(5)
            await self._close_if_flat(None)
            if self._closed is not None:
                return
        if self._reason is None:
            await self._rearm("looked at the position book and goes on guarding")
        elif self._claims > 0:
            self._take_over = workflow.patched(_STILL_WORKS)

    async def _end_earlier_exits(self, reason: ExitReason) -> None:
        """Something is due at once: what an earlier monitor has left working stands down for it, briefly waited for.

        What it may still sell is claimed in the ledger, so the two never sell the same thing.
        """
        self._take_over = False
        until = workflow.now() + timedelta(seconds=_PATIENCE)
        told = False
        while True:
            view = await self._position(reason)
            self._entry_final, self._claims = view.entry_final, view.pending_claims
            if not view.working or workflow.now() >= until:
                return
            if not told:
                self._tell(f"{reason} goes before an exit of an earlier monitor, which stands down")
            for key in view.working if not told else ():
                try:
                    handle = workflow.get_external_workflow_handle(order_workflow_id(key))
                    await handle.signal("cancel", CloseRequest(by="a higher exit", own=True))
                except ApplicationError:
                    # Its workflow is gone, and the sweep starts it again: then it is asked once more.
                    self._take_over = workflow.patched(_ASKED_AGAIN)
            told = True
            await workflow.sleep(_EARLIER_LOOK, summary="until the earlier exit has ended")

    async def _wait_for_any(self, seconds: float) -> None:
        await wait_until(lambda: self._reason is not None, seconds, "until the earlier exit has ended")

    # --- protection at the exchange --------------------------------------------------------------------------------

    @property
    def _protection_wanted(self) -> bool:
        return self._protection is not None and self._protection.wanted

    async def _tend(self, protection: ExchangeProtection) -> None:
        if self._take_over:
            await self._take_plan_over()
            if self._closed is not None:
                return
        view = await protection.tend()
        self._size = view.remaining
        if view.sellable <= 0 and self._reason is None:
            if view.live is not None:
                await protection.lower(view.sentence or "the trade has nothing left for it to sell", unless_due=True)
            await self._close_if_flat(None)

    def _stop_is_due(self, price: Decimal) -> None:
        """The exchange would have sold at `price` by now."""
        self.exit_due(ExitDue(reason=ExitReason.HARD_STOP, price=price, at=workflow.now()))

    async def _lower_protection(self, reason: ExitReason) -> bool:
        """Nothing may rest at the exchange while the monitor sells; whether what it sold has closed the trade.

        What doesn't leave in time keeps what it claims, and the rest is sold; if that is all, it is waited for.
        """
        if self._protection is None:
            return False
        view = await self._protection.lower(f"{reason} is due", within=_PATIENCE)
        if view.live is not None and sells_beside(view.remaining, view.live_size, view.free):
            self._tell("the end of its protection is not known yet: what that may still sell is left out")
        elif view.live is not None:
            await self._tell_unsold(f"{reason} waits for the end of its protection, which may still sell all of it")
            # The exchange may have told its size, if not what it came to.
            view = await self._protection.lower(
                f"{reason} is due", enough=lambda view: sells_beside(view.remaining, view.live_size, view.free)
            )
        self._size = view.remaining
        if view.remaining <= 0:
            await self._close_if_flat(None)
        return self._closed is not None

    # --- selling ---------------------------------------------------------------------------------------------------

    @property
    def _reason(self) -> ExitReason | None:
        """The highest reason that is due."""
        reasons = [self._due.reason] if self._due else []
        if self._close is not None:
            reasons.append(ExitReason.MANUAL)
        best: ExitReason | None = None
        for reason in reasons:
            if outranks(reason, best):
                best = reason
        return best

    async def _leave(self, reason: ExitReason) -> None:
        """One try at selling everything for a reason."""
        self._freed = False
        if self._take_over and workflow.patched("exits of an earlier monitor end before another is sent"):
            await self._end_earlier_exits(reason)
        if not self._entry_final:
            await self._stop_entry()
        if self._flat:
            await self._close_if_flat(reason)
            if self._closed is not None:
                return
            if self._all_sold and workflow.patched("what an entry may still fill is waited for"):
                await self._await_entry(reason)
                return
        if await self._lower_protection(reason) or self._gives_way(reason):
            return
        self._selling, tried = reason, self._size
        outcome = await self._sell(reason)
        self._selling = None
        if outcome is not None and outcome.filled_size > 0:
            tried = Decimal(0)
            if not self._sold_little(reason, outcome):
                self._failures = 0
            self._tell(
                f"{reason}: sold {money(outcome.filled_size)} at {money(outcome.average_price)}, "
                f"{money(outcome.trade_remaining)} left"
            )
        left = outcome.trade_remaining if outcome is not None else None
        self._flat = left is not None and left <= 0
        self._entry_final = self._entry_final or bool(outcome and outcome.entry_final)
        if left is not None:
            self._size = left
        await self._close_if_flat(reason, checked=self._flat)
        if self._closed is not None:
            return
        if self._reason is not None and self._reason is not reason:
            return
        await self._after_unfinished_exit(reason, outcome, tried)

    async def _after_unfinished_exit(self, reason: ExitReason, outcome: OrderOutcome | None, tried: Decimal) -> None:
        """Something is left: a stop tries again with back-off, a profit exit goes back to monitoring.

        `tried` is what one that sold nothing was for (base).
        """
        refused = outcome is None or outcome.state in (OrderState.REJECTED, OrderState.FAILED)
        why = "it failed" if outcome is None else outcome.sentence or outcome.refusal or outcome.state.value
        dropped = outcome is not None and outcome.gate == GateName.NO_LONGER_DUE
        if refused and not dropped:
            self._failures += 1
            workflow.upsert_search_attributes([STATUS.value_set("CLOSING"), EXIT_REASON.value_set(reason.value)])
            self._tell(f"{reason} was refused ({why}); {money(self._size)} stay protected")
            pause = self._pause_after(self._failures)
            if self._claims > 0:
                # Something else may still sell it: how that ends may be known at any time.
                pause = min(pause, _CLAIMS_LOOK)
            if outcome is not None and outcome.gate == GateName.HODL:
                # A list that a person wrote doesn't change by asking again; a person's close is heard at any time.
                # The watcher tells when the list has changed.
                pause, self._on_hodl, self._hodl_changed = _HODL_PAUSE, True, False
            await self._tell_unsold(why)
            await self._wait_for_better(reason, pause, tried)
            self._on_hodl = False
        elif outcome is None or outcome.filled_size == 0:
            if workflow.patched("a pause after an exit sold nothing"):
                await self._after_nothing_sold(reason, why, tried, dropped=dropped)
        elif self._sold_little(reason, outcome):
            await self._after_nothing_sold(reason, why, tried, sold="next to nothing")
        if not price_stop(reason):
            if self._due is not None and self._due.reason is reason:
                self._due = None
            await self._rearm(f"{reason} did not fill: back to monitoring" if not dropped else why)

    @staticmethod
    def _sold_little(reason: ExitReason, outcome: OrderOutcome) -> bool:
        """Whether a stop's exit has left nearly all of its trade: a thin book takes a crumb each time it is asked."""
        left = outcome.trade_remaining or Decimal(0)
        little = 0 < outcome.filled_size < _LITTLE * (outcome.filled_size + left)
        return little and price_stop(reason) and workflow.patched(_PAUSE_AFTER_LITTLE)

    async def _after_nothing_sold(
        self, reason: ExitReason, why: str, tried: Decimal, *, dropped: bool = False, sold: str = "nothing"
    ) -> None:
        """An exit that was taken and sold nothing (no liquidity, cancelled, expired), or that did not hold any more.

        A stop pauses as after a refusal. A profit exit goes back to monitoring at once, but not again and again.
        """
        stop, now = price_stop(reason), workflow.now()
        if not stop and self._failed_at is not None and (now - self._failed_at).total_seconds() > 2 * self._longest:
            self._failures = 0
        self._failures += 1
        self._failed_at = now
        pause = self._pause_after(self._failures if stop else self._failures - 1)
        if not dropped:
            self._tell(f"{reason} sold {sold} ({why}), {self._failures} in a row; {money(self._size)} stay protected")
            if self._failures >= _TELL_AT:
                await self._tell_unsold(f"it sold {sold} ({why}), {self._failures} times in a row")
        if pause > 0:
            await self._wait_for_better(reason, pause, tried)

    @property
    def _longest(self) -> float:
        return float(self._start.rules.retry_max_seconds)

    def _pause_after(self, failures: int) -> float:
        """Wall seconds: 1, 2, 4, … up to the rules' longest; none after no failure."""
        return min(_FIRST_PAUSE * 2.0 ** min(failures - 1, 20), self._longest) if failures > 0 else 0.0

    async def _tell_unsold(self, why: str) -> None:
        """People are told, and the plan stays with the monitor, which tries again."""
        await transact(
            OrderActivities.rearm,
            RearmTrade(entry_key=self._start.entry_key, why=why, critical=True, keep_exiting=True),
            "an exit did not go through",
        )

    async def _rearm(self, why: str) -> None:
        self._tell(why)
        workflow.upsert_search_attributes([STATUS.value_set("PROTECTED")])
        view = await transact(
            OrderActivities.rearm, RearmTrade(entry_key=self._start.entry_key, why=why), "armed again"
        )
        self._size = view.remaining
        if self._protection is not None:
            self._protection.look()

    async def _wait_for_better(self, reason: ExitReason, seconds: float, tried: Decimal) -> None:
        """The pause after an exit that sold nothing, which was for `tried` (base).

        It ends at once where the ledger has less than that by now, as a fill that was missing is known, or less that
        is claimed beside: then the next one is another exit. Nothing else that is told ends it, however often.
        """
        looks = workflow.patched(_KNOWN)
        ends = workflow.now() + timedelta(seconds=seconds)
        if looks and 0 < self._size < tried:
            return
        while True:
            if not await wait_until(
                lambda: self._is_better(reason) or (looks and self._changed),
                max((ends - workflow.now()).total_seconds(), 0.0),
                f"before {reason} is tried again",
            ):
                return
            if self._is_better(reason) or await self._is_less_left(reason):
                return

    async def _is_less_left(self, reason: ExitReason) -> bool:
        """Whether the ledger has less of the trade, or less claimed of it, than when it was looked at last."""
        self._changed = False
        before, claimed = self._size, self._claims
        view = await self._position(reason)
        self._entry_final, self._size, self._claims = view.entry_final, view.remaining, view.pending_claims
        if view.remaining <= 0 and view.working:
            return False  # what sold the last of it is about to end, and is heard then: the trade closes with it
        self._flat = view.remaining <= 0
        return self._size < before or self._claims < claimed

    def _is_better(self, reason: ExitReason) -> bool:
        """Whether there is no reason to wait any more before an exit is tried again."""
        higher = self._reason is not None and outranks(self._reason, reason)
        return higher or (self._on_hodl and self._hodl_changed) or self._freed

    async def _stop_entry(self) -> None:
        """Cancel what remains of the own entry and wait for its final size, bounded: a stop doesn't wait for ever."""
        self._tell("cancelling what remains of the entry first")
        request = CloseRequest(by="its exit monitor", own=True)
        handle = workflow.get_external_workflow_handle(order_workflow_id(self._start.entry_key))
        try:
            await handle.signal("cancel", request)
        except ApplicationError:
            # No workflow: the position book says whether the entry had ended.
            view = await self._position()
            self._entry_final = view.entry_final
            return
        if not await wait_until(lambda: self._entry_final, _PATIENCE, "until the entry's size is final"):
            self._tell("the entry's end is not known yet; selling what it has filled so far")

    @property
    def _all_sold(self) -> bool:
        """Whether all that an entry without an end has filled is sold."""
        return self._flat and not self._entry_final

    async def _await_entry(self, reason: ExitReason) -> None:
        """All that the entry has filled is sold, its end isn't known: what it fills still is sold as it comes."""
        await self._tell_unsold("all of it is sold so far, and the end of its entry is not known yet")
        await wait_until(lambda: not self._all_sold, _ENTRY_LOOK, "until the entry's size is final")
        if self._entry_final:
            await self._close_if_flat(reason)

    async def _sell(self, reason: ExitReason) -> OrderOutcome | None:
        """Run one exit order to its end; a higher reason that becomes due makes it stand down."""
        due = self._due if self._due is not None and self._due.reason is reason else None
        while True:
            self._legs += 1
            self._changed = False
            intent = monitor_exit(self._start, reason, self._legs, due=due, close=self._close)
            child = await start_order_child(intent)
            if child is not None:
                break
            # An earlier run of this monitor had begun this leg: the next one gets the next number, and the claims of
            # one that is still working keep the two from selling the same thing.
        why = f"{reason} is due at {money(due.price)}" if due else "a person asked to close"
        self._tell(f"{why}: exit order {intent.order_key}")
        while True:
            if not await self._until_ended(child, reason):
                return await self._sell(reason)
            if not child.done():
                self._tell(f"{self._reason} goes before {reason}: the exit order stands down")
                with contextlib.suppress(ApplicationError):  # it has ended meanwhile
                    await child.signal("cancel", CloseRequest(by="a higher exit", own=True))
                if await self._leaves_behind(child, reason):
                    return None
            try:
                outcome: OrderOutcome = await child
            except ChildWorkflowError as error:
                self._tell(f"the exit order's workflow failed: {error.cause or error}")
                again = await self._goes_on(intent, error)
                if again is not None:
                    child = again
                    continue
                taken = isinstance(error.cause, ApplicationError) and error.cause.type == "INTENT_CONFLICT"
                if taken and workflow.patched("a leg that the ledger has for another exit is passed over"):
                    return await self._next_leg(reason)
                return None
            return await self._next_leg(reason) if outcome.earlier else outcome

    async def _goes_on(self, intent: OrderIntent, error: ChildWorkflowError) -> OrderChild | None:
        """An exit order that a person terminated may rest at the exchange, and claim: it goes on from the ledger.

        Where news of it has started it again already, it is no child, and stands down as an earlier monitor's does.
        """
        if not isinstance(error.cause, TerminatedError) or not workflow.patched(_GOES_ON):
            return None
        child = await start_order_child(intent, again=True)
        self._take_over = self._take_over or child is None
        return child

    async def _until_ended(self, child: OrderChild, reason: ExitReason) -> bool:
        """Until an exit has ended or a higher one is due; False if it was left behind.

        Where the exchange has told the size of its end but not what it came to, it claims no more than that of the
        trade, and a stop or a close sells the rest without waiting for it.
        """
        urgent = price_stop(reason) or reason is ExitReason.MANUAL
        while True:
            await workflow.wait_condition(lambda: child.done() or self._outranked(reason) or self._changed)
            if child.done() or self._outranked(reason):
                return True
            self._changed = False
            if not urgent or not workflow.patched(_SIZE_IS_ENOUGH):
                continue
            view = await self._position(reason)
            if child.done() or view.remaining - view.pending_claims <= _LITTLE * view.remaining:
                continue
            if child.id not in map(order_workflow_id, view.working) and workflow.patched(_CLAIMS_FIRST):
                continue  # it is about to claim, or has just ended: what claims nothing is no end whose size is told
            self._entry_final, self._size, self._claims = view.entry_final, view.remaining, view.pending_claims
            self._tell(f"of {reason} only the size is told: what it has not sold is sold at once")
            self._behind.append(asyncio.create_task(self._hear_behind(child)))
            return False

    async def _leaves_behind(self, child: OrderChild, reason: ExitReason) -> bool:
        """Whether a lower exit that was asked to stand down has not ended in time, and there is more to sell than it
        may still sell itself. If there isn't, people are told that its end is waited for.
        """
        if not workflow.patched("a higher exit waits half a second for a lower one"):
            return False
        await wait_until(child.done, _PATIENCE, f"until {reason} has stood down")
        if child.done():
            return False
        looks = 0
        while True:
            view = await self._position(self._reason)
            self._entry_final, self._size, self._claims = view.entry_final, view.remaining, view.pending_claims
            if child.done():
                return False
            if sells_beside(view.remaining, view.pending_claims, view.free):
                self._tell(f"the end of {reason} is not known yet: what it may still sell is left out")
                self._behind.append(asyncio.create_task(self._hear_behind(child)))
                return True
            if not looks:
                await self._tell_unsold(f"{self._reason} waits for the end of {reason}, which may still sell all of it")
                if not workflow.patched("what a lower exit may still sell is looked at again"):
                    return False
            # The exchange may have told its size, if not what it came to.
            looks += 1
            await wait_until(child.done, self._pause_after(looks) / 2, f"until {reason} has ended, or claims less")

    async def _hear_behind(self, child: OrderChild) -> None:
        """An exit that was left behind has ended: what it had claimed is free."""
        with contextlib.suppress(ChildWorkflowError):
            await child
        self._freed = self._look = True

    async def _hear_ends(self) -> None:
        """What was left behind and sold some of the trade writes that down as it ends, which the trade's outcome is to
        have: waited for, though not for long.
        """
        working = [task for task in self._behind if not task.done()]
        if not working or not workflow.patched(_ENDS_FIRST):
            return
        await wait_until(
            lambda: all(task.done() for task in working),
            _ENDS_SECONDS,
            "until exits that were left behind have ended",
        )

    async def _next_leg(self, reason: ExitReason) -> OrderOutcome | None:
        """The leg was an earlier monitor's: the ledger knows the last of them, and this exit is the one behind it."""
        await self._position(reason)
        return None if self._gives_way(reason) else await self._sell(reason)

    def _gives_way(self, reason: ExitReason) -> bool:
        """Whether a higher reason has become due, so that no exit is begun for this one.

        It would be asked to stand down in the moment in which it begins. An order that ends just then is admitted once
        more, and looks like an earlier monitor's: leg would follow leg without an end, and the stop would never go out.
        """
        return self._outranked(reason) and workflow.patched(_HIGHER_FIRST)

    def _outranked(self, reason: ExitReason) -> bool:
        best = self._reason
        return best is not None and replaces(best, reason)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def _close_if_flat(self, reason: ExitReason | None, *, checked: bool = False) -> None:
        """Close the trade if nothing is left to sell; its entry's workflow is told in the same step."""
        if not checked:
            view = await self._position(reason)
            self._entry_final, self._size, self._claims = view.entry_final, view.remaining, view.pending_claims
            if view.remaining > 0 and not view.dust:
                return
            if not view.entry_final:
                return
        elif not self._entry_final:
            return
        await self._hear_ends()
        # A parent hears of our end by itself; one that continued as new, or a sweep's monitor, needs a signal.
        tell_entry = workflow.info().parent is None or self._tell_when_closed
        request = TradeKey(entry_key=self._start.entry_key, reason=reason, tell_entry=tell_entry)
        self._closed = await transact(OrderActivities.close_trade, request, "linkage completed, plan disarmed, closed")
        if self._closed is None:
            return
        self._size = Decimal(0)
        self._tell(f"closed: {outcome_sentence(self._closed)}")
        if self._protection is not None:
            await self._protection.closed()
        reason = self._closed.exit_reason
        found_by = [EXIT_REASON.value_set(reason.value)] if reason else []
        workflow.upsert_search_attributes([STATUS.value_set("CLOSED"), *found_by])

    async def _position(self, due: ExitReason | None = None) -> PositionView:
        request = TradeKey(entry_key=self._start.entry_key, reason=due)
        view = await transact(OrderActivities.position, request, "what is left?")
        # Temporal forgets workflows, the ledger no order: an exit never gets the number of an earlier one.
        self._legs = max(self._legs, view.legs)
        return view

    # --- signals, updates, queries ---------------------------------------------------------------------------------

    @workflow.signal
    def exit_due(self, due: ExitDue) -> None:
        """The price watcher says that an exit is due; a lower reason than the one at hand changes nothing."""
        if self._closed is None and (self._due is None or outranks(due.reason, self._due.reason)):
            self._due = due

    @workflow.signal
    def entry_news(self, news: EntryNews) -> None:
        """The entry grew or ended."""
        self._tell_when_closed = self._tell_when_closed or news.tell_when_closed
        if not self._flat or news.size > self._size:
            self._size = max(self._size, news.size)
        self._flat = False
        if self._protection is not None:
            self._protection.look(grew=True)
        self._entry_price = news.entry_price or self._entry_price
        if news.entry_final and not self._entry_final:
            self._entry_final = True
            self._tell("the entry has its final size")
        self._look = self._look or (news.entry_final and self._selling is None and self._legs > self._start.exit_legs)
        touched = self._touched or self._start.resumed
        if news.entry_final and touched and not self._look and self._selling is None:
            # What somebody else sold of it (a person, the market maker) may have been all that the entry had left.
            self._look = workflow.patched("look-when-an-entry-ends-after-other-sells")

        if news.entry_final and news.short and not self._look and self._selling is None:
            self._look = workflow.patched("look whether an entry that ended short left dust")

    @workflow.signal
    def position_changed(self) -> None:
        """Something else changed the position: look at it again."""
        self._look = self._touched = self._changed = True
        if self._protection is not None:
            self._protection.look()

    @workflow.signal
    def hodl_changed(self) -> None:
        """The symbol joined or left the HODL list: what that refused may go through, what rests may have to leave."""
        self._hodl_changed = True
        if self._protection is not None:
            self._protection.look()

    @workflow.signal(name="close")
    def close_signal(self, request: CloseRequest | None = None) -> None:
        """Sell the position."""
        self._ask_close(request or CloseRequest())

    @workflow.update(name="close")
    async def close_update(self, request: CloseRequest) -> CloseAnswer:
        """Sell the position; answers at once."""
        self._ask_close(request)
        return CloseAnswer(accepted=True, sentence=f"{money(self._size)} {self._start.symbol} are being sold")

    @close_update.validator
    def _may_close(self, request: CloseRequest) -> None:
        if self._closed is not None:
            raise ApplicationError("the trade is closed", type="TRADE_CLOSED")
        if self._close is not None:
            raise ApplicationError("the trade is being closed already", type="CLOSING")
        refuse_unknown(request)

    @workflow.update(name="stops")
    async def stops_update(self, request: StopsRequest) -> StopsAnswer:
        """Move the trade's stops or its target; answers when the plan has them."""
        answer = await move_stops(self._start.entry_key, request)
        self._start = self._start.model_copy(update={"rules": answer.rules})
        self._tell_wish(Wish.of(CommandKind.STOPS, "stops moved", request, f": {answer.sentence}"))
        if self._protection is not None:
            self._protection.look(grew=True)
        return answer

    @stops_update.validator
    def _may_move_stops(self, request: StopsRequest) -> None:
        if self._closed is not None:
            raise ApplicationError("the trade is closed", type="TRADE_CLOSED")
        refuse_unknown(request)

    def _ask_close(self, request: CloseRequest) -> None:
        if self._close is None and self._closed is None:
            self._close = request
            self._promise.keep(self._start.entry_key, CommandKind.CLOSE, request)
            self._failures = 0
            self._tell_wish(Wish.of(CommandKind.CLOSE, "close asked for", request))

    @workflow.query
    def state(self) -> MonitorViewState:
        """Where the trade stands."""
        phase = "CLOSED" if self._closed else "CLOSING" if self._selling else "PROTECTED"
        return MonitorViewState(
            entry_key=self._start.entry_key,
            symbol=self._start.symbol,
            state=phase,
            size=self._size,
            entry_price=self._entry_price,
            entry_final=self._entry_final,
            due=self._reason.value if self._reason else None,
            exit_orders=self._legs,
            sentence=self._sentence,
        )

    @workflow.query
    def timeline(self) -> list[str]:
        """What happened, in order."""
        return self._timeline.lines

    @workflow.query
    def timeline_entries(self) -> list[TimelineEntry]:
        """The timeline in its parts: whose wish came is for the ledger to say."""
        return self._timeline.entries

    def _tell_wish(self, wish: Wish) -> None:
        self._tell(wish.in_words, wish)

    def _tell(self, sentence: str, wish: Wish | None = None) -> None:
        self._sentence = sentence
        self._timeline.add(workflow.now().strftime("%H:%M:%S.%f")[:-3], sentence, wish)
        start = self._start
        phase = "closed" if self._closed else "selling" if self._selling else "protected"
        workflow.set_current_details(
            "\n".join(
                [
                    f"**Trade `{order_workflow_id(start.entry_key)}` · {start.trigger}**",
                    "",
                    f"{money(self._size)} {start.symbol} bought at {money(self._entry_price)}",
                    "",
                    f"It is **{phase}**: {sentence}",
                    "",
                    f"Exits: {rules_sentence(start.rules, self._entry_price)}",
                    "",
                    *self._timeline.markdown,
                ]
            )
        )
