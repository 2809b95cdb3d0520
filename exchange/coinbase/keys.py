"""API keys as Coinbase hands them out, and the one place that reads them.

The official file is JSON `{"name": …, "privateKey": …}`; the private key is an ES256 PEM or an Ed25519 key (PEM or
base64). Tokens have the official client's header and claims, but the time is passed in: that client uses this machine's
clock, while the exchange judges by its own. A secret never appears in a repr, an error or a log.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from exchange.keys import ApiKeyError, key_document

__all__ = ["TOKEN_SECONDS", "ApiKey"]

TOKEN_SECONDS = 120
"""Seconds from a token's `nbf` to its `exp`."""
_BEFORE_SECONDS = 5
"""A token is valid from this many seconds before it was made, so that a slightly fast clock doesn't matter."""

_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that has been checked: it can sign."""

    name: str
    secret: str = field(repr=False)
    _private: _PrivateKey = field(repr=False, compare=False)

    @staticmethod
    def of(name: str, secret: str) -> ApiKey:
        r"""A key from its two parts; `\n` written as two characters (as in .env files) is accepted.

        Raises:
            ApiKeyError: a part is missing, or the secret is no ES256 or Ed25519 private key.
        """
        name, secret = name.strip(), secret.strip().replace("\\n", "\n")
        if not name or not secret:
            raise ApiKeyError("the API key needs both a name and a private key: copy both from Coinbase's key page")
        try:
            key = ApiKey(name, secret, _private_key(secret))
            key.token(0.0)
        except Exception:  # noqa: BLE001 - the library's texts may quote the key
            raise ApiKeyError(
                "the API key's private key can't sign: it must be an ECDSA P-256 (ES256) PEM or an Ed25519 key"
            ) from None
        return key

    @staticmethod
    def from_file(path: Path | str) -> ApiKey:
        """A key from Coinbase's own JSON file.

        Raises:
            ApiKeyError: the file is missing, unreadable, not such JSON, or its key can't sign.
        """
        content = key_document(path, "Coinbase", "{name, privateKey}")
        name, secret = content.get("name") or content.get("id"), content.get("privateKey")
        if not isinstance(name, str) or not isinstance(secret, str):
            raise ApiKeyError('the API key file lacks "name" or "privateKey": download it again from Coinbase')
        return ApiKey.of(name, secret)

    def token(self, now: float, uri: str | None = None) -> str:
        """A new token that is valid around `now`, the exchange's time in Unix seconds.

        `uri` is "METHOD host[:port]/path" for a REST request, None for a subscribe message.
        """
        begin = int(now) - _BEFORE_SECONDS
        claims = {"sub": self.name, "iss": "cdp", "nbf": begin, "exp": begin + TOKEN_SECONDS}
        if uri is not None:
            claims["uri"] = uri
        algorithm = "EdDSA" if isinstance(self._private, ed25519.Ed25519PrivateKey) else "ES256"
        return jwt.encode(
            claims, self._private, algorithm=algorithm, headers={"kid": self.name, "nonce": secrets.token_hex()}
        )


def _private_key(secret: str) -> _PrivateKey:
    """The key in a PEM, or in base64 of 32 (or 64, with the public half) bytes. Raises ValueError for another kind."""
    if secret.lstrip().startswith("-----BEGIN"):
        key = load_pem_private_key(secret.encode(), password=None)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return key
        raise ValueError("neither a P-256 nor an Ed25519 key")
    raw = base64.b64decode("".join(secret.split()), validate=True)
    if len(raw) not in (32, 64):
        raise ValueError("an Ed25519 key has 32 or 64 bytes")
    return ed25519.Ed25519PrivateKey.from_private_bytes(raw[:32])
