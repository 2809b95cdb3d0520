"""An order's reports: each report of the exchange is recorded in the ledger as it arrives, one after the other.

Reports come from streams by signal and from `order_attempts` by its look-ups, also while an attempt is being sent.
Waiting reports of one attempt are merged. An attempt that appears after its order has moved on is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities, RecordUpdate
    from domain.messages import AttemptView, OrderUpdate, RecordResult
    from domain.orders import AttemptStatus, Report, Totals, merge
    from domain.wording import money
    from workflows.durable import transact
    from workflows.order_progress import OrderProgress
    from workflows.order_trade import EntryTrade

__all__ = ["OrderReports"]


class OrderReports:
    """The exchange's reports of each attempt, by number, and their recording."""

    def __init__(self, progress: OrderProgress, trade: EntryTrade) -> None:
        self._progress = progress
        self._trade = trade
        self._news: dict[int, OrderUpdate] = {}
        """To be recorded."""
        self._known: dict[int, Report] = {}
        """Recorded, or found by `order_attempts`."""
        self._reasons: dict[int, str] = {}
        """The exchange's reasons for the ends of attempts, if given."""
        self._on_request: set[int] = set()
        """Attempts that the exchange cancelled on request."""
        self._late: asyncio.Task[None] | None = None

    # --- what is known -------------------------------------------------------------------------------------------

    def status(self, number: int) -> AttemptStatus:
        """An attempt's recorded status."""
        return self._report(number).status

    def reason(self, number: int) -> str:
        """The exchange's reason for an attempt's end; empty if it gave none."""
        return self._reasons.get(number, "")

    def cancelled_on_request(self, number: int) -> bool:
        """Whether the exchange reports that an attempt was cancelled on request; it doesn't report by whom."""
        return number in self._on_request

    def ended(self, number: int) -> bool:
        """Whether an attempt has its final size, and that is recorded."""
        return not self.waiting(number) and self.status(number).final

    def resolved(self, number: int) -> bool:
        """Whether an attempt's outcome is known."""
        return not self.waiting(number) and self.status(number) not in (
            AttemptStatus.SUBMITTING,
            AttemptStatus.UNKNOWN,
        )

    def waiting(self, number: int) -> bool:
        """Whether a report of an attempt is not recorded yet."""
        return number in self._news

    @property
    def behind(self) -> bool:
        """Whether any report is not recorded yet."""
        return bool(self._news)

    @property
    def at_rest(self) -> bool:
        """Whether every report is recorded and an attempt that appeared late is ended."""
        return not self.behind and (self._late is None or self._late.done())

    def know(self, number: int, status: AttemptStatus) -> None:
        """Take the status of an attempt without fills from `order_attempts`."""
        self._known[number] = Report(status)

    def recall(self, attempts: Iterable[AttemptView]) -> None:
        """Take over attempts from the journal."""
        self._known.update({item.number: Report(item.status) for item in attempts})

    def _report(self, number: int) -> Report:
        return self._known.get(number, Report(AttemptStatus.SUBMITTING))

    # --- what comes ----------------------------------------------------------------------------------------------

    def take(self, update: OrderUpdate) -> None:
        """Queue a report for recording, merged with a waiting one; a report without news is dropped."""
        number = update.attempt
        if update.reason:
            self._reasons[number] = update.reason
        if update.on_request:
            self._on_request.add(number)
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

    async def run(self, *, cancel_attempt: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Record reports one after the other, as they arrive; `cancel_attempt` cancels attempts that appear late."""
        progress = self._progress
        while True:
            await workflow.wait_condition(lambda: self.behind)
            number = min(self._news)
            update = self._news[number]
            request = RecordUpdate(order_key=progress.intent.order_key, symbol=progress.intent.symbol, update=update)
            try:
                result = await transact(
                    OrderActivities.record,
                    request,
                    f"{update.status} {money(update.filled_size)} ({update.source})",
                )
            except ApplicationError as error:
                progress.tell(f"a report was not for this order: {error}")
                self._news.pop(number, None)
                continue
            # What came while it was being recorded stays to be recorded next.
            if self._news.get(number) is update:
                del self._news[number]
            self._known[number] = merge(self._report(number), _report_of(update))
            self.note(result)
            if result.new_fill:
                progress.tell(
                    f"filled {money(result.filled_size)} at {money(result.average_price)}, fees {money(result.fees)}"
                )
            await self._trade.recorded(new_fill=result.new_fill)
            late = not self.status(number).final and (number < progress.number or progress.finished)
            if late and (self._late is None or self._late.done()):
                progress.tell(f"attempt {number} appeared late: it is cancelled, and its fills are protected")
                self._late = asyncio.create_task(cancel_attempt(number))

    def note(self, result: RecordResult) -> None:
        """Take over the ledger's state."""
        self._progress.follow(result)
        if result.finished:
            self._known[result.attempt] = (
                Report(result.attempt_status) if result.attempt else Report(AttemptStatus.FAILED)
            )


def _report_of(update: OrderUpdate) -> Report:
    return Report(update.status, Totals(update.filled_size, update.filled_value, update.quote_fees, update.base_fees))
