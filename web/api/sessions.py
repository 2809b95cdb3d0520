"""Log-ins: sessions of this process, and the link that works once.

Only a digest of a session's cookie is kept. A session ends after `lasts_s`, or after `idle_s` without a request.
Sessions are kept in memory only: a restart logs everybody out, nothing in the ledger or its backups can be used to log
in, and programs, which send their token with each request, don't notice.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["OneTimeLink", "Session", "Sessions"]

_MOST = 1000


@dataclass(slots=True)
class Session:
    """A log-in. Each of its actions must send `csrf` as X-CSRF; the times are those of `clock`."""

    user: str
    role: str
    csrf: str
    ends_at: float
    idle_from: float
    digest: bytes


@dataclass
class Sessions:
    """The sessions of a process. If there are too many, the oldest one ends."""

    lasts_s: float
    idle_s: float
    clock: Callable[[], float] = time.monotonic
    _found: dict[bytes, Session] = field(default_factory=dict)

    def open(self, user: str, role: str) -> tuple[str, Session]:
        """A new session and its cookie's value, which is stored nowhere."""
        now = self.clock()
        for old in [found for found in self._found.values() if not self._lives(found, now)]:
            self.end(old)
        while len(self._found) >= _MOST:
            self.end(next(iter(self._found.values())))
        value = secrets.token_urlsafe(32)
        made = Session(user, role, secrets.token_urlsafe(32), now + self.lasts_s, now, _digest(value))
        self._found[made.digest] = made
        return value, made

    def find(self, value: str | None) -> Session | None:
        """The session of a cookie, which counts as used now; None if there is none or it has ended."""
        found = None if value is None else self._found.get(_digest(value))
        if found is None:
            return None
        now = self.clock()
        if not self._lives(found, now):
            self.end(found)
            return None
        found.idle_from = now
        return found

    def lives(self, session: Session) -> bool:
        """Whether it has not ended. This does not count as use."""
        return session.digest in self._found and self._lives(session, self.clock())

    def left_s(self, session: Session) -> float:
        """Wall seconds until it ends, even if it is used."""
        return max(session.ends_at - self.clock(), 0.0)

    def end(self, session: Session) -> None:
        """End it. Idempotent."""
        self._found.pop(session.digest, None)

    def _lives(self, session: Session, now: float) -> bool:
        return now < session.ends_at and now < session.idle_from + self.idle_s


class OneTimeLink:
    """A token that logs the owner of this machine in, once; then there is a new one, which `changed` is called with."""

    def __init__(self, user: str, changed: Callable[[str], None] = lambda _: None) -> None:
        self.user = user
        self._changed = changed
        self.token = secrets.token_urlsafe(32)

    def tell(self) -> None:
        """Call `changed` with the token: once the server is about to serve."""
        self._changed(self.token)

    def take(self, token: str) -> bool:
        """Whether this is the token; if so, it is replaced."""
        if not hmac.compare_digest(_digest(token), _digest(self.token)):
            return False
        self.token = secrets.token_urlsafe(32)
        self.tell()
        return True


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()
