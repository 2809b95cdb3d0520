"""One order, from intent to end; an entry's workflow stays open until its trade is closed (LIFE).

Three parts run concurrently. `order_attempts` sends the admitted order's attempts one after the other and decides what
follows when one ends. `order_reports` records every report in the ledger as it arrives, also while an attempt is still
being sent, and starts the trade's exit monitor at the first fill (`order_trade`). People query, cancel and close with
the queries, signals and updates here; `order_progress` builds what they see. A cancel of the workflow reaches only
`run`, which treats it as a request: it never loses an answer of the exchange.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities
    from activities.interfaces.quotes import QuoteWithdrawalActivity, WithdrawQuotes
    from activities.interfaces.search_attributes import STATUS
    from domain.commands import CommandKind, TimelineEntry
    from domain.intents import must_leave, same_intent
    from domain.messages import (
        CloseAnswer,
        CloseRequest,
        OrderDecision,
        OrderIntent,
        OrderOutcome,
        OrderUpdate,
        TradeOutcome,
    )
    from domain.orders import OrderState, OrderType
    from domain.quoting import QUOTES
    from domain.wording import order_summary
    from workflows.changes import CodeChange, begin, changed
    from workflows.durable import transact
    from workflows.order_attempts import OrderAttempts
    from workflows.order_progress import OrderProgress, OrderView
    from workflows.order_reports import OrderReports
    from workflows.order_trade import EntryTrade, sold_by_hand, tell_trade_sold
    from workflows.promise import Promise, refuse_unknown

__all__ = ["OrderView", "OrderWorkflow"]

_QUOTES_PATIENCE = 5.0
_QUOTES_PATIENCE_MARKET = 2.0
_QUOTES_PATIENCE_STOP = 0.5
"""Wall seconds that a sell waits for the market maker's quotes on its symbol to be withdrawn; a due stop waits
least."""


@workflow.defn(name="OrderWorkflow")
class OrderWorkflow:
    """Runs the whole life of an order."""

    @workflow.init
    def __init__(self, intent: OrderIntent) -> None:
        begin()
        self._intent = intent
        self._progress = OrderProgress(intent)
        self._promise = Promise()
        self._trade = EntryTrade(self._progress, self._promise)
        self._reports = OrderReports(self._progress, self._trade)
        self._attempts = OrderAttempts(self._progress, self._reports)

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
                self._progress.cancelled_in_temporal()
                self._keep_cancel(CloseRequest(note="the workflow was cancelled"))
                continue
            if outcome is None:
                self._continue_as_new()
            return outcome

    def _continue_as_new(self) -> NoReturn:
        """Continue as new: the stored decision restores the state."""
        workflow.continue_as_new(self._intent)

    async def _live(self) -> OrderOutcome | None:
        intent = self._intent.model_copy(update={"run": workflow.info().run_id})
        try:
            admission = await transact(OrderActivities.admit, intent, "gates and reservation")
            if admission.quotes_rest:
                await self._withdraw_quotes()
                intent = intent.model_copy(update={"past_quotes": True})
                admission = await transact(OrderActivities.admit, intent, "gates and claim, past the quotes")
        except ApplicationError as error:
            raise ApplicationError(str(error), type=error.type, non_retryable=True) from error
        self._progress.admission = admission
        self._progress.state = admission.state
        if not admission.accepted:
            self._progress.sentence = admission.sentence
            self._progress.tell(f"refused by {admission.gate}: {admission.sentence}")
            workflow.upsert_search_attributes([STATUS.value_set("REJECTED")])
            await workflow.wait_condition(workflow.all_handlers_finished)
            return self._progress.outcome()
        self._progress.tell(f"admitted: {order_summary(self._intent)}")
        if admission.close is not None:
            self._progress.wish_cancel(admission.close, CommandKind.CLOSE)
            self._trade.close_later(admission.close)
        elif admission.cancel is not None:
            self._progress.wish_cancel(admission.cancel)
        reports = asyncio.create_task(self._reports.run(cancel_attempt=self._attempts.cancel_attempt))
        try:
            if not admission.finished:
                await self._attempts.run(admission)
            else:
                await self._attempts.resume_finished(admission)
            if self._progress.is_entry and (self._progress.filled.size > 0 or admission.filled_size > 0):
                if not await self._trade.until_closed(admission, unrecorded=lambda: self._reports.behind):
                    # A report or a wish of this moment is no part of the next history.
                    await workflow.wait_condition(
                        lambda: self._reports.at_rest and self._promise.kept and workflow.all_handlers_finished()
                    )
                    return None
            elif not self._progress.is_entry or self._progress.state is not OrderState.FILLED:
                workflow.upsert_search_attributes([STATUS.value_set(self._progress.state.value)])
            if self._frees_trade:
                await tell_trade_sold(self._progress)
            # A report that came with the last step is still recorded, and an attempt that appeared late is ended.
            await workflow.wait_condition(lambda: self._reports.at_rest and workflow.all_handlers_finished())
            return self._progress.outcome()
        finally:
            reports.cancel()

    @property
    def _frees_trade(self) -> bool:
        """Whether the end of this sell, which its trade's monitor didn't start, matters to that monitor."""
        if not sold_by_hand(self._intent):
            return False
        if self._progress.filled.size > 0 or self._intent.protection_role:
            return True
        # What it had claimed can be protected again. A market maker's asks come and go with each round.
        return self._intent.entry_point != QUOTES and changed(CodeChange.UNSOLD_SELL_TELLS_MONITOR)

    async def _withdraw_quotes(self) -> None:
        """Withdraw the market maker's quotes on the symbol first (EXIT-4), with a time limit: size claimed by a quote
        without an answer is not sold. A cancel, such as a higher exit's, ends the wait.
        """
        market = self._intent.order_type is OrderType.MARKET
        seconds = _QUOTES_PATIENCE_MARKET if market else _QUOTES_PATIENCE
        if must_leave(self._intent):
            seconds = _QUOTES_PATIENCE_STOP
        self._progress.tell("withdrawing the market maker's quotes on the symbol first")
        leaving = workflow.start_activity_method(
            QuoteWithdrawalActivity.withdraw_quotes,
            WithdrawQuotes(
                account=self._intent.account, symbol=self._intent.symbol, seconds=seconds, by="an exit of the symbol"
            ),
            start_to_close_timeout=timedelta(seconds=seconds + 2),
            schedule_to_close_timeout=timedelta(seconds=seconds + 2),
            retry_policy=RetryPolicy(maximum_attempts=2),
            summary=f"withdraw quotes on {self._intent.symbol} before a sell",
        )
        await workflow.wait_condition(lambda: leaving.done() or self._progress.cancel_wish is not None)
        if not leaving.done():
            leaving.cancel()
        try:
            report = await leaving
        except (ActivityError, asyncio.CancelledError) as error:
            self._progress.tell(f"the market maker's quotes may still rest ({error}): what they claim is not sold")
            return
        if report.left:
            self._progress.tell(f"{len(report.left)} quotes are not confirmed as ended: what they claim is not sold")

    # --- people and streams ------------------------------------------------------------------------------------

    @workflow.signal
    def order_update(self, update: OrderUpdate) -> None:
        """The exchange's newest totals of an attempt; repeats and old ones change nothing."""
        self._reports.take(update)

    @workflow.signal
    def trade_closed(self, outcome: TradeOutcome) -> None:
        """The exit monitor's signal that the trade is closed."""
        self._trade.closed(outcome)

    @workflow.signal(name="cancel")
    def cancel_signal(self, request: CloseRequest | None = None) -> None:
        """Cancel the order at the exchange; its fills stay protected."""
        self._cancel(request or CloseRequest())

    @workflow.update(name="cancel")
    async def cancel_update(self, request: CloseRequest) -> CloseAnswer:
        """Cancel the order at the exchange; answers at once."""
        self._cancel(request)
        return CloseAnswer(accepted=True, sentence="the order is being cancelled; its fills stay protected")

    def _cancel(self, request: CloseRequest) -> None:
        self._progress.wish_cancel(request)
        self._keep_cancel(request)

    def _keep_cancel(self, request: CloseRequest) -> None:
        if not self._progress.finished:
            self._promise.keep(self._intent.order_key, CommandKind.CANCEL, request)

    @cancel_update.validator
    def _may_cancel(self, request: CloseRequest) -> None:
        if self._progress.finished or self._progress.state.final:
            raise ApplicationError(f"the order has ended: {self._progress.state}", type="ORDER_ENDED")
        refuse_unknown(request)

    @workflow.signal(name="close")
    async def close_signal(self, request: CloseRequest | None = None) -> None:
        """Sell the trade's position; the rest of the entry is cancelled first."""
        await self._pass_close(request or CloseRequest())

    @workflow.update(name="close")
    async def close_update(self, request: CloseRequest) -> CloseAnswer:
        """Sell the trade's position; answers at once."""
        filled = self._progress.filled.size > 0
        await self._pass_close(request)
        sentence = "the position is being sold" if filled else "the entry is being cancelled, and its fills are sold"
        return CloseAnswer(accepted=True, sentence=sentence)

    @close_update.validator
    def _may_close(self, request: CloseRequest) -> None:
        if not self._progress.is_entry:
            raise ApplicationError("only an entry's trade can be closed", type="NOT_A_TRADE")
        if self._progress.trade is not None or (self._progress.finished and self._progress.filled.size == 0):
            raise ApplicationError("there is no open position", type="TRADE_CLOSED")
        refuse_unknown(request)

    async def _pass_close(self, request: CloseRequest) -> None:
        self._progress.wish_cancel(request, CommandKind.CLOSE)
        await self._trade.close(request)

    @workflow.update
    async def decide(self, intent: OrderIntent) -> OrderDecision:
        """The decision on the intent, as soon as it is stored: one round trip with the start."""
        await workflow.wait_condition(lambda: self._progress.admission is not None)
        admission = self._progress.admission
        return OrderDecision(
            order_key=intent.order_key,
            accepted=bool(admission and admission.accepted),
            state=self._progress.state,
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
        """The order's state."""
        return self._progress.view()

    @workflow.query
    def timeline(self) -> list[str]:
        """What happened, in order."""
        return self._progress.timeline.lines

    @workflow.query
    def timeline_entries(self) -> list[TimelineEntry]:
        """The timeline in its parts: the ledger has the verified names of the requesters."""
        return self._progress.timeline.entries
