"""The rules of who gave a command: the ledger's record, else a claim that is marked as one."""

from __future__ import annotations

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.asking import user
from domain.commands import (
    CommandKind,
    TimelineEntry,
    Wish,
    asked_by,
    cancelled_unsent,
    command_of,
    heard_by,
    not_understood,
    through_temporal,
)
from domain.exits import ExitReason
from domain.intents import intent_digest
from domain.messages import CloseRequest, OrderIntent, StopsRequest
from domain.orders import OrderRole
from domain.quoting import QUOTES
from tests.support.intents import market_buy, sell


def test_what_temporal_brings_is_a_claim() -> None:
    """A name from Temporal is shown as a claim; control characters and length can't make it look like more."""
    assert through_temporal("ceo") == "temporal (says ceo)"
    assert through_temporal("") == through_temporal(" \n\x00") == "temporal"
    assert through_temporal("a\nroot") == "temporal (says aroot)"
    assert len(through_temporal("x" * 5000)) < 130


def _exit(reason: ExitReason, **fields: object) -> OrderIntent:
    given = {"entry_point": "exit", "entry_key": "e1", "exit_reason": reason, "role": OrderRole.EXIT, **fields}
    return sell("main", "0.01").model_copy(update=given)


def test_each_order_has_the_command_that_it_carries_out() -> None:
    """An order is its own command for exactly its intent, a close's exit is that of the trade, a stop's is nobody's."""
    bought = market_buy("main")
    assert command_of(bought) == (bought.order_key, CommandKind.ORDER, intent_digest(bought))
    assert command_of(_exit(ExitReason.MANUAL, command="c1")) == ("c1", CommandKind.CLOSE, "e1")
    assert command_of(_exit(ExitReason.HARD_STOP)) is None
    assert command_of(bought.model_copy(update={"entry_point": QUOTES})) is None


def test_the_ledger_goes_before_the_message() -> None:
    """The ledger's record is stored; a rule has no person, unless its message names one, which is a claim."""
    claimed = market_buy("main", asked_by="ceo")
    assert asked_by(claimed, "ann") == "ann"
    assert asked_by(claimed, None) == "temporal (says ceo)"
    assert asked_by(market_buy("main"), None) == "temporal"
    assert asked_by(_exit(ExitReason.HARD_STOP), None) == ""
    assert asked_by(_exit(ExitReason.HARD_STOP, asked_by="ceo"), None) == "temporal (says ceo)"


def in_words(verb: str, request: CloseRequest | None) -> str:
    """As shown by a workflow."""
    return Wish.of(CommandKind.CLOSE, verb, request).in_words


def test_a_workflow_says_no_more_than_it_knows() -> None:
    """It can't read the ledger: a name with a command is shown as the command's, one without as Temporal's."""
    assert in_words("cancelled", CloseRequest(by="ann", note="news")) == "cancelled by temporal (says ann): news"
    assert in_words("closed", None) == "closed by temporal"
    proven = CloseRequest(by="ann", command="0123456789abcdef")
    assert in_words("cancelled", proven) == "cancelled in the name of ann (command 0123456789ab)"
    assert cancelled_unsent("cancelled", proven, "ann") == "cancelled by ann before it was sent"
    assert cancelled_unsent("closed", proven, None) == "closed by temporal (says ann) before it was sent"


def test_fields_of_a_wish_that_nobody_knows_are_named() -> None:
    """A mistyped field is reported by name; an empty field of a later version is ignored, while zero and no are not. Of
    many the first five are named.
    """
    typed = StopsRequest.model_validate({"hardd": "49000", "soft_stop": "49500", "later": None, "more": []})
    assert not_understood(typed) == "`hardd` is not understood"
    closing = CloseRequest.model_validate({"size": "0.5", "price": 3, "by": "ann"})
    assert not_understood(closing) == "`size` and `price` are not understood"
    told = "closed by temporal (says ann) (`size` and `price` are not understood, and ignored)"
    assert in_words("closed", closing) == told
    assert not_understood(CloseRequest(by="ann")) is None
    for nothing in (0, False, 0.0):
        assert not_understood(StopsRequest.model_validate({"hardd": nothing})) == "`hardd` is not understood"
    many = CloseRequest.model_validate({f"x{number}": 1 for number in range(14000)})
    assert not_understood(many) == ("`x0` and `x1` and `x2` and `x3` and `x4` and 13995 more are not understood")


def shown(request: CloseRequest, kind: CommandKind = CommandKind.CANCEL) -> str:
    """A line of a timeline as shown to a person, after ann has cancelled and bob has closed."""
    wish = Wish.of(kind, "cancelled", request)
    line = TimelineEntry.model_validate(
        TimelineEntry(at="14:05:09", sentence=wish.in_words, wish=wish).model_dump(mode="json")
    )
    return line.checked({("cancel", ANNS): "ann", ("close", BOBS): "bob"})


ANNS, BOBS = "0123456789abcdef", "fedcba9876543210"


def test_a_timeline_is_shown_with_the_ledgers_word() -> None:
    """A command about the trade in the ledger names who gave it; without a row, or with another kind of command, it is
    a claim.
    """
    assert shown(CloseRequest(by="root", command=ANNS, note="lunch")) == "14:05:09 cancelled by ann: lunch"
    assert shown(CloseRequest(by="root", command="another", note="lunch")) == (
        "14:05:09 cancelled by temporal (says root): lunch"
    )
    assert shown(CloseRequest(by="root", command=BOBS)) == "14:05:09 cancelled by temporal (says root)"
    assert shown(CloseRequest(by="root", command=BOBS), CommandKind.CLOSE) == "14:05:09 cancelled by bob"
    assert TimelineEntry(at="14:05:09", sentence="protected").checked({}) == "14:05:09 protected"


PIECES = [
    "in the name of ann (command 0123456789ab)", "cancelled in the name of ann (command 0123456789ab)", "by ann",
    "cancelled by ann", "(command 0123456789ab)", "(command ", "in the name of ", ")", ": ", "\n", ANNS, BOBS,
]  # fmt: skip
SAID = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=4).map("".join)


@given(by=SAID, note=SAID, command=SAID, other=SAID)
def test_nothing_that_a_message_says_looks_like_the_ledgers_word(by: str, note: str, command: str, other: str) -> None:
    """Whatever its name, note, command and unknown fields contain, a line first says whose it is, on one line: the
    ledger's ann if her command is in the ledger, else Temporal's.
    """
    request = CloseRequest.model_validate({"by": by, "note": note, "command": command, "x" + other: "1"})
    line = shown(request)
    said = Wish.of(CommandKind.CANCEL, "cancelled", request)
    who = "ann" if command == ANNS else through_temporal(by)
    assert line == f"14:05:09 cancelled by {who}{said.rest}"
    assert line.isprintable()
    assert said.in_words.isprintable()


def test_the_command_line_names_this_machines_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the operating system's user, whatever the environment contains; `--by` is a note."""
    me = pwd.getpwuid(os.getuid()).pw_name
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert user("") == user(me) == me
    assert user("ann") == f"{me} (for ann)"
    assert user("a\nb") == f"{me} (for ab)"


def test_a_close_is_for_the_monitor_first_and_a_cancel_for_the_order() -> None:
    """A close goes to the trade's monitor before its entry; a cancel goes to the order's workflow only."""
    assert heard_by(CommandKind.CLOSE, "k") == ("exit-k", "order-k")
    assert heard_by(CommandKind.CANCEL, "k") == ("order-k",)
    with pytest.raises(ValueError, match="stops"):
        heard_by(CommandKind.STOPS, "k")
