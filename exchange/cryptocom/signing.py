"""Signed requests of Crypto.com Exchange v1: key, envelope, and the identity of each request. The clock is handed in.

A signature is the HMAC-SHA256 of method, id, key, parameters and nonce written one after another, as hex. Parameters
are written key by key in order of their names, lists element by element without separators. Ids are integers and never
repeat within a process; the nonce is the venue's time in milliseconds, which must be within a minute of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exchange.keys import ApiKeyError, key_document

__all__ = ["CryptocomKey", "RequestIds", "envelope", "parameter_string"]


@dataclass(frozen=True, slots=True)
class CryptocomKey:
    """An API key and its secret."""

    name: str
    secret: str = field(repr=False)

    @staticmethod
    def of(name: str, secret: str) -> CryptocomKey:
        """A key from its two parts.

        Raises:
            ApiKeyError: a part is missing, or holds characters that no such key has.
        """
        name, secret = name.strip(), secret.strip()
        if not name or not secret:
            raise ApiKeyError("the API key needs both a key and a secret: copy both from Crypto.com's key page")
        if not (name.isascii() and name.isprintable() and secret.isascii() and secret.isprintable()):
            raise ApiKeyError("the API key or its secret has characters that no key has: copy both again")
        return CryptocomKey(name, secret)

    @staticmethod
    def from_file(path: Path | str) -> CryptocomKey:
        """A key from a JSON file `{"api_key": …, "secret_key": …}`; `api_secret` is understood, too.

        Raises:
            ApiKeyError: the file is missing, unreadable, not such JSON, or lacks a part.
        """
        content = key_document(path, "Crypto.com", "{api_key, secret_key}")
        name, secret = content.get("api_key"), content.get("secret_key") or content.get("api_secret")
        if not isinstance(name, str) or not isinstance(secret, str):
            raise ApiKeyError('the API key file lacks "api_key" or "secret_key": copy both from Crypto.com\'s key page')
        return CryptocomKey.of(name, secret)

    def sign(self, method: str, identity: int, params: Mapping[str, object], nonce: int) -> str:
        """The signature of one request, 64 hex digits."""
        text = f"{method}{identity}{self.name}{parameter_string(params)}{nonce}"
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def parameter_string(value: object) -> str:
    """Parameters as they are signed: no separators, names in order, lists by element, null for nothing.

    Raises:
        TypeError: a value that has more than one form as JSON, such as a float.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
        case Mapping():
            return "".join(f"{name}{parameter_string(value[name])}" for name in sorted(value))
        case list() | tuple():
            return "".join(map(parameter_string, value))
    raise TypeError(f"a parameter of type {type(value).__name__} can't be signed")


class RequestIds:
    """Ids of requests: integers that grow, from the time in microseconds, so that processes don't share them.

    Args:
        now: the venue's time as far as known, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = 0

    def next(self) -> tuple[int, int]:
        """A new id, and the nonce (milliseconds) that goes with it."""
        now = self._now()
        self._last = max(self._last + 1, int(now * 1_000_000))
        return self._last, int(now * 1000)


def envelope(
    method: str, params: Mapping[str, object], ids: RequestIds, key: CryptocomKey | None = None
) -> dict[str, object]:
    """One request; signed with `key` if one is given. `params` is there also when it is empty."""
    identity, nonce = ids.next()
    request: dict[str, object] = {"id": identity, "method": method, "params": dict(params), "nonce": nonce}
    if key is not None:
        request |= {"api_key": key.name, "sig": key.sign(method, identity, params, nonce)}
    return request
