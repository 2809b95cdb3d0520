"""Differences between two requests, in the user's options and units."""

from __future__ import annotations

from decimal import Decimal

import pytest

from cli.order_words import differences
from domain.exits import ExitRules
from domain.messages import Linkage
from domain.orders import TimeInForce
from tests.support.ledger_rows import intent

BEFORE = intent("twice")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rules": ExitRules(hard_stop=Decimal("0.03"))}, "--hard-stop: 5 % then, 3 % now"),
        ({"rules": ExitRules(take_profit=Decimal("0.015"))}, "--take-profit: off then, 1.5 % now"),
        ({"rules": ExitRules(signal_exit=False)}, "--signal-exit then, --no-signal-exit now"),
        (
            {"rules": ExitRules(trailing_step_atr=Decimal(1), max_reprices=3)},
            "the settings of its exits have changed since (trailing step atr, max reprices)",
        ),
        ({"expires_after": Decimal("60.0")}, "--expires: not given then, 60 s now"),
        ({"time_in_force": TimeInForce.FOK}, "--tif: GTC then, FOK now"),
        (
            {"post_only": True, "dry_run": True},
            "--post-only: not given then, given now; --dry-run: not given then, given now",
        ),
        ({"linkage": Linkage(trigger="roc_momo")}, "--trigger: manual then, roc_momo now"),
        ({"entry_key": "ab" * 16}, f"--trade: not given then, {'ab' * 16} now"),
    ],
)
def test_a_request_that_differs_says_in_what(change: dict[str, object], words: str) -> None:
    """Only the differences, named and counted as the user types them."""
    assert differences(BEFORE, BEFORE.model_copy(update=change)) == words


def test_the_same_request_differs_in_nothing() -> None:
    """A repeated request has no differences."""
    assert differences(BEFORE, intent("twice")) == ""
