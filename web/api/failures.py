"""Limits on failed log-ins: five in 15 minutes, for a user at an address and for an address; then there is a wait.

An attempt is counted before it is checked, so many at once gain nothing over many in turn. Attempts during a wait don't
lengthen it. A user is never locked out because of attempts from another address.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from web.refusals import Refused

__all__ = ["Failures"]

_ALLOWED = 5
_WINDOW_S = 900.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 30.0, 900.0


@dataclass
class Failures:
    """Attempts by key, for at most `most` keys; the one with the oldest attempt is dropped."""

    clock: Callable[[], float] = time.monotonic
    most: int = 4096
    _tries: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def begin(self, keys: Sequence[str]) -> None:
        """Count an attempt under each key. Raises Refused(429, TOO_MANY_FAILURES) and then counts nothing."""
        now = self.clock()
        wait = max(self._wait(key, now) for key in keys)
        if wait > 0:
            seconds = math.ceil(wait)
            raise Refused(
                429,
                "TOO_MANY_FAILURES",
                f"Too many log-ins from here have failed: try again in {seconds} s.",
                retry_after=seconds,
            )
        for key in keys:
            self._tries.setdefault(key, deque(maxlen=_ALLOWED * 4)).append(now)
            self._tries.move_to_end(key)
        while len(self._tries) > self.most:
            self._tries.popitem(last=False)

    def succeeded(self, keys: Sequence[str]) -> None:
        """The last attempt under each key succeeded: it isn't counted, nor are earlier ones under the first key, which
        is the user's own.
        """
        for number, key in enumerate(keys):
            tries = self._tries.get(key)
            if tries is None:
                continue
            if number == 0 or len(tries) == 1:
                self._tries.pop(key)
            else:
                tries.pop()

    def _wait(self, key: str, now: float) -> float:
        tries = self._tries.get(key)
        if not tries:
            return 0.0
        while tries and now - tries[0] > _WINDOW_S:
            tries.popleft()
        if len(tries) < _ALLOWED:
            return 0.0
        wait = min(_FIRST_WAIT_S * 2.0 ** (len(tries) - _ALLOWED), _LONGEST_WAIT_S)
        return tries[-1] + wait - now
