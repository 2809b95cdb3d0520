"""An entry's trade from its order's side: starts the exit monitor at the first fill, signals further fills, receives
the result.

The monitor is a child that outlives its parent. A running one is signalled; one that was terminated is replaced by the
sweep. A sell that no monitor started signals the monitor of the trade it sold from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities, TradeKey
    from activities.interfaces.search_attributes import EXIT_REASON, STATUS
    from activities.interfaces.starting import monitor_start
    from domain.commands import CommandKind
    from domain.ids import exit_workflow_id
    from domain.messages import Admission, CloseRequest, EntryNews, MonitorStart, OrderIntent, TradeOutcome
    from domain.orders import OrderRole, OrderState, TradeState
    from domain.wording import outcome_sentence
    from workflows.changes import CodeChange, changed
    from workflows.durable import transact
    from workflows.order_progress import OrderProgress
    from workflows.promise import Promise

__all__ = ["EntryTrade", "sold_by_hand", "tell_trade_sold"]


class EntryTrade:
    """The trade of one entry. For an exit it does nothing."""

    def __init__(self, progress: OrderProgress, promise: Promise) -> None:
        self._progress = progress
        self._promise = promise
        self._monitor: workflow.ChildWorkflowHandle[Any, TradeOutcome] | None = None
        self._monitor_knows_end = False
        self._close_later: CloseRequest | None = None
        """A close requested before there was a monitor: it also applies to later fills (LIFE-11)."""

    async def recorded(self, *, new_fill: bool) -> None:
        """A report of the entry is in the ledger: its monitor is started, or signalled if needed."""
        progress = self._progress
        if progress.is_entry and progress.filled.size > 0:
            if not progress.monitor_started:
                await self._start_monitor()
            elif new_fill or (progress.finished and not self._monitor_knows_end):
                await self._signal_monitor()

    async def until_closed(self, admission: Admission, *, unrecorded: Callable[[], bool]) -> bool:
        """Wait until the trade is closed and no report is `unrecorded`; False if the run should continue as new."""
        progress = self._progress
        if admission.trade_state is TradeState.CLOSED:
            request = TradeKey(entry_key=progress.intent.order_key)
            progress.trade = await transact(OrderActivities.close_trade, request, "the trade's outcome")
        if progress.trade is None and not progress.monitor_started:
            await self._start_monitor()
        elif progress.trade is None and not self._monitor_knows_end:
            await self._signal_monitor()
        while progress.trade is None or unrecorded():
            await workflow.wait_condition(
                lambda: (
                    (progress.trade is not None and not unrecorded())
                    or self._monitor_ended
                    or workflow.info().is_continue_as_new_suggested()
                ),
                timeout_summary="waiting until the trade is closed",
            )
            if self._monitor_ended:
                await self._hear_monitor()
            elif progress.trade is None:
                return False
        progress.tell(f"closed: {outcome_sentence(progress.trade)}")
        reason = progress.trade.exit_reason
        found_by = [EXIT_REASON.value_set(reason.value)] if reason else []
        workflow.upsert_search_attributes([STATUS.value_set("CLOSED"), *found_by])
        return True

    def closed(self, outcome: TradeOutcome) -> None:
        """The exit monitor's signal that the trade is closed."""
        self._progress.trade = outcome
        self._progress.trade_state = TradeState.CLOSED

    async def close(self, request: CloseRequest) -> None:
        """Ask the exit monitor, once there is one, to sell the position."""
        progress = self._progress
        if not progress.is_entry:
            return
        if progress.filled.size == 0:
            self._promised_later(request)
            return
        await self._have_sold(request)

    async def _have_sold(self, request: CloseRequest) -> None:
        progress = self._progress
        handle = workflow.get_external_workflow_handle(exit_workflow_id(progress.intent.order_key))
        try:
            await handle.signal("close", request)
        except ApplicationError as error:
            progress.tell(f"the exit monitor could not be asked to close: {error}")
            self._promised_later(request)

    def close_later(self, request: CloseRequest) -> None:
        """A close accepted before this run began, or before there was a monitor."""
        self._close_later = self._close_later or request

    def _promised_later(self, request: CloseRequest) -> None:
        if self._close_later is None:
            self._promise.keep(self._progress.intent.order_key, CommandKind.CLOSE, request)
        self.close_later(request)

    # --- the monitor ---------------------------------------------------------------------------------------------

    @property
    def _monitor_ended(self) -> bool:
        return self._monitor is not None and self._monitor.done()

    async def _hear_monitor(self) -> None:
        """The monitor's result is the trade's outcome; one that was terminated is replaced by the sweep."""
        monitor, self._monitor = self._monitor, None
        if monitor is None:
            return
        try:
            self.closed(await monitor)
        except ChildWorkflowError as error:
            self._progress.tell(
                f"the exit monitor ended without closing the trade ({error.cause or error}); the sweep starts one"
            )

    async def _start_monitor(self) -> None:
        """Start the exit monitor at the first fill; a running one is signalled."""
        progress = self._progress
        # One that follows another, of this run or of an earlier one, asks the ledger what became of that one's exits.
        follows = progress.monitor_started or bool(progress.admission and progress.admission.trade_state)
        progress.monitor_started, self._monitor_knows_end = True, progress.finished
        start = monitor_start(self._monitor_start().model_copy(update={"resumed": follows}))
        try:
            self._monitor = await workflow.start_child_workflow(
                start.workflow,
                start.request,
                **start.options,
                result_type=TradeOutcome,
                parent_close_policy=ParentClosePolicy.ABANDON,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            )
        except WorkflowAlreadyStartedError:
            await self._signal_monitor()
        workflow.upsert_search_attributes([STATUS.value_set("PROTECTED")])
        if self._close_later is not None and changed(CodeChange.CLOSE_HOLDS_FOR_LATER_FILLS):
            request, self._close_later = self._close_later, None
            progress.tell("the close that was requested earlier also applies to these fills")
            await self._have_sold(request)

    def _monitor_start(self) -> MonitorStart:
        progress, intent = self._progress, self._progress.intent
        return MonitorStart(
            entry_key=intent.order_key,
            account=intent.account,
            symbol=intent.symbol,
            source=intent.source,
            trigger=intent.linkage.trigger,
            snapshot_id=intent.linkage.snapshot_id,
            rules=intent.rules,
            size=progress.filled.size,
            entry_price=progress.average,
            entry_final=progress.finished,
            market_speed=progress.speed,
            protection=intent.protection,
            short=self._short,
        )

    @property
    def _short(self) -> bool:
        """Whether the entry ended without filling completely."""
        return self._progress.finished and self._progress.state is not OrderState.FILLED

    async def _signal_monitor(self) -> None:
        progress = self._progress
        self._monitor_knows_end = progress.finished
        news = EntryNews(
            size=progress.filled.size,
            entry_price=progress.average,
            entry_final=progress.finished,
            tell_when_closed=self._monitor is None,
            short=self._short,
        )
        handle = workflow.get_external_workflow_handle(exit_workflow_id(progress.intent.order_key))
        try:
            await handle.signal("entry_news", news)
        except ApplicationError:
            # It ended with the position it knew; a late fill needs a new one.
            if progress.trade is None:
                await self._start_monitor()


def sold_by_hand(intent: OrderIntent) -> bool:
    """Whether it sells from a trade without being one of its monitor's exits."""
    return intent.role is OrderRole.EXIT and intent.entry_key is not None and not intent.by_monitor


async def tell_trade_sold(progress: OrderProgress) -> None:
    """After a sell of a named trade that its monitor didn't start, ask the monitor to check its position."""
    handle = workflow.get_external_workflow_handle(exit_workflow_id(progress.intent.entry_key or ""))
    try:
        await handle.signal("position_changed")
    except ApplicationError as error:
        progress.tell(f"the exit monitor could not be signalled: {error}")
