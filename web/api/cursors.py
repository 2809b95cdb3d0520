"""Cursors of lists: the place where the next page begins, valid for the same filters only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from web.refusals import Refused

__all__ = ["cursor_of", "place_of"]

_LONGEST = 400


def cursor_of(filters: Mapping[str, object], *place: object) -> str:
    """A cursor for a place in a list with these filters."""
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in place]
    raw = json.dumps([_digest(filters), *parts], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def place_of(cursor: str | None, filters: Mapping[str, object], *kinds: type) -> tuple[Any, ...] | None:
    """The place that a cursor stands for, with values of these types; None without a cursor.

    Raises Refused(422, BAD_CURSOR) for one of another list or other filters, or a made-up one.
    """
    if cursor is None:
        return None
    try:
        if len(cursor) > _LONGEST:
            raise ValueError
        parts = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(parts, list) or len(parts) != len(kinds) + 1 or parts[0] != _digest(filters):
            raise ValueError
        return tuple(_value(part, kind) for part, kind in zip(parts[1:], kinds, strict=True))
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise Refused(
            422,
            "BAD_CURSOR",
            "This cursor does not belong to this list with these filters: begin without one.",
            field="cursor",
        ) from None


def _value(part: object, kind: type) -> object:
    if kind is datetime:
        found = datetime.fromisoformat(str(part))
        if found.tzinfo is None:
            raise ValueError
        return found.astimezone(UTC)
    if kind is int and isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 2**63:
        return part
    if kind is str and isinstance(part, str) and "\x00" not in part:
        part.encode()  # half a character can't be compared with anything
        return part
    raise ValueError


def _digest(filters: Mapping[str, object]) -> str:
    said = json.dumps(
        {name: value for name, value in filters.items() if value is not None}, sort_keys=True, default=str
    )
    return hashlib.sha256(said.encode()).hexdigest()[:16]
