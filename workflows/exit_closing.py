"""The end of a guarded trade: its entry is cancelled before anything is sold, and a trade that is flat is closed."""

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
    from workflows.durable import transact, wait_until
    from workflows.exit_progress import PATIENCE, ExitProgress

__all__ = ["await_entry", "close_if_flat", "stop_entry"]

_ENTRY_LOOK = 10.0
"""Wall seconds between two looks at an entry whose end is not known, where all that it has filled is sold."""
_ENDS_SECONDS = 15.0
"""So long a trade of which nothing is left waits for the ends of its exits, whose sending may not be answered yet."""
_ENDS_FIRST = "exits that were left behind end before their trade is closed"


async def stop_entry(progress: ExitProgress) -> None:
    """Cancel what remains of the own entry and wait for its final size, bounded: a stop doesn't wait for ever."""
    progress.tell("cancelling what remains of the entry first")
    request = CloseRequest(by="its exit monitor", own=True)
    handle = workflow.get_external_workflow_handle(order_workflow_id(progress.start.entry_key))
    try:
        await handle.signal("cancel", request)
    except ApplicationError:
        # No workflow: the position book says whether the entry had ended.
        view = await progress.position()
        progress.entry_final = view.entry_final
        return
    if not await wait_until(lambda: progress.entry_final, PATIENCE, "until the entry's size is final"):
        progress.tell("the entry's end is not known yet; selling what it has filled so far")


async def await_entry(progress: ExitProgress, reason: ExitReason) -> None:
    """All that the entry has filled is sold, its end isn't known: what it fills still is sold as it comes."""
    await progress.tell_unsold("all of it is sold so far, and the end of its entry is not known yet")
    await wait_until(lambda: not progress.all_sold, _ENTRY_LOOK, "until the entry's size is final")
    if progress.entry_final:
        await close_if_flat(progress, reason)


async def _hear_ends(progress: ExitProgress) -> None:
    """What was left behind and sold some of the trade writes that down as it ends, which the trade's outcome is to
    have: waited for, though not for long.
    """
    working = [task for task in progress.behind if not task.done()]
    if not working or not workflow.patched(_ENDS_FIRST):
        return
    await wait_until(
        lambda: all(task.done() for task in working), _ENDS_SECONDS, "until exits that were left behind have ended"
    )


async def close_if_flat(progress: ExitProgress, reason: ExitReason | None, *, checked: bool = False) -> None:
    """Close the trade if nothing is left to sell; its entry's workflow is told in the same step.

    `checked` where an exit's own answer has just said that nothing is left.
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
