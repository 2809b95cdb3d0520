"""Values as the API returns them: money and sizes as text without exponent, times as ISO 8601 in UTC with a Z."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, AwareDatetime, PlainSerializer
from starlette.responses import Response

from domain.money import plain

__all__ = ["GivenTime", "Number", "PlainJson", "as_plain", "moment"]

Number = Annotated[Decimal, PlainSerializer(plain, return_type=str)]
"""Money or a size in an answer: text."""


def moment(value: datetime) -> str:
    """A time as text."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is before the year 1 or after 9999 in UTC") from None


GivenTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time in a request, with its zone; in UTC from here on."""


def as_plain(value: Any) -> Any:
    """The same for JSON, at any depth. NaN and infinite numbers are null: they are not known."""
    if isinstance(value, Decimal):
        return plain(value) if value.is_finite() else None
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Mapping):
        return {str(name): as_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain(part) for part in value]
    return value


class PlainJson(Response):
    """An answer of such values."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return orjson.dumps(as_plain(content))
