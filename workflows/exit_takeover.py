"""Exits left working by an earlier monitor of the same trade: waited for, or cancelled in favour of a due exit."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from domain.exits import ExitReason
    from domain.ids import order_workflow_id
    from domain.messages import CloseRequest
    from workflows.changes import CodeChange, changed
    from workflows.durable import wait_until
    from workflows.exit_closing import close_if_flat
    from workflows.exit_progress import PATIENCE, ExitProgress

__all__ = ["end_earlier_exits", "take_plan_over"]

_EARLIER_LOOK = 0.1
_EARLIER_LOOK_AT_REST = 5.0
"""Wall seconds between two checks of an earlier monitor's exit: if something is due, or if nothing is."""


async def take_plan_over(progress: ExitProgress) -> None:
    """An earlier monitor may have left its plan during an exit: wait for that to end, then arm it again.

    Otherwise the price watcher would consider the exit acknowledged and signal nothing more.
    """
    progress.take_over = False
    while progress.reason is None and progress.claims > 0:
        progress.tell("an exit of an earlier monitor is still working; waiting for it")
        await wait_until(
            lambda: progress.reason is not None, _EARLIER_LOOK_AT_REST, "waiting until the earlier exit has ended"
        )
        await close_if_flat(progress, None)
        if progress.closed is not None:
            return
    if progress.reason is None:
        await progress.rearm("position read; monitoring continues")
    elif progress.claims > 0:
        progress.take_over = changed(CodeChange.EARLIER_EXIT_STANDS_DOWN)


async def end_earlier_exits(progress: ExitProgress, reason: ExitReason) -> None:
    """An exit is due: exits left working by an earlier monitor are cancelled, and their ends are waited for briefly.

    Their claims stay in the ledger, so nothing is sold twice.
    """
    progress.take_over = False
    until = workflow.now() + timedelta(seconds=PATIENCE)
    asked = False
    while True:
        view = await progress.position(reason)
        progress.entry_final, progress.claims = view.entry_final, view.pending_claims
        if not view.working or workflow.now() >= until:
            return
        if not asked:
            progress.tell(f"{reason} has priority over an exit of an earlier monitor, which is cancelled")
        for key in view.working if not asked else ():
            try:
                handle = workflow.get_external_workflow_handle(order_workflow_id(key))
                await handle.signal("cancel", CloseRequest(by="a higher exit", own=True))
            except ApplicationError:
                # Its workflow is gone, and the sweep starts it again: then it is asked once more.
                progress.take_over = changed(CodeChange.GONE_EXIT_ASKED_AGAIN)
        asked = True
        await workflow.sleep(_EARLIER_LOOK, summary="waiting until the earlier exit has ended")
