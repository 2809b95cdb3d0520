"""Authentication of senders: by a signature over time and body, by a bearer token, or by a token in the body.

All of it is checked before the body is parsed as JSON: a token in the body is found by its bytes. So only authenticated
senders get their input parsed or cause incidents.

A signature is HMAC-SHA256 over `<timestamp>.<raw body>` in hexadecimal; its timestamp must be near ours, so that a
copied request is useless later. Every comparison takes constant time, and every sender is compared, so that timing
reveals nothing about a guess.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from web.refusals import Refused

__all__ = ["Proof", "Sender", "by_body", "by_headers", "by_token", "check_time", "signature", "without_secrets"]

_HOW: Final = (
    "send X-Timestamp and X-Signature (HMAC-SHA256 over timestamp.body), or Authorization: Bearer <token>, "
    'or "token" in the body'
)
_TIMESTAMP = re.compile(r"[0-9]{9,13}")
_SIGNATURE = re.compile(r"(?:sha256=)?([0-9a-fA-F]{64})")
_TOKEN = re.compile(rb'"token"\s*:\s*("(?:[^"\\]|\\.){1,400}")')
_TELLING = 12
"""This many consecutive characters of a secret are removed from a text, with the rest of it."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A configured sender. Secrets are never shown."""

    name: str
    secret: bytes | None = field(default=None, repr=False)
    token: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """The sender, and the time of the signature if there is one."""

    sender: str
    signed_at: datetime | None = None


def signature(secret: bytes, timestamp: str, raw: bytes) -> str:
    """What X-Signature must be: HMAC-SHA256 over `<timestamp>.<raw>`, hexadecimal."""
    return hmac.new(secret, timestamp.encode() + b"." + raw, hashlib.sha256).hexdigest()


def by_headers(headers: Mapping[str, str], senders: Sequence[Sender], now: datetime, window: timedelta) -> Proof | None:
    """The sender authenticated by the headers, before the body is read; None if that needs the body (`by_body`).

    Raises Refused(401): BAD_TIMESTAMP, OLD_TIMESTAMP, FUTURE_TIMESTAMP, WRONG_TOKEN.
    """
    if _signed(headers):
        check_time(_signed_at(headers), now, window, "X-Timestamp")
        return None
    authorization = headers.get("authorization")
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "WRONG_TOKEN", f"Authorization must be Bearer <token>; {_HOW}.")
    return by_token(token.strip(), senders)


def by_body(headers: Mapping[str, str], raw: bytes, senders: Sequence[Sender]) -> Proof:
    """The sender authenticated by the body, with the signature in the headers (whose time `by_headers` checked) or its
    token.

    Raises Refused(401): WRONG_SIGNATURE, NO_PROOF, WRONG_TOKEN.
    """
    if _signed(headers):
        return _by_signature(headers, raw, senders)
    found = _TOKEN.search(raw)
    if found is None:
        return by_token(None, senders)
    try:
        return by_token(str(json.loads(found[1])), senders)
    except ValueError:
        return by_token("", senders)


def without_secrets(text: str, senders: Sequence[Sender]) -> str:
    """`text` without any sender's secret or token, or the beginning of one, case-insensitively."""
    for secret in {value for sender in senders for value in (sender.secret, sender.token) if value}:
        hidden = secret.decode("ascii", "replace").lower()
        while (at := text.lower().find(hidden[:_TELLING])) >= 0:
            shown = text[at:].lower()
            length = next(size for size in range(len(hidden), 0, -1) if shown.startswith(hidden[:size]))
            text = f"{text[:at]}***{text[at + length :]}"
    return text


def by_token(token: str | None, senders: Sequence[Sender]) -> Proof:
    """The sender with this token. Raises Refused(401): NO_PROOF, WRONG_TOKEN."""
    if token is None:
        raise Refused(401, "NO_PROOF", f"The request has no authentication: {_HOW}.")
    given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    found: str | None = None
    for sender in senders:
        known = hashlib.sha256(sender.token or b"").digest()
        if hmac.compare_digest(known, given) and sender.token:
            found = sender.name
    if found is None:
        raise Refused(401, "WRONG_TOKEN", "The token belongs to none of the senders in [webhook.senders].")
    return Proof(found)


def _signed(headers: Mapping[str, str]) -> bool:
    return "x-timestamp" in headers or "x-signature" in headers


def _signed_at(headers: Mapping[str, str]) -> datetime:
    timestamp = headers.get("x-timestamp", "")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Refused(
            401, "BAD_TIMESTAMP", "X-Timestamp must be whole seconds (or milliseconds) since 1970, beside X-Signature."
        )
    return datetime.fromtimestamp(int(timestamp) / (1000 if len(timestamp) > 11 else 1), UTC)


def _by_signature(headers: Mapping[str, str], raw: bytes, senders: Sequence[Sender]) -> Proof:
    timestamp = headers.get("x-timestamp", "")
    found: str | None = None
    match = _SIGNATURE.fullmatch(headers.get("x-signature", ""))
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
    return Proof(found, _signed_at(headers))


def check_time(at: datetime, now: datetime, window: timedelta, what: str) -> None:
    """Raises Refused(401) when `at` is further than `window` from `now`: OLD_TIMESTAMP, FUTURE_TIMESTAMP."""
    behind = (now - at).total_seconds()
    allowed = f"{window.total_seconds():.0f} s are allowed"
    if behind > window.total_seconds():
        raise Refused(401, "OLD_TIMESTAMP", f"{what} is {behind:.0f} s old, {allowed}: send a new request.")
    if -behind > window.total_seconds():
        raise Refused(
            401, "FUTURE_TIMESTAMP", f"{what} is {-behind:.0f} s ahead of our clock, {allowed}: check both clocks."
        )
