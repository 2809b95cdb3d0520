"""A REST request as the handlers get it, and the errors of a malformed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from exchange.paper.coinbase import render
from exchange.paper.errors import ApiError
from exchange.paper.numbers import parse_time, whole

__all__ = ["Call", "read_body", "read_cursor", "read_moment", "read_seconds", "spot"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its path's variables, query (repeated names kept) and JSON body."""

    variables: tuple[str, ...]
    query: Mapping[str, list[str]]
    body: Mapping[str, object]
    lag: float = 0.0
    """Seconds by which the account's data is delayed."""

    def one(self, name: str) -> str | None:
        """A query argument, or None if it is absent or empty."""
        values = self.query.get(name)
        return values[0] if values and values[0] != "" else None

    def many(self, name: str) -> list[str]:
        """A repeated query argument (comma-separated is accepted too)."""
        return [part for value in self.query.get(name, ()) for part in value.split(",") if part]

    def limit(self, default: int, most: int) -> int:
        """The `limit` argument. Raises `ApiError` if it is not a number."""
        text = self.one("limit")
        if text is None:
            return default
        number = whole(text)
        if number is None:
            raise ApiError(400, "INVALID_ARGUMENT", "limit must be a whole number")
        return min(number or default, most)

    def text(self, name: str) -> str:
        """A required string of the body. Raises `ApiError` if it is missing."""
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise ApiError(400, "INVALID_ARGUMENT", f"{name} is required")
        return value


def read_body(raw: bytes) -> Mapping[str, object]:
    """The JSON object of a body, empty if there is none. Raises `ApiError`."""
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "INVALID_ARGUMENT", "the body is not JSON") from error
    if not isinstance(body, dict):
        raise ApiError(400, "INVALID_ARGUMENT", "the body must be a JSON object")
    return body


_PRODUCT_TYPES = {"UNKNOWN_PRODUCT_TYPE": True, "SPOT": True, "FUTURE": False}


def spot(call: Call) -> bool:
    """Whether the requested `product_type` is traded here. Raises `ApiError` for a type that the venue doesn't have."""
    asked = call.one("product_type") or "SPOT"
    if asked not in _PRODUCT_TYPES:
        raise ApiError(400, "INVALID_ARGUMENT", f"product_type must be one of {', '.join(_PRODUCT_TYPES)}")
    return _PRODUCT_TYPES[asked]


def read_cursor(text: str, length: int) -> list[float]:
    """The numbers in a page cursor. Raises `ApiError` if it is not one of ours for this list."""
    key = [value for value in render.read_cursor(text) if isinstance(value, int | float) and value >= 0]
    if len(key) != length:
        raise ApiError(400, "INVALID_ARGUMENT", "cursor is not valid for this list")
    return key


def read_seconds(text: str | None) -> int | None:
    """Unix seconds from text in Unix seconds or an RFC 3339 time. Raises `ApiError`."""
    if text is None:
        return None
    seconds = whole(text)
    if seconds is not None:
        return seconds
    moment = parse_time(text)
    if moment is None:
        raise ApiError(400, "INVALID_ARGUMENT", "start and end must be unix seconds")
    return int(moment.timestamp())


def read_moment(text: str | None) -> datetime | None:
    """A zoned time from RFC 3339 text. Raises `ApiError`."""
    if text is None:
        return None
    moment = parse_time(text)
    if moment is None:
        raise ApiError(400, "INVALID_ARGUMENT", f"{text} is not an RFC 3339 time")
    return moment.astimezone(UTC)
