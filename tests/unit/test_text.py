"""External text: nothing is hidden in it, and no spreadsheet executes it."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.report_figures import write_csv
from domain.text import FORMULA_STARTS, html_text, shown, spreadsheet_text, visible


@given(st.text())
def test_what_is_shown_has_no_control_characters(text: str) -> None:
    """For any text, the output for a terminal or a page has no direction or control characters."""
    for made in (visible(text), html_text(text), shown(text)):
        assert not {
            letter for letter in made if letter != "\n" and (letter < " " or letter in "\x7f\x9b\u202e\u2066\u200f")
        }
    assert visible(visible(text)) == visible(text)
    if text.isprintable():
        assert visible(text) == text


@given(st.text())
def test_no_cell_begins_as_a_formula(text: str) -> None:
    """A text that a spreadsheet would compute gets an apostrophe before it; every other is unchanged."""
    cell = spreadsheet_text(text)
    assert cell[:1] not in set(FORMULA_STARTS)
    assert cell == (text if text[:1] not in set(FORMULA_STARTS) else f"'{text}")


def test_csv_keeps_numbers_below_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """A loss is a number, not a formula; a name that begins like one is a text."""
    from decimal import Decimal

    write_csv([{"group": "=1+1", "pnl": Decimal("-2.50"), "mean": -0.5}])
    (line,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert line == {"group": "'=1+1", "pnl": "-2.5", "mean": "-0.5"}
