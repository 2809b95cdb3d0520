"""API keys and the JSON Web Tokens made with them.

A token is valid if its algorithm is that of the stored key, `kid` equals `sub` and is a known key, the signature is
correct, `iss` is "cdp", `nbf <= now < exp`, and (REST only) `uri` is exactly "METHOD host[:port]/path" without a query.

Tokens of ccxt are valid, too: those of an ES256 key with `iss` "coinbase-cloud" if `aud` names the venue's REST
interface, those of an Ed25519 key with the one `uri` in a list `uris` if `aud` names the venue's service.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from domain.errors import BotTraderError
from exchange.paper.errors import PaperError

__all__ = ["Keyring", "Unauthorized"]

_LEEWAY_SECONDS = 5
ALL_SCOPES = ("view", "trade")
_ISSUER, _CCXT_ISSUER = "cdp", "coinbase-cloud"
_CCXT_AUDIENCE = {"ES256": ["retail_rest_api_proxy"], "EdDSA": ["cdp_service"]}

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Unauthorized(BotTraderError):
    """An invalid token; the message says why (for the log only: the venue doesn't say)."""

    code = "UNAUTHORIZED"


@dataclass(frozen=True, slots=True)
class PaperKey:
    """A key the exchange knows: its public half, algorithm and scopes."""

    name: str
    public: PublicKey
    algorithm: str
    scopes: tuple[str, ...] = ALL_SCOPES


class Keyring:
    """The keys of the account, kept as files in the official format in one folder and reused."""

    def __init__(self, folder: Path) -> None:
        self.key_file = folder / "api_key.json"
        self.ed25519_key_file = folder / "api_key_ed25519.json"
        self.view_key_file = folder / "api_key_view.json"
        self._keys: dict[str, PaperKey] = {}
        self._adopt(self.key_file, ALL_SCOPES, ed=False)
        self._adopt(self.ed25519_key_file, ALL_SCOPES, ed=True)
        self._adopt(self.view_key_file, ("view",), ed=False)

    def _adopt(self, path: Path, scopes: tuple[str, ...], *, ed: bool) -> None:
        if not path.exists():
            _write_key(path, ed=ed)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            name, private = str(stored["name"]), _private_key(str(stored["privateKey"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PaperError(
                "KEY_FILE_BROKEN", f"{path} is not an API key file; delete it to have a new one made."
            ) from error
        algorithm = "ES256" if isinstance(private, ec.EllipticCurvePrivateKey) else "EdDSA"
        self._keys[name] = PaperKey(name, private.public_key(), algorithm, scopes)

    def verify(self, token: str, *, now: float, uri: str | None) -> PaperKey:
        """The key that signed `token`, valid at `now` (unix seconds) for `uri`. Raises `Unauthorized`."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise Unauthorized(f"not a token: {error}") from error
        key = self._keys.get(str(header.get("kid")))
        if key is None:
            raise Unauthorized("unknown key")
        if header.get("alg") != key.algorithm:
            raise Unauthorized("algorithm is not that of the key")
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                options={
                    "require": ["sub", "iss", "nbf", "exp"],
                    "verify_iss": False,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidTokenError as error:
            raise Unauthorized(str(error)) from error
        not_before, expires = claims["nbf"], claims["exp"]
        if not _issued_for(key, claims):
            raise Unauthorized("iss is not the venue's")
        if claims["sub"] != key.name:
            raise Unauthorized("sub is not the key's name")
        if not isinstance(not_before, int) or not isinstance(expires, int):
            raise Unauthorized("nbf and exp must be whole seconds")
        if not not_before - _LEEWAY_SECONDS <= now < expires:
            raise Unauthorized("outside nbf and exp")
        if uri is not None and _uri(key, claims) != uri:
            raise Unauthorized(f"uri is not {uri}")
        return key


def _issued_for(key: PaperKey, claims: Mapping[str, object]) -> bool:
    """Whether the venue accepts this issuer for such a key."""
    if claims["iss"] == _CCXT_ISSUER:
        return key.algorithm == "ES256" and claims.get("aud") == _CCXT_AUDIENCE["ES256"]
    return claims["iss"] == _ISSUER


def _uri(key: PaperKey, claims: Mapping[str, object]) -> object:
    """The request that the token is for; None if it isn't stated in a form that the venue accepts."""
    uris = claims.get("uris")
    if "uri" in claims or not isinstance(uris, list) or len(uris) != 1:
        return claims.get("uri")
    return uris[0] if key.algorithm == "EdDSA" and claims.get("aud") == _CCXT_AUDIENCE["EdDSA"] else None


def _write_key(path: Path, *, ed: bool) -> None:
    name = f"organizations/{uuid.uuid4()}/apiKeys/{uuid.uuid4()}"
    if ed:
        private = ed25519.Ed25519PrivateKey.generate()
        raw = private.private_bytes_raw() + private.public_key().public_bytes_raw()
        secret = base64.b64encode(raw).decode()
    else:
        secret = (
            ec.generate_private_key(ec.SECP256R1())
            .private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
            .decode()
        )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"name": name, "privateKey": secret}, file)


def _private_key(secret: str) -> PrivateKey:
    if secret.lstrip().startswith("-----BEGIN"):
        key = serialization.load_pem_private_key(secret.encode(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            return key
        raise ValueError("neither an EC nor an Ed25519 key")
    try:
        return ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret, validate=True)[:32])
    except binascii.Error as error:
        raise ValueError("neither PEM nor base64") from error
