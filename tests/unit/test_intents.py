"""When two intents are the same one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from domain.exits import ExitRules
from domain.intents import same_intent
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
