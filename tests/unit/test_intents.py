"""When two intents are the same one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from domain.exits import ExitRules
from domain.intents import as_entered, same_intent
from tests.support.intents import limit_buy, sell


@pytest.mark.parametrize(
    "change",
    [
        {"rules": ExitRules(hard_stop=Decimal("0.04"))},
        {"rules": ExitRules(take_profit=Decimal("0.03"))},
        {"rules": ExitRules(signal_exit=False)},
        {"expires_after": Decimal(300)},
        {"limit_price": Decimal(49_000)},
    ],
)
def test_other_content_is_another_intent(change: dict[str, Any]) -> None:
    """What a trade is left by, and when it expires, are part of what was asked for, as size and price are."""
    asked = limit_buy("main", "0.1", "50000", request_id="once")
    assert not same_intent(asked, asked.model_copy(update=change))


def test_the_same_number_written_otherwise_is_the_same_intent() -> None:
    """0.05 and 0.050 are the same stop, and a rule that has its default may be given or not."""
    asked = limit_buy("main", "0.1", "50000", request_id="once")
    assert same_intent(asked, asked.model_copy(update={"rules": ExitRules(hard_stop=Decimal("0.050"))}))
    tight = asked.model_copy(update={"rules": ExitRules(hard_stop=Decimal("0.04"))})
    assert same_intent(tight, asked.model_copy(update={"rules": ExitRules(hard_stop=Decimal("0.040"))}))


def test_an_exit_is_the_same_whatever_the_rules() -> None:
    """The rules never stop a trade's own exit from being asked for again."""
    asked = sell("main", "0.1", entry_key="0" * 32, request_id="once")
    assert same_intent(asked, asked.model_copy(update={"rules": ExitRules(max_reprices=9)}))


def test_the_fee_rate_is_no_part_of_what_was_asked_for() -> None:
    """An entry that is asked for again after the account's rate has changed is the same entry."""
    asked = limit_buy("main", "0.1", "50000", request_id="once")
    assert same_intent(asked, asked.model_copy(update={"rules": ExitRules(taker_rate=Decimal("0.004"))}))


def test_what_a_person_entered_has_no_signal_exit_unless_asked_for() -> None:
    """The strategy's entries keep what their rules say; a person's do only where the message says so."""
    ours = limit_buy("main", "0.1", "50000", request_id="once")
    theirs = ours.model_copy(update={"entry_point": "manual"})
    asked = theirs.model_copy(update={"signal_exit": True})
    assert [as_entered(item).rules.signal_exit for item in (ours, theirs, asked)] == [True, False, True]
    assert as_entered(as_entered(theirs)) == as_entered(theirs)
