"""The exit monitor of one trade: sells when an exit is due, and ends only when its entry has ended and its position is
zero.

It receives no prices: the price watcher signals `exit_due` once, and the plan's row in the database shows the state. A
price stop, once due, stays due until the position is sold; a profit exit that no longer applies or doesn't fill goes
back to monitoring. Cancelling this workflow neither disarms it nor sells: `close` sells.

State and display are in `exit_progress`; one exit order to its end in `exit_selling`; the pauses after an incomplete
exit in `exit_pauses`; exits left working by an earlier monitor in `exit_takeover`; the end of entry and trade in
`exit_closing`; orders resting at the exchange in `protection`.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from domain.commands import CommandKind, TimelineEntry, Wish
    from domain.exits import ExitReason, outranks
    from domain.messages import (
        CloseAnswer,
        CloseRequest,
        EntryNews,
        ExitDue,
        MonitorStart,
        ObstacleGone,
        ProtectionView,
        StopsAnswer,
        StopsRequest,
        TradeOutcome,
    )
    from domain.wording import money
    from workflows.changes import CodeChange, begin, changed
    from workflows.exit_closing import await_entry, close_if_flat, stop_entry
    from workflows.exit_pauses import ExitPauses, sold_little
    from workflows.exit_progress import (
        PATIENCE,
        TOLD_LATER_SECONDS,
        ExitProgress,
        MonitorViewState,
    )
    from workflows.exit_selling import ExitSelling, sells_beside
    from workflows.exit_takeover import end_earlier_exits, take_plan_over
    from workflows.promise import Promise, refuse_unknown
    from workflows.protection import ExchangeProtection
    from workflows.stops import move_stops

__all__ = ["ExitMonitorWorkflow", "MonitorViewState"]

_LONG_HISTORY = 2000
"""Number of events after which the workflow continues as new even if the server does not suggest it. A refused try of
an exit takes about 17, so this is far below the 51,200 at which a server ends the workflow."""


@workflow.defn(name="ExitMonitorWorkflow")
class ExitMonitorWorkflow:
    """Monitors one trade until it is flat."""

    @workflow.init
    def __init__(self, start: MonitorStart) -> None:
        begin()
        self._progress = ExitProgress(start)
        self._selling = ExitSelling(self._progress)
        self._pauses = ExitPauses(self._progress)
        self._promise = Promise()
        self._may_start_anew = True
        self._touched = False
        if start.protection is not None:
            self._progress.protection = ExchangeProtection(
                start,
                start.protection,
                tell=self._progress.tell,
                due=lambda: self._progress.reason is not None,
                entry_final=lambda: self._progress.entry_final,
                beyond=self._stop_is_due,
            )

    # --- the run -----------------------------------------------------------------------------------------------------

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
                self._progress.tell("a cancel was requested and refused: the trade stays protected; `close` sells it")
                continue
            if outcome is None:
                workflow.continue_as_new(self._progress.next_start())
            return outcome

    async def _live(self) -> TradeOutcome | None:
        """Run until the trade is closed; None if the workflow should continue as new."""
        progress = self._progress
        progress.tell(f"guards {money(progress.size)} {progress.start.symbol} bought at {money(progress.entry_price)}")
        while True:
            await workflow.wait_condition(
                lambda: (
                    progress.reason is not None
                    or progress.look
                    or self._protection_wanted
                    or workflow.info().is_continue_as_new_suggested()
                    or self._history_is_long
                ),
                timeout_summary="waiting until an exit is due",
            )
            if self._history_is_long and self._starts_anew():
                await workflow.wait_condition(lambda: workflow.all_handlers_finished() and self._promise.kept)
                return None
            if progress.reason is not None:
                await self._leave(progress.reason)
            elif progress.protection is not None and (progress.look or self._protection_wanted):
                progress.look = False
                await self._tend(progress.protection)
            elif progress.look:
                await self._look()
            elif workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(lambda: workflow.all_handlers_finished() and self._promise.kept)
                return None
            if progress.closed is not None:
                await workflow.wait_condition(workflow.all_handlers_finished)
                return progress.closed

    @property
    def _history_is_long(self) -> bool:
        """Whether to continue as new, even with other work pending: a stop that is refused is retried for days, and a
        server ends a workflow whose history grows too long.
        """
        info = workflow.info()
        long = info.is_continue_as_new_suggested() or info.get_current_history_length() >= _LONG_HISTORY
        return self._may_start_anew and long

    def _starts_anew(self) -> bool:
        # A run that passed this point before there was such a point goes on as it did.
        self._may_start_anew = changed(CodeChange.NEW_HISTORY_WHILE_DUE)
        return self._may_start_anew

    async def _look(self) -> None:
        """Handle a change of the position when no exit is due."""
        progress = self._progress
        progress.look, before = False, progress.size
        await close_if_flat(progress, None)
        if progress.closed is None and progress.size < before:
            progress.tell(
                f"{money(before - progress.size)} were sold without one of our exits, {money(progress.size)} left"
            )
        if progress.take_over and progress.closed is None:
            await take_plan_over(progress)

    # --- an exit -----------------------------------------------------------------------------------------------------

    async def _leave(self, reason: ExitReason) -> None:
        """One attempt to sell everything for an exit reason."""
        progress = self._progress
        progress.freed = False
        self._pauses.begin()
        if progress.take_over and changed(CodeChange.EARLIER_EXITS_END_FIRST):
            await end_earlier_exits(progress, reason)
        if not progress.entry_final:
            await stop_entry(progress)
        if progress.flat:
            await close_if_flat(progress, reason)
            if progress.closed is not None:
                return
            if progress.all_sold and changed(CodeChange.ENTRY_WAITED_FOR):
                await await_entry(progress, reason)
                return
        if await self._lower_protection(reason) or progress.gives_way(reason):
            return
        progress.selling, tried = reason, progress.size
        outcome = await self._selling.sell(reason)
        progress.selling = None
        progress.at_market = progress.at_market or (outcome is not None and outcome.at_market)
        if outcome is not None and outcome.filled_size > 0:
            tried = Decimal(0)
            if not sold_little(reason, outcome):
                progress.failures = 0
            progress.tell(
                f"{reason}: sold {money(outcome.filled_size)} at {money(outcome.average_price)}, "
                f"{money(outcome.trade_remaining)} left"
            )
        left = outcome.trade_remaining if outcome is not None else None
        progress.flat = left is not None and left <= 0
        progress.entry_final = progress.entry_final or bool(outcome and outcome.entry_final)
        if left is not None:
            progress.size = left
        await close_if_flat(progress, reason, checked=progress.flat)
        if progress.closed is not None:
            return
        if progress.reason is not None and progress.reason is not reason:
            return
        await self._pauses.after_unfinished_exit(reason, outcome, tried)

    # --- protection at the exchange ----------------------------------------------------------------------------------

    @property
    def _protection_wanted(self) -> bool:
        return self._progress.protection is not None and self._progress.protection.wanted

    async def _tend(self, protection: ExchangeProtection) -> None:
        progress = self._progress
        if progress.take_over:
            await take_plan_over(progress)
            if progress.closed is not None:
                return
        view = await protection.tend()
        progress.size = view.remaining
        if view.sellable <= 0 and progress.reason is None:
            if view.live is not None:
                await protection.lower(view.sentence or "the trade has nothing left for it to sell", unless_due=True)
            await close_if_flat(progress, None)

    def _stop_is_due(self, price: Decimal) -> None:
        """A stop at the exchange would have sold at `price` by now, so it is due."""
        self.exit_due(ExitDue(reason=ExitReason.HARD_STOP, price=price, at=workflow.now()))

    async def _lower_protection(self, reason: ExitReason) -> bool:
        """Cancel the protection before the monitor sells; returns whether its fills have closed the trade.

        An order that isn't cancelled in time keeps its claim, and the rest is sold; if it claims everything, the
        monitor waits for it.
        """
        progress, protection = self._progress, self._progress.protection
        if protection is None:
            return False
        why = f"{reason} is due"

        def claims_less(view: ProtectionView) -> bool:
            return sells_beside(view.remaining, view.live_size, view.free)

        view = await protection.lower(why, within=PATIENCE)
        if view.live is not None and claims_less(view):
            progress.tell("the protection's final size is not known yet: what it may still sell is left out")
        elif view.live is not None:
            # The exchange may have told its size, if not what it came to.
            if changed(CodeChange.TOLD_LATER):
                view = await protection.lower(why, within=TOLD_LATER_SECONDS, enough=claims_less)
            if view.live is not None and not claims_less(view):
                await progress.tell_unsold(
                    f"{reason} waits for the end of the protection, which may still sell all of it"
                )
                view = await protection.lower(why, enough=claims_less)
        progress.size = view.remaining
        if view.remaining <= 0:
            await close_if_flat(progress, None)
        return progress.closed is not None

    # --- signals, updates, queries -----------------------------------------------------------------------------------

    @workflow.signal
    def exit_due(self, due: ExitDue) -> None:
        """The price watcher's signal that an exit is due; a lower reason than the current one changes nothing."""
        progress = self._progress
        if progress.closed is None and (progress.due is None or outranks(due.reason, progress.due.reason)):
            progress.due = due

    @workflow.signal
    def entry_news(self, news: EntryNews) -> None:
        """The entry filled more or ended."""
        progress = self._progress
        progress.tell_when_closed = progress.tell_when_closed or news.tell_when_closed
        if not progress.flat or news.size > progress.size:
            progress.size = max(progress.size, news.size)
        progress.flat = False
        if progress.protection is not None:
            progress.protection.look(grew=True)
        progress.entry_price = news.entry_price or progress.entry_price
        if news.entry_final and not progress.entry_final:
            progress.entry_final = True
            progress.tell("the entry has its final size")
        if not news.entry_final:
            return
        progress.look = progress.look or (progress.selling is None and progress.legs > progress.start.exit_legs)
        touched = self._touched or progress.start.resumed
        if touched and not progress.look and progress.selling is None:
            # What somebody else sold of it (a person, the market maker) may have been all that the entry had left.
            progress.look = changed(CodeChange.LOOK_AFTER_OTHER_SELLS)
        if news.short and not progress.look and progress.selling is None:
            progress.look = changed(CodeChange.LOOK_FOR_DUST)

    @workflow.signal
    def position_changed(self) -> None:
        """Something else changed the position: check it again."""
        progress = self._progress
        progress.look = self._touched = progress.changed = True
        if progress.protection is not None:
            progress.protection.look()

    @workflow.signal
    def hodl_changed(self) -> None:
        """The symbol joined or left the HODL list: a refused exit may now be accepted, a resting order may have to be
        cancelled."""
        self._pauses.hodl_changed()
        if self._progress.protection is not None:
            self._progress.protection.look()

    @workflow.signal
    def obstacle_gone(self, news: ObstacleGone) -> None:
        """What may have stood in the way of an exit has gone: a pause that waits for it ends."""
        self._pauses.obstacle_gone(news)

    @workflow.signal(name="close")
    def close_signal(self, request: CloseRequest | None = None) -> None:
        """Sell the position."""
        self._ask_close(request or CloseRequest())

    @workflow.update(name="close")
    async def close_update(self, request: CloseRequest) -> CloseAnswer:
        """Sell the position; answers at once. Asked for again it ends the pause after an exit that sold nothing."""
        progress, again = self._progress, self._progress.close is not None
        self._ask_close(request)
        if again:
            return CloseAnswer(
                accepted=True,
                sentence=f"{money(progress.size)} {progress.start.symbol} are not sold yet; it is tried again now",
            )
        return CloseAnswer(accepted=True, sentence=f"{money(progress.size)} {progress.start.symbol} are being sold")

    @close_update.validator
    def _may_close(self, request: CloseRequest) -> None:
        if self._progress.closed is not None:
            raise ApplicationError("the trade is closed", type="TRADE_CLOSED")
        if self._progress.close is not None and not self._pauses.pausing:
            raise ApplicationError("the trade is already being closed", type="CLOSING")
        refuse_unknown(request)

    @workflow.update(name="stops")
    async def stops_update(self, request: StopsRequest) -> StopsAnswer:
        """Move the trade's stops or its target; answers once they are in the plan."""
        progress = self._progress
        answer = await move_stops(progress.start.entry_key, request)
        progress.start = progress.start.model_copy(update={"rules": answer.rules})
        progress.tell_wish(Wish.of(CommandKind.STOPS, "stops moved", request, f": {answer.sentence}"))
        if progress.protection is not None:
            progress.protection.look(grew=True)
        return answer

    @stops_update.validator
    def _may_move_stops(self, request: StopsRequest) -> None:
        if self._progress.closed is not None:
            raise ApplicationError("the trade is closed", type="TRADE_CLOSED")
        refuse_unknown(request)

    def _ask_close(self, request: CloseRequest) -> None:
        progress = self._progress
        if progress.close is None and progress.closed is None:
            progress.close = request
            self._promise.keep(progress.start.entry_key, CommandKind.CLOSE, request)
            progress.failures = 0
            progress.tell_wish(Wish.of(CommandKind.CLOSE, "close requested", request))
        elif self._pauses.pausing and changed(CodeChange.SECOND_CLOSE_ENDS_PAUSE):
            self._pauses.ask_again()
            progress.tell_wish(Wish.of(CommandKind.CLOSE, "close requested again", request))

    @workflow.query
    def state(self) -> MonitorViewState:
        """The trade's state."""
        return self._progress.view()

    @workflow.query
    def timeline(self) -> list[str]:
        """What happened, in order."""
        return self._progress.timeline.lines

    @workflow.query
    def timeline_entries(self) -> list[TimelineEntry]:
        """The timeline in its parts: the ledger has the verified names of the requesters."""
        return self._progress.timeline.entries
