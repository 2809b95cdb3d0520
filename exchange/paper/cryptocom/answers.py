"""The venue's codes: each with its name and HTTP status, and the code that a refusal of the engine becomes.

The HTTP status alone says little: 306 and other plain refusals come with 500, 40401 and 43012 with 200.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from domain.errors import InternalSignal
from exchange.paper.errors import Refusal

__all__ = ["CODES", "Answered", "code_of", "envelope"]

# code, name, HTTP status
_TABLE = """
207    NO_MARK_PRICE                   400
204    DUPLICATE_CLORDID               400
208    INSTRUMENT_NOT_TRADABLE         400
209    INVALID_INSTRUMENT              400
212    INVALID_ORDERID                 500
213    INVALID_ORDERQTY                400
215    INVALID_FEE_CURRENCY            500
218    INVALID_ORDTYPE                 400
219    INVALID_EXECINST                500
220    INVALID_SIDE                    400
221    INVALID_TIF                     400
222    STALE_MARK_PRICE                400
224    REJ_BY_MATCHING_ENGINE          400
229    INVALID_REF_PRICE               400
230    INVALID_REF_PRICE_TYPE          400
306    INSUFFICIENT_AVAILABLE_BALANCE  500
307    INVALID_ORDSTATUS               500
308    INVALID_PRICE                   400
309    MARKET_IS_NOT_OPEN              500
314    EXCEEDS_MAX_ORDER_SIZE          400
315    FAR_AWAY_LIMIT_PRICE            400
316    NO_ACTIVE_ORDER                 500
318    EXCEEDS_MAX_ALLOWED_ORDERS      400
415    BELOW_MIN_ORDER_SIZE            500
10004  BAD_REQUEST                     400
40001  BAD_REQUEST                     400
40002  METHOD_NOT_FOUND                400
40003  INVALID_REQUEST                 400
40004  MISSING_OR_INVALID_ARGUMENT     400
40005  INVALID_DATE                    400
40006  DUPLICATE_REQUEST               400
40101  UNAUTHORIZED                    401
40102  INVALID_NONCE                   400
40103  IP_ILLEGAL                      401
40104  USER_TIER_INVALID               401
40107  EXCEED_MAX_SUBSCRIPTIONS        400
40401  NOT_FOUND                       200
40801  REQUEST_TIMEOUT                 408
42901  TOO_MANY_REQUESTS               429
43003  FILL_OR_KILL                    500
43004  IMMEDIATE_OR_CANCEL             500
43005  POST_ONLY_REJ                   500
43012  SELF_TRADE_PREVENTION           200
50001  ERR_INTERNAL                    400
120009  REJECTED                       500
130008  NON_APPLICABLE                 500
140001  API_DISABLED                   400
9010001  SYSTEM_MAINTENANCE            500
"""

CODES: Mapping[int, tuple[str, int]] = {
    int(code): (name, int(status)) for code, name, status in (line.split() for line in _TABLE.strip().splitlines())
}
"""Name and HTTP status by code."""

_OF_REASON = {
    "INVALID_PRODUCT_ID": 209,
    "ORDER_ENTRY_DISABLED": 208,
    "UNSUPPORTED_ORDER_CONFIGURATION": 218,
    "INVALID_PRICE_PRECISION": 308,
    "INVALID_LIMIT_PRICE": 308,
    "INVALID_STOP_PRICE": 229,
    "INVALID_SIZE_PRECISION": 213,
    "INVALID_LIMIT_PRICE_POST_ONLY": 43005,
    "INSUFFICIENT_FUND": 306,
    "ONLY_LIMIT_ORDER_EDITS_SUPPORTED": 218,
    "CAN_ONLY_EDIT_OPEN_ORDERS": 316,
    "CANNOT_EDIT_TO_BELOW_FILLED_SIZE": 213,
    "INVALID_EDITED_PRICE": 308,
    "INVALID_EDITED_SIZE": 213,
}
_OF_PREVIEW = {
    "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE": 314,
    "PREVIEW_INVALID_QUOTE_SIZE_TOO_LARGE": 314,
    "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL": 415,
    "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL": 415,
}


class Answered(InternalSignal):
    """The request is answered with this code, and perhaps a result beside it."""

    def __init__(self, code: int, message: str = "", result: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message or CODES[code][0]
        self.result = result


def code_of(refusal: Refusal) -> int:
    """The venue's code for a refusal of the engine."""
    return _OF_PREVIEW.get(refusal.preview) or _OF_REASON.get(refusal.reason, 224)


def envelope(
    request_id: object, method: str, code: int = 0, *, message: str = "", result: object = None, channel: str = ""
) -> bytes:
    """A reply as JSON. `result` and `message` are left out if there are none."""
    reply: dict[str, object] = {"id": request_id, "method": method, "code": code}
    if message:
        reply["message"] = message
    if channel:
        reply["channel"] = channel
    if result is not None:
        reply["result"] = result
    return orjson.dumps(reply)
