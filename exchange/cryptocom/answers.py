"""The meaning of Crypto.com's answers, by their codes. Pure.

The HTTP status alone says little: business refusals come with 500, "not found" with 200. So the code decides where
there is one, and without one nothing is known. A repeated client order id (204) means that an order with it exists: it
is never a refusal, as what exists may have traded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from exchange.port import (
    UNREADABLE,
    CancelAnswer,
    CancelVerdict,
    CommandRefused,
    ExchangeError,
    NotAccepted,
    OutcomeUnknown,
    Unavailable,
)

__all__ = [
    "AUTH_FAILURE",
    "DUPLICATE",
    "INVALID_NONCE",
    "NOT_FOUND",
    "VenueAnswer",
    "cancel_failure",
    "command_failure",
    "not_active",
    "read_failure",
    "reason_name",
]

AUTH_FAILURE = "AUTH_FAILURE"
NOT_FOUND = "NOT_FOUND"
INVALID_NONCE = "INVALID_NONCE"
DUPLICATE = "DUPLICATE_CLORDID"
_RATE_LIMITED = "RATE_LIMITED"


class _Meaning(Enum):
    REFUSED = auto()
    """The venue decided against it."""
    UNKNOWN = auto()
    """It may or may not have been taken."""
    NOT_TAKEN = auto()
    """It was not looked at, so it may be sent again."""


_NAMES: Mapping[int, str] = {
    202: "ACCOUNT_IS_SUSPENDED",
    204: DUPLICATE,
    206: "INSTRUMENT_EXPIRED",
    207: "NO_MARK_PRICE",
    208: "INSTRUMENT_NOT_TRADABLE",
    209: "INVALID_INSTRUMENT",
    212: "INVALID_ORDERID",
    213: "INVALID_ORDERQTY",
    215: "INVALID_FEE_CURRENCY",
    218: "INVALID_ORDTYPE",
    219: "INVALID_EXECINST",
    220: "INVALID_SIDE",
    221: "INVALID_TIF",
    222: "STALE_MARK_PRICE",
    223: "NO_CLORDID",
    224: "REJ_BY_MATCHING_ENGINE",
    229: "INVALID_REF_PRICE",
    230: "INVALID_TRIGGER_TYPE",
    306: "INSUFFICIENT_AVAILABLE_BALANCE",
    307: "INVALID_ORDSTATUS",
    308: "INVALID_PRICE",
    309: "MARKET_IS_NOT_OPEN",
    312: "ORDER_PRICE_GREATER_THAN_LIMITUPPRICE",
    313: "ORDER_PRICE_LESS_THAN_LIMITDOWNPRICE",
    314: "EXCEEDS_MAX_ORDER_SIZE",
    315: "FAR_AWAY_LIMIT_PRICE",
    316: "NO_ACTIVE_ORDER",
    318: "EXCEEDS_MAX_ALLOWED_ORDERS",
    321: "EXCEEDS_MAX_AVAILABLE_BALANCE",
    415: "BELOW_MIN_ORDER_SIZE",
    10001: "SYS_ERROR",
    10002: AUTH_FAILURE,
    10003: AUTH_FAILURE,
    10006: _RATE_LIMITED,
    10007: INVALID_NONCE,
    40006: "DUPLICATE_REQUEST",
    40101: AUTH_FAILURE,
    40102: INVALID_NONCE,
    40103: AUTH_FAILURE,
    40104: AUTH_FAILURE,
    40401: NOT_FOUND,
    40801: "REQUEST_TIMEOUT",
    42901: _RATE_LIMITED,
    43003: "FILL_OR_KILL",
    43004: "IMMEDIATE_OR_CANCEL",
    43005: "POST_ONLY_REJ",
    43012: "SELF_TRADE_PREVENTION",
    50001: "ERR_INTERNAL",
    120009: "ERR_INTERNAL",
    140001: "API_DISABLED",
    9010001: "MAINTENANCE",
}
"""Codes with a name of ours; the venue's own word is taken for any other."""

_NOT_TAKEN = frozenset({10002, 10003, 10006, 10007, 40101, 40102, 40103, 40104, 42901})
_UNKNOWN = frozenset({204, 10001, 40006, 40801, 50001, 120009, 9010001})
_EXISTED = frozenset({43003, 43004, 43005, 43012})
"""The order was made and has ended: its detail says with which fills."""
_NOT_ACTIVE = frozenset({212, 307, 316, 40401})


@dataclass(frozen=True, slots=True)
class VenueAnswer:
    """An answer of the venue: its HTTP status, its code (None if the body was not an envelope), and its words."""

    status: int
    code: int | None
    message: str
    result: Mapping[str, object]
    retry_after: float | None = None

    @staticmethod
    def of(status: int, body: object, *, retry_after: float | None = None) -> VenueAnswer:
        """The answer in a decoded body, which may be anything. Codes come as numbers or as text."""
        if not isinstance(body, Mapping):
            return VenueAnswer(status, None, "the body is not a JSON object", {}, retry_after)
        result = body.get("result")
        return VenueAnswer(
            status,
            _code(body.get("code")),
            str(body.get("message") or body.get("msg") or ""),
            result if isinstance(result, Mapping) else {},
            retry_after,
        )

    @property
    def fine(self) -> bool:
        """The venue has done what was requested."""
        return self.code == 0 and 200 <= self.status < 300

    @property
    def name(self) -> str:
        """The code in words: ours, else the venue's, else its number."""
        if self.code is None:
            return f"HTTP_{self.status}"
        known = _NAMES.get(self.code)
        if known is not None:
            return known
        word = self.message.strip().upper()
        return word if word.replace("_", "").isalnum() and word[:1].isalpha() else f"CODE_{self.code}"

    def said(self, what: str) -> str:
        """A sentence about this answer to `what`."""
        words = self.message or self.name
        return f"{what}: the venue answered {self.status}: {words}{'' if self.code is None else f' ({self.code})'}"


def reason_name(value: object) -> str:
    """The reason of an order's end, as its rows have it (a code, or words), in our words; empty for none."""
    code = _code(value)
    if code is None:
        return value if isinstance(value, str) else ""
    return _NAMES.get(code, f"CODE_{code}") if code else ""


def _code(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _meaning(answer: VenueAnswer) -> _Meaning:
    code = answer.code
    if code in _NOT_TAKEN or (code is None and answer.status == 429):
        return _Meaning.NOT_TAKEN
    if code is None or code == 0 or code in _UNKNOWN or code in _EXISTED:
        return _Meaning.UNKNOWN
    # A code that nobody documents, with a status that says the venue failed, may come after the order was taken.
    if code not in _NAMES and answer.status >= 500 and answer.code is not None and code >= 1000:
        return _Meaning.UNKNOWN
    return _Meaning.REFUSED


def command_failure(what: str, answer: VenueAnswer) -> ExchangeError:
    """The error for a command that was answered, but not with success."""
    words = answer.said(what)
    meaning = _meaning(answer)
    if meaning is _Meaning.NOT_TAKEN:
        if answer.name == AUTH_FAILURE:
            words += "; check the API key, its permissions, its list of addresses and this machine's clock"
        code = answer.name if answer.code is not None else _RATE_LIMITED
        return NotAccepted(words, code=code, retry_after=answer.retry_after)
    if meaning is _Meaning.UNKNOWN:
        if answer.code == 204:
            words += "; an order with this id exists"
        code = answer.name if answer.code else "OUTCOME_UNKNOWN"
        return OutcomeUnknown(words, code=code, retry_after=answer.retry_after)
    return CommandRefused(words, code=answer.name)


def read_failure(what: str, answer: VenueAnswer) -> Unavailable:
    """The error for a read that was answered, but not with success."""
    code: str | None = answer.name
    if answer.code is None or answer.code == 0:
        by_status = {401: AUTH_FAILURE, 403: AUTH_FAILURE, 429: _RATE_LIMITED}
        code = by_status.get(answer.status, UNREADABLE if answer.status < 300 else None)
    return Unavailable(answer.said(what), code=code, retry_after=answer.retry_after)


def not_active(answer: VenueAnswer) -> bool:
    """The venue says that there is no such order to cancel (any more)."""
    return answer.code in _NOT_ACTIVE


def cancel_failure(what: str, answer: VenueAnswer) -> CancelAnswer:
    """The verdict on a cancel that was not taken. What is not active has ended, or was never there.

    Raises:
        NotAccepted: the venue certainly did not look at it.
        OutcomeUnknown: it may or may not have been taken.
    """
    if answer.code in (212, 40401):
        return CancelAnswer(CancelVerdict.UNKNOWN_ORDER, answer.name)
    if not_active(answer):
        return CancelAnswer(CancelVerdict.ALREADY_DONE, answer.name)
    problem = command_failure(what, answer)
    if isinstance(problem, CommandRefused):
        return CancelAnswer(CancelVerdict.REFUSED, problem.code)
    raise problem
