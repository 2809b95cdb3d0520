"""Faults to inject, all off by default.

A fault has a kind, a scope, and ends after `count` uses or `duration` seconds. REST scopes are "METHOD /path" patterns
below the API prefix (`POST /orders`, `GET *`, `*`); stream scopes are channel names as sent (`user`, `l2_data`, `*`);
market scopes are "SIDE PRODUCT" of the incoming order (`SELL BTC-USD`, `SELL *`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import product

from exchange.paper.errors import PaperError

__all__ = [
    "ANSWER_FAULTS",
    "CONNECT_FAULTS",
    "MARKET_FAULTS",
    "MESSAGE_FAULTS",
    "REST_FAULTS",
    "USER_FAULTS",
    "Fault",
    "FaultBook",
    "FaultKind",
    "read_fault",
    "require_possible",
    "require_reachable",
]


class FaultKind(StrEnum):
    """The kinds of faults. `delay` is always in seconds."""

    REST_ACCEPTED_CUT = "accepted_cut"  # done, then the connection is closed without an answer
    REST_ACCEPTED_SILENT = "accepted_silent"  # done, no answer for `delay`, then closed
    REST_NOT_ACCEPTED_CUT = "not_accepted_cut"  # not done, the connection is closed
    REST_ACCEPTED_LATE = "accepted_late"  # done only after `delay`, even if the client has disconnected
    REST_RATE_LIMITED = "rate_limited"  # 429; `delay` is the requested wait (x-ratelimit-reset)
    REST_SERVER_ERROR = "server_error"  # `status` (default 503), not done
    REST_ACCEPTED_SERVER_ERROR = "accepted_server_error"  # done, then answered with `status` (default 502)
    REST_SLOW = "slow"  # done at once, answered after `delay`
    REST_MALFORMED = "malformed_answer"  # done, answered with a truncated body
    REST_LAGGING = "lagging"  # lists, orders and balances are `delay` seconds old, at most from the fault's start
    REST_STRANGE = "strange_rows"  # done; the newest of several orders, fills or products lacks a required field
    REST_NULL_LIST = "null_list"  # done; an empty list in the answer is null
    REST_TEXT_NUMBERS = "text_numbers"  # done; whole numbers in the answer are text, as in the venue's documents
    REST_CODE = "error_code"  # not done, answered with the venue's error code `status`
    REST_ACCEPTED_CODE = "accepted_error_code"  # done, then answered with the venue's error code `status`
    STREAM_DROP = "drop"  # the socket is reset when the next message is due
    STREAM_CLOSE = "close"  # the socket is closed with `status` (default 1000)
    STREAM_HALF_OPEN = "half_open"  # no more frames, TCP stays up
    STREAM_REFUSED = "refused"  # the connection attempt is answered 503; scope is "market" or "user"
    STREAM_DUPLICATE = "duplicate"  # the message is sent twice
    STREAM_LATE = "late"  # the message is sent `delay` later, after others
    STREAM_REORDERED = "reordered"  # the message is sent after the one that follows it
    STREAM_MISSING = "missing"  # the message is not sent, its sequence number is used up
    STREAM_MALFORMED = "malformed"  # the frame is truncated
    STREAM_AHEAD = "ahead"  # the message's time is `delay` after now
    STREAM_BEHIND = "behind"  # the message's time is `delay` before now
    STREAM_FROZEN = "frozen"  # no prices or other events, but heartbeats continue
    USER_NO_PRICE = "no_price"  # a filled order is reported with its size but neither price nor value
    USER_UNKNOWN_SIDE = "unknown_side"  # an order is reported with the side UNKNOWN_ORDER_SIDE
    USER_NULL_ORDERS = "null_orders"  # a message whose orders are null is sent first
    USER_STALE_CANCELLED = "stale_cancelled"  # the end by a cancel is reported with the totals before the last fill
    USER_REPLAY = "replay"  # a new subscriber to the user channel gets its last 50 updates again
    MARKET_THIN_BOOK = "thin_book"  # only `share` of a MARKET order fills, and the rest is CANCELLED


@dataclass(slots=True)
class Fault:
    """One active fault. `probability` and `share` are fractions; `count` None means no bound."""

    kind: FaultKind
    scope: str = "*"
    count: int | None = 1
    probability: float = 1.0
    delay: float = 0.0
    status: int = 0
    duration: float | None = None
    skip: int = 0
    share: float = 0.0
    fault_id: int = 0
    used: int = 0
    until: float | None = None


_LONGEST_SCOPE = 200
_FIELDS = {"kind", "scope", "count", "probability", "delay", "status", "duration", "skip", "share"}


def read_fault(values: Mapping[str, object]) -> Fault:
    """A fault from JSON. Raises `PaperError` that names what is wrong."""
    unknown = set(values) - _FIELDS
    if unknown:
        raise PaperError("BAD_FAULT", f"Unknown fault field {min(unknown)}; known: {', '.join(sorted(_FIELDS))}.")
    try:
        kind = FaultKind(str(values.get("kind")))
    except ValueError as error:
        kinds = ", ".join(kind.value for kind in FaultKind)
        raise PaperError("BAD_FAULT", f"Unknown fault kind {values.get('kind')!r}; known are {kinds}.") from error
    numbers = {name: values[name] for name in _FIELDS - {"kind", "scope"} if name in values}
    for name, value in numbers.items():
        allowed = value is None and name in ("count", "duration")
        if not allowed and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise PaperError("BAD_FAULT", f"Fault field {name} must be a number of at least 0, not {value!r}.")
    for name in ("probability", "share"):
        if numbers.get(name, 0) > 1:  # type: ignore[operator]
            raise PaperError("BAD_FAULT", f"Fault field {name} is a fraction from 0 to 1, not {numbers[name]!r}.")
    if "duration" in numbers and "count" not in numbers:
        numbers["count"] = None
    return Fault(kind, str(values.get("scope", "*")), **numbers)  # type: ignore[arg-type]


def require_possible(fault: Fault, impossible: frozenset[FaultKind]) -> None:
    """Raise `PaperError` if a fault is one of the `impossible` kinds, those of other venues' protocols."""
    if fault.kind in impossible:
        raise PaperError("BAD_FAULT", f"This venue's protocol has no fault {fault.kind}.")


def require_reachable(
    fault: Fault,
    requests: Iterable[str],
    channels: Iterable[str],
    paths: Iterable[str],
    products: Iterable[str],
    *,
    advice: str,
) -> None:
    """Raise `PaperError` if nothing that the exchange serves can match the fault's scope.

    `requests` are "METHOD /path" patterns, `channels` and `paths` the streams' names, `products` the traded products;
    `advice` is how requests are named.
    """
    if fault.kind in REST_FAULTS:
        known, what = list(requests), "request"
    elif fault.kind in CONNECT_FAULTS:
        known, what = list(paths), "connection"
        advice = f"use {', '.join(known)} or *"
    elif fault.kind in USER_FAULTS:
        known, what, advice = ["user"], "message", "use user or *"
    elif fault.kind in MARKET_FAULTS:
        known, what = [f"{side} {name}" for name in products for side in ("BUY", "SELL")], "order"
        advice = "use SIDE PRODUCT, such as SELL BTC-USD, or a pattern such as SELL *"
    else:
        known, what = list(channels), "message"
        advice = f"use a channel as it is sent ({', '.join(known)}) or *"
    if len(fault.scope) > _LONGEST_SCOPE or not any(_meet(fault.scope, pattern) for pattern in known):
        raise PaperError(
            "BAD_FAULT", f"No {what} can match the scope {fault.scope!r} of a fault {fault.kind}: {advice}."
        )


def _meet(scope: str, served: str) -> bool:
    """Whether some text matches both patterns; * and ? in what is served don't match a slash.

    A class in brackets in the scope is treated as any character.
    """
    first, second = re.sub(r"\[!?\]?[^\]]*\]", "?", scope), served
    # reach[i][j]: the first i characters of the one and the first j of the other can match the same text.
    reach = [[False] * (len(second) + 1) for _ in range(len(first) + 1)]
    reach[0][0] = True
    for i, j in product(range(len(first) + 1), range(len(second) + 1)):
        a, b = first[i - 1 : i], second[j - 1 : j]
        reach[i][j] = (
            reach[i][j]
            or (a == "*" and (reach[i - 1][j] or (j > 0 and reach[i][j - 1])))
            or (b == "*" and (reach[i][j - 1] or (i > 0 and a != "/" and reach[i - 1][j])))
            or (bool(a and b) and (a == b or a == "?" or (b == "?" and a != "/")) and reach[i - 1][j - 1])
        )
    return reach[-1][-1]


class FaultBook:
    """The active faults, and the seeded random numbers for those with a probability."""

    def __init__(self, seed: int, faults: Iterable[Fault] = ()) -> None:
        self._dice = random.Random(seed)
        self._on: list[Fault] = []
        self._waiting = list(faults)
        self._last_id = 0

    def start(self, now: float) -> None:
        """Switch on the faults that were configured before the start."""
        for fault in self._waiting:
            self.add(fault, now)
        self._waiting.clear()

    def add(self, fault: Fault, now: float) -> Fault:
        """Switch a fault on at monotonic time `now`."""
        self._last_id += 1
        fault.fault_id = self._last_id
        fault.until = None if fault.duration is None else now + fault.duration
        self._on.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """Switch off one fault, or all. Returns how many."""
        gone = [fault for fault in self._on if fault_id is None or fault.fault_id == fault_id]
        self._on = [fault for fault in self._on if fault not in gone]
        return len(gone)

    def listed(self) -> list[dict[str, object]]:
        """The active faults."""
        return [asdict(fault) for fault in self._on]

    def strike(self, kinds: frozenset[FaultKind], scope: str, now: float) -> Fault | None:
        """The first fault of `kinds` that applies to `scope` now, counted as used."""
        for fault in list(self._on):
            if fault.until is not None and now >= fault.until:
                self._on.remove(fault)
                continue
            if fault.kind not in kinds or not fnmatchcase(scope, fault.scope):
                continue
            if fault.probability < 1.0 and self._dice.random() >= fault.probability:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.used += 1
            if fault.count is not None and fault.used >= fault.count:
                self._on.remove(fault)
            return fault
        return None

    def holds(self, kind: FaultKind) -> bool:
        """Whether a fault of this kind is active."""
        return any(fault.kind is kind for fault in self._on)

    def __bool__(self) -> bool:
        return bool(self._on)


REST_FAULTS = frozenset(kind for kind in FaultKind if kind.name.startswith("REST_"))
MESSAGE_FAULTS = frozenset(kind for kind in FaultKind if kind.name.startswith("STREAM_")) - {FaultKind.STREAM_REFUSED}
CONNECT_FAULTS = frozenset({FaultKind.STREAM_REFUSED})
ANSWER_FAULTS = frozenset({FaultKind.REST_CODE, FaultKind.REST_ACCEPTED_CODE, FaultKind.REST_TEXT_NUMBERS})
"""Faults of a protocol whose answers are envelopes with a code of their own beside the HTTP status."""
USER_FAULTS = frozenset(kind for kind in FaultKind if kind.name.startswith("USER_"))
MARKET_FAULTS = frozenset(kind for kind in FaultKind if kind.name.startswith("MARKET_"))
