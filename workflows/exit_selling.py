"""One exit of a trade, from its order's start to its end; it is cancelled if a higher reason becomes due.

The order is a child workflow of the monitor. An order that has not ended in time is left behind: the ledger keeps its
claim on what it may still sell, and the rest is sold.
"""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, TerminatedError

with workflow.unsafe.imports_passed_through():
    from domain.exits import ExitReason, price_stop
    from domain.ids import order_workflow_id
    from domain.intents import monitor_exit
    from domain.messages import CloseRequest, OrderIntent, OrderOutcome
    from domain.wording import money
    from workflows.changes import CodeChange, changed, is_unreplayable
    from workflows.durable import OrderChild, start_order_child, wait_until
    from workflows.exit_pauses import LITTLE, pause_of_stop
    from workflows.exit_progress import PATIENCE, TOLD_LATER_SECONDS, ExitProgress

__all__ = ["ExitSelling", "sells_beside"]


def sells_beside(remaining: Decimal, claimed: Decimal, free: Decimal | None) -> bool:
    """Whether an exit can sell part of its trade's remainder while other orders have claimed `claimed` of it.

    `free` is that part as a valid order size; None if the product's rules are not known.
    """
    if remaining <= claimed:
        return False
    return free is None or free > 0 or not changed(CodeChange.DUST_IS_NOTHING)


class ExitSelling:
    """The exit orders of one trade."""

    def __init__(self, progress: ExitProgress) -> None:
        self._progress = progress

    async def sell(self, reason: ExitReason) -> OrderOutcome | None:
        """Run one exit order to its end. None if it failed, was left behind, or was cancelled in favour of a higher
        reason."""
        progress = self._progress
        due = progress.due if progress.due is not None and progress.due.reason is reason else None
        while True:
            progress.legs += 1
            progress.changed = False
            market = progress.at_market and price_stop(reason)
            intent = monitor_exit(progress.start, reason, progress.legs, due=due, close=progress.close, market=market)
            child = await start_order_child(intent)
            if child is not None:
                break
            # An earlier run of this monitor had begun this leg: the next one gets the next number, and the claims of
            # one that is still working keep the two from selling the same thing.
        why = f"{reason} is due at {money(due.price)}" if due else "a person requested the close"
        progress.tell(f"{why}: exit order {intent.order_key}")
        restarts = 0
        while True:
            if not await self._until_ended(child, reason):
                return await self.sell(reason)
            if not child.done():
                progress.tell(f"{progress.reason} has priority over {reason}: the exit order is cancelled")
                with contextlib.suppress(ApplicationError):  # it has ended meanwhile
                    await child.signal("cancel", CloseRequest(by="a higher exit", own=True))
                if await self._leaves_behind(child, reason):
                    return None
            try:
                outcome: OrderOutcome = await child
            except ChildWorkflowError as error:
                progress.tell(f"the exit order's workflow failed: {error.cause or error}")
                again = await self._goes_on(intent, error, restarts)
                if again is not None:
                    child, restarts = again, restarts + 1
                    continue
                taken = isinstance(error.cause, ApplicationError) and error.cause.type == "INTENT_CONFLICT"
                if taken and changed(CodeChange.TAKEN_LEG_PASSED_OVER):
                    return await self._next_leg(reason)
                return None
            return await self._next_leg(reason) if outcome.earlier else outcome

    async def _goes_on(self, intent: OrderIntent, error: ChildWorkflowError, restarts: int) -> OrderChild | None:
        """An exit order that a person terminated, or whose history didn't fit its code, may still rest at the exchange
        with a claim: it is continued from the ledger.

        The latter only once: if that one fails, too, people are told, and the next try comes after a pause. If an
        update has already restarted it, it is not a child, and is cancelled like an earlier monitor's.
        """
        terminated = isinstance(error.cause, TerminatedError) and changed(CodeChange.TERMINATED_EXIT_GOES_ON)
        unreplayable = is_unreplayable(error.cause) and not restarts
        if not terminated and not (unreplayable and changed(CodeChange.UNREPLAYABLE_EXIT_GOES_ON)):
            return None
        child = await start_order_child(intent, again=True)
        self._progress.take_over = self._progress.take_over or child is None
        return child

    async def _until_ended(self, child: OrderChild, reason: ExitReason) -> bool:
        """Wait until an exit has ended or a higher one is due; False if it was left behind.

        If the exchange has reported its final size but not its value, it claims no more than that size, and a stop or a
        close sells the rest without waiting.
        """
        progress = self._progress
        urgent = price_stop(reason) or reason is ExitReason.MANUAL
        while True:
            await workflow.wait_condition(lambda: child.done() or progress.outranked(reason) or progress.changed)
            if child.done() or progress.outranked(reason):
                return True
            progress.changed = False
            if not urgent or not changed(CodeChange.TOLD_SIZE_IS_ENOUGH):
                continue
            view = await progress.position(reason)
            if child.done() or view.remaining - view.pending_claims <= LITTLE * view.remaining:
                continue
            if child.id not in map(order_workflow_id, view.working) and changed(CodeChange.CLAIM_BEFORE_LEFT_BEHIND):
                continue  # it is about to claim, or has just ended: what claims nothing is no end whose size is told
            if view.told is not None and child.id not in map(order_workflow_id, view.told):
                continue  # it claims less as more was refused for lack of funds: it is at work
            progress.note(view)
            progress.tell(f"only the final size of {reason} is known: the rest is sold at once")
            self._leave_behind(child)
            return False

    async def _leaves_behind(self, child: OrderChild, reason: ExitReason) -> bool:
        """Whether a cancelled lower exit has not ended in time, and there is more to sell than it may still sell
        itself. If there isn't, the wait for its end is reported to people.
        """
        progress = self._progress
        if not changed(CodeChange.HIGHER_WAITS_HALF_A_SECOND):
            return False
        await wait_until(child.done, PATIENCE, f"waiting until {reason} is cancelled")
        if child.done():
            return False
        looks, waited = 0, False
        while True:
            view = await progress.position(progress.reason)
            progress.note(view)
            if child.done():
                return False
            if sells_beside(view.remaining, view.pending_claims, view.free):
                progress.tell(f"the final size of {reason} is not known yet: what it may still sell is left out")
                self._leave_behind(child)
                return True
            if not waited and changed(CodeChange.TOLD_LATER):
                waited, progress.changed = True, False
                await wait_until(
                    lambda: child.done() or progress.changed, TOLD_LATER_SECONDS, f"waiting for the end of {reason}"
                )
                if child.done():
                    return False
                continue
            if not looks:
                await progress.tell_unsold(
                    f"{progress.reason} waits for the end of {reason}, which may still sell all of it"
                )
                if not changed(CodeChange.LOWER_LOOKED_AT_AGAIN):
                    return False
            # The exchange may have told its size, if not what it came to.
            looks += 1
            pause = pause_of_stop(looks, float(progress.start.rules.retry_max_seconds)) / 2
            await wait_until(child.done, pause, f"until {reason} has ended, or claims less")

    def _leave_behind(self, child: OrderChild) -> None:
        self._progress.behind.append(asyncio.create_task(self._hear_behind(child)))

    async def _hear_behind(self, child: OrderChild) -> None:
        """An exit that was left behind has ended: its claim is released."""
        with contextlib.suppress(ChildWorkflowError):
            await child
        self._progress.freed = self._progress.look = True

    async def _next_leg(self, reason: ExitReason) -> OrderOutcome | None:
        """The leg was an earlier monitor's: the ledger has the last one, and this exit gets the next number."""
        await self._progress.position(reason)
        return None if self._progress.gives_way(reason) else await self.sell(reason)
