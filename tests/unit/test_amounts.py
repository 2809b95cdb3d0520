"""Amounts and prices written by people and programs: one grammar everywhere."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli.tickets import amount
from domain.amounts import number_in, out_of_range
from web.alert import Alert
from workers.errors import UserError

_WRITTEN = st.text("0123456789.eE+-_ \u0661x", max_size=44) | st.decimals(allow_nan=True).map(str)


def _by_alert(text: str) -> Decimal | None:
    try:
        alert = Alert.model_validate({"key": "k", "symbol": "BTC-USD", "action": "buy", "size_base": text})
    except ValueError:
        return None
    return alert.size_base


@given(_WRITTEN)
@example("0" * 39 + "1")
@example(" 0.25 ")
@example("1e-18")
@example("1e-19")
@example("1e15")
@example("1e16")
@example("0.10")
def test_the_command_line_and_an_alert_read_the_same_amounts(text: str) -> None:
    """The command line and alerts read every text as the same exact number, or both refuse it."""
    sent = _by_alert(text)
    if sent is not None:
        assert amount("--size", text) == sent
        return
    with pytest.raises(UserError) as refused:
        amount("--size", text)
    assert refused.value.code == "BAD_NUMBER"


@pytest.mark.parametrize("text", ["", ".", "-", "1_000", "\u0661", "NaN", "Infinity", "1e999", "0x1", "1 0", "1" * 41])
def test_what_is_no_number(text: str) -> None:
    """Texts that Python reads as numbers, or nearly, are not accepted as money."""
    assert number_in(text) is None


@pytest.mark.parametrize(
    ("text", "fits"), [("0", True), ("1e-18", True), ("9.9e-19", False), ("9e15", True), ("1e16", False)]
)
def test_how_large_and_small_an_amount_may_be(text: str, fits: bool) -> None:
    """Numbers that no market has are refused, too large and too small ones."""
    assert (out_of_range(Decimal(text)) is None) is fits
