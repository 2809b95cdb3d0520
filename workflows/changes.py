"""The changes of workflow code, and which of them a run has.

A run whose history older code began must go on as that code did, so a change of what a workflow does is a `CodeChange`,
and the code asks `changed`. A run that begins with today's code has all of today's changes: `begin` records that once,
as its very first command, and none of the changes leaves a marker of its own. An older run is asked for each change
where the code meets it, as it always was.

That the record comes first is more than tidiness. A marker that follows a local activity can be lost to a replay: where
a query is answered while the activity's result is on its way, Temporal's core ends the workflow task between the two,
and a replay passes the place before it has heard of the marker. The run then can't go on: its stop would wait for ever.

To add a change: add it to `CodeChange`, and ask `changed` where the code differs. Once the newest of `_RECORDS` is
released, a further change comes with a new record, whose place it has in `_SINCE`.
"""

from __future__ import annotations

from enum import StrEnum

from temporalio import workflow
from temporalio.exceptions import ApplicationError

__all__ = ["UNREPLAYABLE", "CodeChange", "begin", "changed", "is_unreplayable"]

UNREPLAYABLE = [workflow.NondeterminismError, RuntimeError]
"""A run of an order or a trade whose history doesn't fit its code fails: another run goes on from the ledger, which has
all that it needs. By Temporal's default it would try the same history again for ever, and a due stop would wait. The
SDK raises RuntimeError where a result isn't of the type that is asked for. Workers are told so, workflows are not:
a test's replay has to notice what doesn't fit.
"""

_TYPES = (None, *(kind.__name__ for kind in (RuntimeError, NotImplementedError, RecursionError)))
"""The types of error of such a run, as a parent sees them: none is core's own, the others are Python's."""

_RECORDS = ("all changes until December 2026",)
"""Each says that a run has from its start all changes that there were by then; the oldest first."""


class CodeChange(StrEnum):
    """What workflow code does otherwise than it once did; the value is in histories and never changes."""

    ANSWERS_UNNEEDED = "an answer that nothing depends on any more is not waited for"
    BACKOFF_AFTER_ENDED_POST_ONLY = "back-off before a post-only attempt follows one that was ended"
    CANCELLED_STAYS_CANCELLED = "what somebody else cancels at the exchange stays cancelled"
    CLAIM_BEFORE_LEFT_BEHIND = "an exit that has no claim in the ledger yet is not left behind"
    CLOSE_HOLDS_FOR_LATER_FILLS = "a close holds for what fills later"
    DUE_BEFORE_REPLACEMENT = "what is due goes before a protection that is being replaced"
    DUST_IS_NOTHING = "dust beside what may still sell a trade is nothing to sell"
    EARLIER_EXITS_END_FIRST = "exits of an earlier monitor end before another is sent"
    EARLIER_EXIT_STANDS_DOWN = "an earlier monitor's exit that was waited for stands down for what became due meanwhile"
    ENTRY_WAITED_FOR = "what an entry may still fill is waited for"
    GONE_EXIT_ASKED_AGAIN = "an exit whose workflow was gone is asked again to stand down"
    HALF_A_SECOND_FOR_PROTECTION = "an exit waits half a second for its protection to leave"
    HIGHER_GOES_FIRST = "no exit is begun for a reason that a higher one goes before"
    HIGHER_WAITS_HALF_A_SECOND = "a higher exit waits half a second for a lower one"
    LEFT_BEHIND_END_FIRST = "exits that were left behind end before their trade is closed"
    LESS_AFTER_LACK_OF_FUNDS = "an exit that is refused for lack of funds asks for less"
    LIMIT_AFTER_REFUSED_MARKET = "a MARKET exit that the product doesn't take is followed by a limit at once"
    LOOK_AFTER_OTHER_SELLS = "look-when-an-entry-ends-after-other-sells"
    LOOK_FOR_DUST = "look whether an entry that ended short left dust"
    LOWER_LOOKED_AT_AGAIN = "what a lower exit may still sell is looked at again"
    NEW_HISTORY_WHILE_DUE = "a history starts anew also while an exit is due"
    PAUSE_AFTER_LITTLE = "a pause after an exit sold next to nothing"
    PAUSE_AFTER_NOTHING = "a pause after an exit sold nothing"
    PAUSE_ENDS_WHEN_KNOWN = "a pause ends when what its exit could not know is known"
    PROMISES_IN_LEDGER = "an accepted close or cancel is kept in the ledger"
    PROTECTION_ASKED_ONCE = "a protection that was asked to leave a moment ago is not asked again"
    PROTECTION_END_HEARD = "the end of a protection is heard while it is asked to leave, and from the ledger"
    SECOND_CLOSE_ENDS_PAUSE = "a close that is asked for again ends the pause before the next exit"
    SMALLER_PROTECTION_IS_ENOUGH = "a protection that may not sell all of it any more is waited for no longer"
    STOP_AGAIN_WITHIN_FIVE_SECONDS = "a stop that sold nothing is tried again within five seconds"
    STOP_BEYOND_MARKET_IS_DUE = "a protective stop that is refused as the market is beyond it is due"
    TAKEN_LEG_PASSED_OVER = "a leg that the ledger has for another exit is passed over"
    TERMINATED_EXIT_GOES_ON = "an exit order whose workflow was terminated goes on in another"
    TOLD_LATER = "people are told that an exit waits once an end has had its time to be confirmed"
    TOLD_SIZE_IS_ENOUGH = "an exit whose size is told is waited for no longer"
    UNREPLAYABLE_EXIT_GOES_ON = "an exit order whose history doesn't fit its code goes on in another"
    UNSOLD_SELL_TELLS_MONITOR = "a sell of a trade that ended without a fill tells the exit monitor"
    UNTAKEN_SIZE_NOT_AGAIN = "a protection is not replaced again for a size that the exchange has not taken"


_SINCE: dict[CodeChange, int] = {}
"""The place in `_RECORDS` of the first record that a change belongs to, where it isn't the oldest one."""


def begin() -> None:
    """Record that this run has all changes from its start, unless its history says that it has not.

    Every workflow that asks for changes calls it first of all, before anything that it awaits.
    """
    any(workflow.patched(record) for record in reversed(_RECORDS))


def changed(change: CodeChange) -> bool:
    """Whether this run has the change."""
    records = _RECORDS[_SINCE.get(change, 0) :]
    return any(workflow.patched(record) for record in reversed(records)) or workflow.patched(change.value)


def is_unreplayable(cause: BaseException | None) -> bool:
    """Whether a child failed as its history didn't fit its code."""
    return isinstance(cause, ApplicationError) and cause.type in _TYPES
