"""Strict JSON: one unambiguous reading, or a sentence with the place of the error.

Input that parsers treat differently is refused here: duplicate keys, text that is not UTF-8, control characters, deep
nesting. NaN, Infinity and numbers too long or too large for any amount are read as Decimal("NaN"), so that the field
decides whether it matters.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from domain.amounts import LONGEST_NUMBER
from domain.errors import BotTraderError

__all__ = ["BadJson", "check_texts", "read_json"]

_LARGEST_EXPONENT = 30
_NAME = re.compile(r"[A-Za-z_]{1,40}")
_NO_NUMBER: Final = Decimal("NaN")


class BadJson(BotTraderError):
    """The text can't be read; its text is a sentence without a full stop."""

    code = "BAD_JSON"


def read_json(raw: bytes, *, max_depth: int) -> Any:
    """The value of `raw`; fractions as Decimal, non-numbers as Decimal("NaN"). Raises BadJson.

    Its strings may still contain invalid characters: `check_texts` checks them.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"the body is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise BadJson("the body is empty; it must be a JSON object")
    _check_depth(text, max_depth)
    try:
        return json.loads(
            text,
            strict=False,  # a line break as it is means no other text than one that is escaped
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_number,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise BadJson(f"the body is not JSON: {error.msg[:1].lower()}{error.msg[1:]} (character {error.pos})") from None


def _check_depth(text: str, most: int) -> None:
    depth, inside, escaped = 0, False, False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            if depth > most:
                raise BadJson(f"the JSON is nested deeper than {most}")
        elif character in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadJson(f"the key {_shown(key)} occurs twice")
        found[key] = value
    return found


def _constant(_: str) -> Decimal:
    return _NO_NUMBER


def _number(text: str) -> Decimal:
    if len(text) > LONGEST_NUMBER:
        return _NO_NUMBER
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent that is beyond every number of ours, such as 1e99999999999999999999
        return _NO_NUMBER
    return value if value.is_finite() and abs(value.adjusted()) <= _LARGEST_EXPONENT else _NO_NUMBER


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= LONGEST_NUMBER else _NO_NUMBER


def check_texts(value: Any) -> None:
    """Raises BadJson for a string in the result of `read_json` (so its depth is limited) with a control character or a
    lone surrogate.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            check_texts(item)
    elif isinstance(value, list):
        for item in value:
            check_texts(item)
    elif isinstance(value, str):
        _check_text(value)


def _check_text(text: str) -> None:
    for character in text:
        if character < " " or "\x7f" <= character <= "\x9f":
            raise BadJson(f"control characters (here U+{ord(character):04X}) are not allowed in a string")
        if "\ud800" <= character <= "\udfff":
            raise BadJson("a string has half of a surrogate pair")


def _shown(key: str) -> str:
    """A known field's name; anything else is not shown, because it may be a misplaced secret."""
    return json.dumps(key) if _NAME.fullmatch(key) else f"of {len(key)} characters"
