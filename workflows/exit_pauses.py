"""What follows an incomplete exit: a stop is retried with backoff; a profit exit goes back to monitoring."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.search_attributes import EXIT_REASON, STATUS
    from domain.exits import ExitReason, outranks, price_stop
    from domain.gate_names import GateName
    from domain.messages import ObstacleGone, OrderOutcome
    from domain.obstacles import Obstacle, obstacle_of
    from domain.orders import OrderState
    from domain.wording import money
    from workflows.changes import CodeChange, changed
    from workflows.durable import wait_until
    from workflows.exit_progress import ExitProgress

__all__ = ["LITTLE", "ExitPauses", "pause_after", "pause_of_stop", "sold_little"]

_FIRST_PAUSE = 1.0
"""Wall seconds after the first exit in a row that sold nothing; twice as long after each further one."""
_QUICK_PAUSE = 5.0
_QUICK_TRIES = 24
"""So many tries of a stop, for about two minutes, are no further apart: a refusal costs less than a stop that waits."""
LITTLE = Decimal("0.05")
"""An exit that sells less than this share of its trade counts as having sold almost nothing."""
_CLAIMS_LOOK = 5.0
_HODL_PAUSE = 3600.0
_TELL_AT = 3
"""This many exits in a row that sold nothing are reported to people, however they ended."""


def pause_after(failures: int, longest: float) -> float:
    """Wall seconds: 1, 2, 4, … up to `longest`; none after no failure."""
    return min(_FIRST_PAUSE * 2.0 ** min(failures - 1, 20), longest) if failures > 0 else 0.0


def pause_of_stop(failures: int, longest: float) -> float:
    """Wall seconds after a stop's exits that sold nothing: 1, 2, 4, 5, 5, … for about two minutes, then 10, 20, … up to
    `longest`.
    """
    if failures <= _QUICK_TRIES:
        return min(pause_after(failures, _QUICK_PAUSE), longest)
    return min(_QUICK_PAUSE * 2.0 ** min(failures - _QUICK_TRIES, 20), longest)


def sold_little(reason: ExitReason, outcome: OrderOutcome) -> bool:
    """Whether a stop's exit has left nearly all of its trade, as in a thin order book."""
    left = outcome.trade_remaining or Decimal(0)
    little = 0 < outcome.filled_size < LITTLE * (outcome.filled_size + left)
    return little and price_stop(reason) and changed(CodeChange.PAUSE_AFTER_LITTLE)


class ExitPauses:
    """The pauses between the exits of one trade."""

    def __init__(self, progress: ExitProgress) -> None:
        self._progress = progress
        self._on_hodl = False
        self._hodl_changed = False
        self._failed_at: datetime | None = None
        """When an exit last sold nothing."""
        self._gone: dict[Obstacle, str] = {}
        """What has gone since the exit at work began, and how that is known."""
        self._asked_again = False
        self._cut = 0
        """Pauses in a row that news has cut."""
        self.pausing = False
        """Nothing of the monitor's own is at work: it waits before an exit is tried again."""

    def begin(self) -> None:
        """Another try begins: what is told from now on may be news to it."""
        self._gone.clear()
        self._asked_again = False

    def obstacle_gone(self, news: ObstacleGone) -> None:
        """What may have stood in the way of an exit has gone."""
        self._gone[news.obstacle] = news.why

    def ask_again(self) -> None:
        """A person wants the pause to end now."""
        self._asked_again = True

    def hodl_changed(self) -> None:
        """The HODL list has changed: an exit waiting for that is retried."""
        self._hodl_changed = True

    async def after_unfinished_exit(self, reason: ExitReason, outcome: OrderOutcome | None, tried: Decimal) -> None:
        """Size is left: a stop is retried with backoff, a profit exit goes back to monitoring.

        `tried` is the size (base) of an exit that sold nothing.
        """
        progress = self._progress
        refused = outcome is None or outcome.state in (OrderState.REJECTED, OrderState.FAILED)
        why = "it failed" if outcome is None else outcome.sentence or outcome.refusal or outcome.state.value
        dropped = outcome is not None and outcome.gate == GateName.NO_LONGER_DUE
        if refused and not dropped:
            await self._after_refusal(reason, why, tried, outcome)
        elif outcome is None or outcome.filled_size == 0:
            if changed(CodeChange.PAUSE_AFTER_NOTHING):
                await self._after_nothing_sold(reason, why, tried, dropped=dropped)
        elif sold_little(reason, outcome):
            await self._after_nothing_sold(reason, why, tried, sold="almost nothing")
        if not price_stop(reason):
            if progress.due is not None and progress.due.reason is reason:
                progress.due = None
            await progress.rearm(f"{reason} did not fill: back to monitoring" if not dropped else why)

    async def _after_refusal(self, reason: ExitReason, why: str, tried: Decimal, outcome: OrderOutcome | None) -> None:
        progress = self._progress
        on_hodl = outcome is not None and outcome.gate == GateName.HODL
        obstacle = None if outcome is None else obstacle_of(outcome.refusal, outcome.gate)
        progress.failures += 1
        workflow.upsert_search_attributes([STATUS.value_set("CLOSING"), EXIT_REASON.value_set(reason.value)])
        progress.tell(f"{reason} was refused ({why}); {money(progress.size)} stay protected")
        pause = self._pause(progress.failures, stop=price_stop(reason))
        if progress.claims > 0:
            # Something else may still sell it: how that ends may be known at any time.
            pause = min(pause, _CLAIMS_LOOK)
        if on_hodl:
            # A list that a person wrote doesn't change by asking again; a person's close is heard at any time.
            # The watcher tells when the list has changed.
            pause, self._on_hodl, self._hodl_changed = _HODL_PAUSE, True, False
        await progress.tell_unsold(why)
        await self._wait_for_better(reason, pause, tried, obstacle)
        self._on_hodl = False

    async def _after_nothing_sold(
        self, reason: ExitReason, why: str, tried: Decimal, *, dropped: bool = False, sold: str = "nothing"
    ) -> None:
        """An exit that was accepted but sold nothing (no liquidity, cancelled, expired), or that no longer applied.

        A stop pauses as after a refusal. A profit exit goes back to monitoring at once, but not again and again.
        """
        progress = self._progress
        stop, now = price_stop(reason), workflow.now()
        failed_at = self._failed_at
        if not stop and failed_at is not None and (now - failed_at).total_seconds() > 2 * self._longest:
            progress.failures = 0
        progress.failures += 1
        self._failed_at = now
        pause = self._pause(progress.failures if stop else progress.failures - 1, stop=stop)
        if not dropped:
            progress.tell(
                f"{reason} sold {sold} ({why}), {progress.failures} in a row; {money(progress.size)} stay protected"
            )
            if progress.failures >= _TELL_AT:
                await progress.tell_unsold(f"it sold {sold} ({why}), {progress.failures} times in a row")
        if pause > 0:
            await self._wait_for_better(reason, pause, tried)

    @property
    def _longest(self) -> float:
        return float(self._progress.start.rules.retry_max_seconds)

    def _pause(self, failures: int, *, stop: bool) -> float:
        if stop and failures > 0 and changed(CodeChange.STOP_AGAIN_WITHIN_FIVE_SECONDS):
            return pause_of_stop(failures, self._longest)
        return pause_after(failures, self._longest)

    async def _wait_for_better(
        self, reason: ExitReason, seconds: float, tried: Decimal, obstacle: Obstacle | None = None
    ) -> None:
        """The pause after an exit that sold nothing, which was for `tried` (base).

        It ends at once where the ledger has less than that by now, as a fill that was missing is known, or less that
        is claimed beside: then the next one is another exit. It ends, too, when the `obstacle` that the exit met is
        told to have gone, though sooner only the first time, and when a person asks. Nothing else that is told ends it.
        """
        if self._progress.failures <= 1:
            self._cut = 0
        self.pausing = True
        try:
            await self._wait(reason, seconds, tried, obstacle)
        finally:
            self.pausing = False

    async def _wait(self, reason: ExitReason, seconds: float, tried: Decimal, obstacle: Obstacle | None) -> None:
        progress, began = self._progress, workflow.now()
        looks = changed(CodeChange.PAUSE_ENDS_WHEN_KNOWN)
        ends = workflow.now() + timedelta(seconds=seconds)
        if looks and 0 < progress.size < tried:
            return
        while True:
            left = max((ends - workflow.now()).total_seconds(), 0.0)
            if not await wait_until(
                lambda: self._is_better(reason) or obstacle in self._gone or (looks and progress.changed),
                left,
                f"before {reason} is tried again",
            ):
                self._cut = 0
                return
            if self._is_better(reason):
                return
            if obstacle in self._gone:
                await self._until_cut(reason, self._gone[obstacle], began, left)
                return
            if await self._is_less_left(reason):
                return

    async def _until_cut(self, reason: ExitReason, why: str, began: datetime, left: float) -> None:
        """The rest of a pause whose obstacle has gone: none the first time, then 1, 2, 4, … seconds since it `began`.

        So news that comes again and again makes no storm of orders. `left` is what the pause itself has left.
        """
        least = pause_of_stop(self._cut, self._longest) - (workflow.now() - began).total_seconds()
        self._cut += 1
        self._progress.tell(f"{why}: {reason} is tried again {f'in {least:.0f} s' if least > 0 else 'now'}")
        if least > 0:
            await wait_until(lambda: self._is_better(reason), min(least, left), f"before {reason} is tried again")

    async def _is_less_left(self, reason: ExitReason) -> bool:
        """Whether the ledger has less of the trade, or less claimed of it, than at the last check."""
        progress = self._progress
        progress.changed = False
        before, claimed = progress.size, progress.claims
        view = await progress.position(reason)
        progress.note(view)
        if view.remaining <= 0 and view.working:
            return False  # what sold the last of it is about to end, and is heard then: the trade closes with it
        progress.flat = view.remaining <= 0
        return progress.size < before or progress.claims < claimed

    def _is_better(self, reason: ExitReason) -> bool:
        """Whether there is no longer a reason to wait before an exit is retried."""
        progress = self._progress
        higher = progress.reason is not None and outranks(progress.reason, reason)
        return higher or (self._on_hodl and self._hodl_changed) or progress.freed or self._asked_again
