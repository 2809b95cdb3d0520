"""One request as the handlers get it, with the venue's strictness about types.

A field that the venue doesn't know is ignored without a word, so a misspelt one does nothing. Amounts must be strings:
a number instead is refused with a code that depends on the field. `limit` must be a whole number, not a string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from exchange.paper.cryptocom.answers import Answered
from exchange.paper.numbers import parse

__all__ = ["MethodCall", "amount", "moment_ns", "text"]

_LONGEST_ID = 36
_AS_NUMBER = {"price": 308, "quantity": 40101, "notional": 50001, "ref_price": 229, "new_price": 308}
"""The code for a number where a string belongs, as the venue answers it."""
_WRONG = {"price": 308, "new_price": 308, "ref_price": 229, "new_ref_price": 229}
"""The code for a string that is not a positive amount."""
_NS_FROM = 10**15
"""Times from here on are in nanoseconds, below in milliseconds."""
_TIME = re.compile(r"\d{1,19}", re.ASCII)
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class MethodCall:
    """A method with its parameters. `lag`: seconds by which the account's data is delayed; `origin`: the connection."""

    method: str
    request_id: object
    nonce: object
    params: Mapping[str, object]
    lag: float = 0.0
    origin: object = None

    def required(self, name: str) -> str:
        """A required string. Raises `Answered`."""
        found = text(self.params, name)
        if found is None:
            raise Answered(40004, f"{name} is required")
        return found

    def limit(self, default: int, most: int, name: str = "limit") -> int:
        """A count of rows: a whole number from 1 to `most`. Raises `Answered`."""
        value = self.params.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise Answered(40003, f"{name} must be a whole number")
        if value < 1:
            raise Answered(40004, f"{name} must be at least 1")
        return min(value, most)

    def span(self, now_ns: int) -> tuple[int, int]:
        """`start_time` (inclusive) and `end_time` (exclusive) in ns; by default the last day. Raises `Answered`."""
        end = moment_ns(self.params.get("end_time"))
        end = now_ns + 1 if end is None else end
        start = moment_ns(self.params.get("start_time"))
        start = end - _DAY_NS if start is None else start
        if start > end:
            raise Answered(40005, "start_time must be before end_time")
        return start, end

    def client_oid(self, params: Mapping[str, object] | None = None) -> str:
        """The client order id of an order in `params`, "" if it has none. Raises `Answered`."""
        found = text(self.params if params is None else params, "client_oid")
        if found is not None and len(found) > _LONGEST_ID:
            raise Answered(40004, f"client_oid has at most {_LONGEST_ID} characters")
        return found or ""


def text(params: Mapping[str, object], name: str) -> str | None:
    """A string among parameters, None if it is missing or empty. Raises `Answered` for another type."""
    value = params.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Answered(40004, f"{name} must be a string")
    return value


def amount(params: Mapping[str, object], name: str) -> Decimal | None:
    """A positive amount in a string; None if it is missing. Raises `Answered`."""
    value = params.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Answered(_AS_NUMBER.get(name, 40003), f"{name} must be a string")
    number = parse(value)
    if number is None or number <= 0:
        raise Answered(_WRONG.get(name, 213), f"{name} must be a positive decimal number")
    return number


def moment_ns(value: object) -> int | None:
    """Unix time in ns from a number or string of ms or ns; None if it is missing. Raises `Answered`."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not _TIME.fullmatch(str(value)):
        raise Answered(40005, "a time is in milliseconds or nanoseconds")
    number = int(value)
    return number if number >= _NS_FROM else number * 10**6
