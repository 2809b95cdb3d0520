"""Values, and text from outside (an alert, an import, a user's strategy), made safe to show and write.

Stored text is not changed; these functions are for showing it to a person or writing it to a spreadsheet.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from typing import Final

__all__ = ["FORMULA_STARTS", "html_text", "shown", "spreadsheet_text", "visible"]

FORMULA_STARTS: Final = "=+-@\t\r"
"""A spreadsheet treats a cell that begins with one of these as a formula, which may run programs or send neighbouring
cells."""

_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters except the newline, and characters that change the text direction."""


def visible(text: str) -> str:
    """The text with what nobody sees, but what changes the order or look of the rest, written out (\\u202e)."""
    return text if text.isprintable() else _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown(value: object) -> str:
    """A value as a person reads it: no exponents, times in UTC to the second, nothing for None.

    Control characters and direction changes are written out, because a terminal would act on them.
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
    """The text as HTML, without invisible characters."""
    return escape(visible(text))


def spreadsheet_text(text: str) -> str:
    """The text as a CSV cell that no spreadsheet reads as a formula: with a leading apostrophe if needed."""
    return f"'{text}" if text[:1] and text[0] in FORMULA_STARTS else text
