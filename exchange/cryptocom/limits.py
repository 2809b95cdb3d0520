"""The venue's limits, which are by method: each has a limiter of its own, in which exits go first."""

from __future__ import annotations

from collections.abc import Mapping

from exchange.rate_limit import RateLimiter

__all__ = ["MethodLimits"]

_TENTHS: Mapping[str, int] = {
    "private/create-order": 15,
    "private/cancel-order": 15,
    "private/cancel-all-orders": 15,
    "private/get-order-detail": 30,
}
"""Requests in a tenth of a second."""
_OTHERS = 3
_SECONDS: Mapping[str, int] = {"private/get-trades": 1, "private/get-order-history": 1}
"""Requests in a second."""
_PUBLIC = 100


class MethodLimits:
    """One limiter a method.

    Args:
        share: this process's part of each limit, 0 to 1; 0 means no limit.
    """

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"a share of the venue's limits is from 0 to 1, not {share}")
        self._share = share
        self._limiters: dict[str, RateLimiter] = {}

    def of(self, method: str) -> RateLimiter:
        """The limiter of a method."""
        found = self._limiters.get(method)
        if found is None:
            found = self._limiters[method] = self._new(method)
        return found

    def _new(self, method: str) -> RateLimiter:
        if method in _SECONDS or not method.startswith("private/"):
            return RateLimiter(_SECONDS.get(method, _PUBLIC) * self._share)
        most = _TENTHS.get(method, _OTHERS) * self._share
        # Whole requests in each tenth of a second; where the share is less than one, one each so many tenths.
        whole = max(1, int(most))
        return RateLimiter(10 * min(most, whole), burst=whole)
