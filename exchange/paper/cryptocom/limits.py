"""How many requests of each method the venue takes: by key for private ones, by method for public ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from exchange.paper.sockets import admit

__all__ = ["PaperLimits"]


@dataclass(frozen=True, slots=True)
class _Limit:
    """At most `requests` in any `seconds`."""

    requests: int
    seconds: float


_ORDERS, _DETAIL, _HISTORY = _Limit(15, 0.1), _Limit(30, 0.1), _Limit(1, 1.0)
_PRIVATE, _PUBLIC = _Limit(3, 0.1), _Limit(100, 1.0)
_LIMITS: Mapping[str, _Limit] = {
    "private/create-order": _ORDERS,
    "private/cancel-order": _ORDERS,
    "private/cancel-all-orders": _ORDERS,
    "private/get-order-detail": _DETAIL,
    "private/get-order-history": _HISTORY,
    "private/get-trades": _HISTORY,
}


class PaperLimits:
    """Counts requests. Not `private` or not `public`: those have no limit."""

    def __init__(self, *, private: bool, public: bool) -> None:
        self._private = private
        self._public = public
        self._seen: dict[str, deque[float]] = {}

    def admit(self, method: str, now: float) -> bool:
        """Whether a request at monotonic time `now` is within its method's limit; it is then counted."""
        public = method.startswith("public/")
        if not (self._public if public else self._private):
            return True
        limit = _LIMITS.get(method, _PUBLIC if public else _PRIVATE)
        return admit(self._seen.setdefault(method, deque()), now, limit.requests, limit.seconds)
