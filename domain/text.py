"""Values, and text from elsewhere (an alert, an import, a strategy of one's own), as they may be shown and written.

What is stored is left as it came; these are for the moment in which somebody, or somebody's spreadsheet, reads it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from typing import Final

__all__ = ["FORMULA_STARTS", "html_text", "shown", "spreadsheet_text", "visible"]

FORMULA_STARTS: Final = "=+-@\t\r"
"""A cell that begins so is a formula to a spreadsheet, and may call programs or send what stands beside it."""

_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but the new line, and those that turn the direction of what follows."""


def visible(text: str) -> str:
    """The text with what nobody sees, but what changes the order or look of the rest, written out (\\u202e)."""
    return text if text.isprintable() else _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown(value: object) -> str:
    """A value as a person reads it: no exponents, times in UTC to the second, nothing for None.

    Control characters of a text, and those that turn its direction, are written out: a terminal would obey them.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    return visible(str(value))


def html_text(text: str) -> str:
    """The text as HTML, with nothing unseen in it."""
    return escape(visible(text))


def spreadsheet_text(text: str) -> str:
    """The text as a cell of a CSV file that no spreadsheet takes for a formula: with an apostrophe before it."""
    return f"'{text}" if text[:1] and text[0] in FORMULA_STARTS else text
