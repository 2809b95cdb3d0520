"""Tokens: which are valid, and each kind of invalid one."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from coinbase.jwt_generator import build_rest_jwt, build_ws_jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.paper.coinbase.auth import Keyring, Unauthorized
from exchange.paper.errors import PaperError

URI = "GET 127.0.0.1:1/api/v3/brokerage/accounts"


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A new keyring."""
    return Keyring(tmp_path)


def stored(path: Path) -> tuple[str, str]:
    """Name and private key in a key file."""
    key = json.loads(path.read_text(encoding="utf-8"))
    return key["name"], key["privateKey"]


@pytest.mark.parametrize("which", ["key_file", "ed25519_key_file", "view_key_file"])
def test_the_official_clients_tokens_count(keyring: Keyring, which: str) -> None:
    """Tokens of both algorithms, as the official client makes them, are accepted for REST and for streams."""
    name, secret = stored(getattr(keyring, which))
    now = time.time()
    assert keyring.verify(build_rest_jwt(URI, name, secret), now=now, uri=URI).name == name
    assert keyring.verify(build_ws_jwt(name, secret), now=now, uri=None).name == name


def test_scopes_are_the_keys_own(keyring: Keyring) -> None:
    """The view key can't trade."""
    now = time.time()
    for path, scopes in ((keyring.key_file, ("view", "trade")), (keyring.view_key_file, ("view",))):
        name, secret = stored(path)
        assert keyring.verify(build_ws_jwt(name, secret), now=now, uri=None).scopes == scopes


def test_keys_are_kept(tmp_path: Path) -> None:
    """A second keyring of the same folder knows the same keys; key files are for their owner only."""
    first, second = Keyring(tmp_path), Keyring(tmp_path)
    name, secret = stored(first.key_file)
    assert second.verify(build_ws_jwt(name, secret), now=time.time(), uri=None).name == name
    assert first.key_file.stat().st_mode & 0o077 == 0


def token(
    keyring: Keyring, *, key: Any = None, algorithm: str = "", kid: str = "", ed: bool = False, **claims: object
) -> str:
    """A token like the official client's, with other claims; with the Ed25519 key if requested."""
    name, secret = stored(keyring.ed25519_key_file if ed else keyring.key_file)
    signing = Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret)[:32]) if ed else secret
    now = int(time.time())
    body = {"sub": name, "iss": "cdp", "nbf": now, "exp": now + 120, "uri": URI, **claims}
    body = {claim: value for claim, value in body.items() if value is not None}
    algorithm = algorithm or ("EdDSA" if ed else "ES256")
    return jwt.encode(body, key or signing, algorithm=algorithm, headers={"kid": kid or name, "nonce": "00"})


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "coinbase-cloud"},
        {"iss": None},
        {"sub": "organizations/x/apiKeys/y"},
        {"uri": "POST 127.0.0.1:1/api/v3/brokerage/accounts"},
        {"uri": URI + "?limit=1"},
        {"uri": "https://" + URI},
        {"uri": None},
        {"nbf": int(time.time()) + 86_400, "exp": int(time.time()) + 90_000},
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"nbf": None},
        {"exp": "soon"},
    ],
)
def test_wrong_claims(keyring: Keyring, claims: dict[str, Any]) -> None:
    """A token with any wrong or missing claim is invalid."""
    with pytest.raises(Unauthorized):
        keyring.verify(token(keyring, **claims), now=time.time(), uri=URI)


CCXT_ES256: dict[str, Any] = {"iss": "coinbase-cloud", "aud": ["retail_rest_api_proxy"], "iat": 1}
CCXT_ED25519: dict[str, Any] = {"iss": "cdp", "aud": ["cdp_service"], "uri": None, "uris": [URI], "iat": 1}


def test_ccxts_tokens_count(keyring: Keyring) -> None:
    """The two forms that ccxt signs are accepted for REST, the ES256 one for streams, too."""
    now = time.time()
    keyring.verify(token(keyring, **CCXT_ES256), now=now, uri=URI)
    keyring.verify(token(keyring, **CCXT_ES256, uri=None), now=now, uri=None)
    keyring.verify(token(keyring, ed=True, **CCXT_ED25519), now=now, uri=URI)


@pytest.mark.parametrize(
    ("ed", "claims"),
    [
        (False, {**CCXT_ES256, "aud": None}),
        (False, {**CCXT_ES256, "aud": ["cdp_service"]}),
        (False, {**CCXT_ES256, "uri": None}),
        (False, {**CCXT_ES256, "uri": None, "uris": [URI]}),
        (False, CCXT_ED25519),
        (True, CCXT_ES256),
        (True, {**CCXT_ED25519, "aud": None}),
        (True, {**CCXT_ED25519, "uris": []}),
        (True, {**CCXT_ED25519, "uris": URI}),
        (True, {**CCXT_ED25519, "uris": ["GET 127.0.0.1:1/api/v3/brokerage/orders"]}),
        (True, {**CCXT_ED25519, "uris": [URI, "POST 127.0.0.1:1/api/v3/brokerage/orders"]}),
        (True, {**CCXT_ED25519, "uri": "POST 127.0.0.1:1/api/v3/brokerage/orders"}),
    ],
)
def test_nothing_between_the_forms_counts(keyring: Keyring, ed: bool, claims: dict[str, Any]) -> None:
    """A token that mixes the official client's form and ccxt's, or two keys' forms, is invalid."""
    with pytest.raises(Unauthorized):
        keyring.verify(token(keyring, ed=ed, **claims), now=time.time(), uri=URI)


def test_wrong_signatures(keyring: Keyring) -> None:
    """Another key's signature, another algorithm, none at all, an unknown key and garbage are invalid."""
    other = ec.generate_private_key(ec.SECP256R1())
    name, _ = stored(keyring.key_file)
    good = token(keyring)
    tokens = [
        token(keyring, key=other),
        token(keyring, key="a-secret-that-is-long-enough-for-it", algorithm="HS256"),
        token(keyring, kid="organizations/x/apiKeys/y"),
        jwt.encode({"sub": name, "iss": "cdp"}, "", algorithm="none", headers={"kid": name}),
        good[:-4] + "AAAA",
        good.rsplit(".", 1)[0] + ".",
        "",
        "x.y.z",
    ]
    for wrong in tokens:
        with pytest.raises(Unauthorized):
            keyring.verify(wrong, now=time.time(), uri=URI)
    keyring.verify(good, now=time.time(), uri=URI)


def test_broken_key_file_is_named(tmp_path: Path) -> None:
    """A damaged key file is one sentence that says what to do."""
    (tmp_path / "api_key.json").write_text("{", encoding="utf-8")
    with pytest.raises(PaperError, match=r"api_key\.json is not an API key file; delete it"):
        Keyring(tmp_path)
