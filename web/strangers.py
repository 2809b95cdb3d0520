"""Unauthenticated requests: counted by address, rate limited, and logged with one line a minute.

Authenticated senders are never limited because of others at the same address: behind a proxy, and on this machine, all
share one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from starlette.requests import Request

__all__ = ["Strangers", "Tally", "address_of"]

_log = structlog.get_logger()

_FIRST_WAIT_S, _LONGEST_WAIT_S = 10.0, 600.0
_FORGOTTEN_S = 3600.0
"""Wall seconds without a failure after which an address's count is reset."""


def address_of(request: Request, *, behind_proxy: bool) -> str:
    """The address of a request: the peer's, or behind a proxy the one the proxy reports. For IPv6 its network (/64),
    because one host may use all of it.
    """
    peer = request.client.host if request.client else ""
    told = request.headers.getlist("x-forwarded-for") if behind_proxy else []
    for text in (told[-1].rpartition(",")[2].strip() if told else "", peer):
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            continue
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped  # an IPv4 peer of a socket that listens on both: all of them share one /64
        if isinstance(found, ipaddress.IPv6Address) and not found.is_loopback:
            return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)).network_address) + "/64"
        return str(found)
    return peer


@dataclass
class _Address:
    tokens: float
    at: float
    put_off_until: float = 0.0
    put_off: int = 0


@dataclass
class Strangers:
    """A bucket of failures for each address, for at most `most` addresses; the one that failed longest ago is
    dropped."""

    clock: Callable[[], float] = time.monotonic
    most: int = 4096
    _addresses: OrderedDict[str, _Address] = field(default_factory=OrderedDict)

    def failed(self, address: str, *, per_minute: int) -> int:
        """A request from `address` was not authenticated. Returns 0 within the limit, else the seconds to wait, which
        grow each time.
        """
        now = self.clock()
        known = self._addresses.get(address)
        if known is None or now - known.at > _FORGOTTEN_S:
            known = self._addresses[address] = _Address(float(per_minute), now)
        self._addresses.move_to_end(address)
        while len(self._addresses) > self.most:
            self._addresses.popitem(last=False)
        known.tokens = min(float(per_minute), known.tokens + (now - known.at) * per_minute / 60)
        known.at = now
        if now >= known.put_off_until:
            if known.tokens >= 1:
                known.tokens -= 1
                return 0
            known.put_off_until = now + min(_FIRST_WAIT_S * 2.0**known.put_off, _LONGEST_WAIT_S)
            known.put_off = min(known.put_off + 1, 16)
        return math.ceil(known.put_off_until - now)


def _later(seconds: float, action: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, action)


class Tally:
    """Counts frequent events: the first is logged at once, then one line with the sum each minute."""

    def __init__(
        self, event: str, *, seconds: float = 60.0, later: Callable[[float, Callable[[], None]], None] = _later
    ) -> None:
        self._event = event
        self._seconds = seconds
        self._later = later
        self._kinds: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._waits = False

    def add(self, kind: str, address: str = "") -> None:
        """Count one event of a kind (a code or a place in our code, never text from a request)."""
        self._kinds[kind] += 1
        if address and (address in self._addresses or len(self._addresses) < 1024):
            self._addresses[address] += 1
        if not self._waits:
            self._say()

    def _say(self) -> None:
        self._waits = bool(self._kinds)
        if not self._waits:
            return
        most = {"most_from": self._addresses.most_common(1)[0][0]} if self._addresses else {}
        _log.warning(self._event, counts=dict(self._kinds), addresses=len(self._addresses), **most)
        self._kinds.clear()
        self._addresses.clear()
        self._later(self._seconds, self._say)
