"""The end of a monitored trade: its entry is cancelled before anything is sold, and a flat trade is closed."""

from __future__ import annotations

from decimal import Decimal

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities, TradeKey
    from activities.interfaces.search_attributes import EXIT_REASON, STATUS
    from domain.exits import ExitReason
    from domain.ids import order_workflow_id
    from domain.messages import CloseRequest
    from domain.wording import outcome_sentence
    from workflows.changes import CodeChange, changed
    from workflows.durable import transact, wait_until
    from workflows.exit_progress import PATIENCE, ExitProgress

__all__ = ["await_entry", "close_if_flat", "stop_entry"]

_ENTRY_LOOK = 10.0
"""Wall seconds between two checks of an entry whose end is not known and whose fills are all sold."""
_ENDS_SECONDS = 15.0
"""How long a trade with nothing left waits for the ends of its exits, whose placement may not be answered yet."""


async def stop_entry(progress: ExitProgress) -> None:
    """Cancel the rest of the trade's entry and wait for its final size, up to a limit: a stop doesn't wait for ever."""
    progress.tell("cancelling the rest of the entry first")
    request = CloseRequest(by="its exit monitor", own=True)
    handle = workflow.get_external_workflow_handle(order_workflow_id(progress.start.entry_key))
    try:
        await handle.signal("cancel", request)
    except ApplicationError:
        # No workflow: the position book says whether the entry had ended.
        view = await progress.position()
        progress.entry_final = view.entry_final
        return
    if not await wait_until(lambda: progress.entry_final, PATIENCE, "waiting for the entry's final size"):
        progress.tell("the entry's final size is not known yet; selling its fills so far")


async def await_entry(progress: ExitProgress, reason: ExitReason) -> None:
    """All of the entry's fills are sold, but its end isn't known: further fills are sold as they arrive."""
    await progress.tell_unsold("everything filled so far is sold, and the entry's end is not known yet")
    await wait_until(lambda: not progress.all_sold, _ENTRY_LOOK, "waiting for the entry's final size")
    if progress.entry_final:
        await close_if_flat(progress, reason)


async def _hear_ends(progress: ExitProgress) -> None:
    """Wait, for a limited time, for exits that were left behind: their fills belong in the trade's outcome."""
    working = [task for task in progress.behind if not task.done()]
    if not working or not changed(CodeChange.LEFT_BEHIND_END_FIRST):
        return
    await wait_until(
        lambda: all(task.done() for task in working),
        _ENDS_SECONDS,
        "waiting for the end of exits that were left behind",
    )


async def close_if_flat(progress: ExitProgress, reason: ExitReason | None, *, checked: bool = False) -> None:
    """Close the trade if nothing is left to sell; its entry's workflow is signalled in the same step.

    `checked`: an exit's own answer has just shown that nothing is left.
    """
    if not checked:
        view = await progress.position(reason)
        progress.note(view)
        if view.remaining > 0 and not view.dust:
            return
        if not view.entry_final:
            return
    elif not progress.entry_final:
        return
    await _hear_ends(progress)
    # A parent hears of our end by itself; one that continued as new, or a sweep's monitor, needs a signal.
    tell_entry = workflow.info().parent is None or progress.tell_when_closed
    request = TradeKey(entry_key=progress.start.entry_key, reason=reason, tell_entry=tell_entry)
    progress.closed = await transact(OrderActivities.close_trade, request, "linkage completed, plan disarmed, closed")
    if progress.closed is None:
        return
    progress.size = Decimal(0)
    progress.tell(f"closed: {outcome_sentence(progress.closed)}")
    if progress.protection is not None:
        await progress.protection.closed()
    reason = progress.closed.exit_reason
    found_by = [EXIT_REASON.value_set(reason.value)] if reason else []
    workflow.upsert_search_attributes([STATUS.value_set("CLOSED"), *found_by])
