"""Who sends: proven by a signature over time and body, by a bearer token, or by a token in the body.

A signature is HMAC-SHA256 over `<timestamp>.<raw body>` in hexadecimal; its timestamp must be near ours, so that a
copy of the request is worth nothing later. Every comparison takes the same time whatever it compares, and every
sender is compared, so that time tells nobody how near a guess was.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from web.refusals import Refused

__all__ = ["Proof", "Sender", "by_headers", "by_token", "check_time", "signature"]

_HOW: Final = (
    "send X-Timestamp and X-Signature (HMAC-SHA256 over timestamp.body), or Authorization: Bearer <token>, "
    'or "token" in the body'
)
_TIMESTAMP = re.compile(r"[0-9]{9,13}")
_SIGNATURE = re.compile(r"(?:sha256=)?([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Sender:
    """One who may send alerts. Secrets never show."""

    name: str
    secret: bytes | None = field(default=None, repr=False)
    token: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """Who it is, and when it was signed if it was."""

    sender: str
    signed_at: datetime | None = None


def signature(secret: bytes, timestamp: str, raw: bytes) -> str:
    """What X-Signature must be: HMAC-SHA256 over `<timestamp>.<raw>`, hexadecimal."""
    return hmac.new(secret, timestamp.encode() + b"." + raw, hashlib.sha256).hexdigest()


def by_headers(
    headers: Mapping[str, str], raw: bytes, senders: Sequence[Sender], now: datetime, window: timedelta
) -> Proof | None:
    """Who the headers prove it is; None if they don't try to.

    Raises Refused(401): BAD_TIMESTAMP, OLD_TIMESTAMP, FUTURE_TIMESTAMP, WRONG_SIGNATURE, WRONG_TOKEN.
    """
    timestamp, given = headers.get("x-timestamp"), headers.get("x-signature")
    if timestamp is not None or given is not None:
        return _by_signature(timestamp or "", given or "", raw, senders, now, window)
    authorization = headers.get("authorization")
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "WRONG_TOKEN", f"Authorization must be Bearer <token>; {_HOW}.")
    return by_token(token.strip(), senders)


def by_token(token: str | None, senders: Sequence[Sender]) -> Proof:
    """Who has this token. Raises Refused(401): NO_PROOF, WRONG_TOKEN."""
    if token is None:
        raise Refused(401, "NO_PROOF", f"Nothing says who sends this: {_HOW}.")
    given = hashlib.sha256(token.encode()).digest()
    found: str | None = None
    for sender in senders:
        known = hashlib.sha256(sender.token or b"").digest()
        if hmac.compare_digest(known, given) and sender.token:
            found = sender.name
    if found is None:
        raise Refused(401, "WRONG_TOKEN", "The token belongs to none of the senders in [webhook.senders].")
    return Proof(found)


def _by_signature(
    timestamp: str, given: str, raw: bytes, senders: Sequence[Sender], now: datetime, window: timedelta
) -> Proof:
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Refused(
            401, "BAD_TIMESTAMP", "X-Timestamp must be whole seconds (or milliseconds) since 1970, beside X-Signature."
        )
    seconds = int(timestamp) / (1000 if len(timestamp) > 11 else 1)
    found: str | None = None
    match = _SIGNATURE.fullmatch(given)
    for sender in senders:
        expected = signature(sender.secret or b"", timestamp, raw)
        if match is not None and hmac.compare_digest(expected, match[1].lower()) and sender.secret:
            found = sender.name
    if found is None:
        raise Refused(
            401,
            "WRONG_SIGNATURE",
            "X-Signature is not the hexadecimal HMAC-SHA256 of `<X-Timestamp>.<body as sent>` with the secret of a "
            "sender in [webhook.senders].",
        )
    signed_at = datetime.fromtimestamp(seconds, UTC)
    check_time(signed_at, now, window, "X-Timestamp")
    return Proof(found, signed_at)


def check_time(at: datetime, now: datetime, window: timedelta, what: str) -> None:
    """Raises Refused(401) when `at` is further than `window` from `now`: OLD_TIMESTAMP, FUTURE_TIMESTAMP."""
    behind = (now - at).total_seconds()
    allowed = f"{window.total_seconds():.0f} s are allowed"
    if behind > window.total_seconds():
        raise Refused(401, "OLD_TIMESTAMP", f"{what} is {behind:.0f} s old, {allowed}: send the request anew.")
    if -behind > window.total_seconds():
        raise Refused(
            401, "FUTURE_TIMESTAMP", f"{what} is {-behind:.0f} s ahead of our clock, {allowed}: look at both clocks."
        )
