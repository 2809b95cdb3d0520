"""The API key, and the signature of a request: HMAC-SHA256 over method, id, key, parameters and nonce.

Parameters are written key by key in sorted order, lists element by element without a separator, null as "null". What
a list of plain values inside a list of orders looks like is told in two ways by the venue's own samples
(`exec_instPOST_ONLY`, `exec_inst[POST_ONLY]`): both are taken.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from exchange.paper.cryptocom.answers import Answered
from exchange.paper.errors import PaperError

__all__ = ["PaperSecret", "parameters", "signature"]

_KEY_FILE = "api_key.json"
_NONCE_MS = 60_000
_NONCE = re.compile(r"\d{1,18}", re.ASCII)


class PaperSecret:
    """The account's one key, kept as a file in `folder` (`api_key`, `secret_key`) and reused."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / _KEY_FILE
        if not self.file.exists():
            made = {"api_key": secrets.token_urlsafe(16), "secret_key": secrets.token_urlsafe(24)}
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(made, file)
        try:
            stored = json.loads(self.file.read_text(encoding="utf-8"))
            self.api_key, self._secret = str(stored["api_key"]), str(stored["secret_key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PaperError(
                "KEY_FILE_BROKEN", f"{self.file} is not an API key file; delete it to have a new one made."
            ) from error

    def authenticate(self, body: Mapping[str, object], params: object, now_ms: int) -> None:
        """Raise `Answered` unless key, signature and nonce are right at the venue's time `now_ms`.

        A nonce is a whole number of ms, or a string of one, within a minute of the venue's time.
        """
        nonce = body.get("nonce")
        if isinstance(nonce, bool) or not isinstance(nonce, int | str):
            raise Answered(40101, "nonce must be a whole number")
        if not self.signed(body, params):
            raise Answered(40101)
        if not _NONCE.fullmatch(str(nonce)) or abs(now_ms - int(nonce)) > _NONCE_MS:
            raise Answered(40102)

    def signed(self, body: Mapping[str, object], params: object) -> bool:
        """Whether the body's `sig` is right for its method, id, key, nonce and `params`."""
        given = body.get("sig")
        if not isinstance(given, str) or body.get("api_key") != self.api_key:
            return False
        return any(
            hmac.compare_digest(
                signature(
                    str(body.get("method")), body.get("id"), self.api_key, written, body.get("nonce"), self._secret
                ).encode(),
                given.encode("utf-8", "surrogateescape"),
            )
            for written in {parameters(params), parameters(params, bracketed=True)}
        )


def signature(method: str, request_id: object, api_key: str, written: str, nonce: object, secret: str) -> str:
    """The signature in hexadecimal; `written` are the parameters as text."""
    payload = f"{method}{request_id}{api_key}{written}{nonce}"
    return hmac.new(secret.encode(), payload.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def parameters(value: object, *, bracketed: bool = False, depth: int = 0) -> str:
    """Parameters as the text that is signed; `bracketed`: lists of plain values inside lists get brackets."""
    if isinstance(value, Mapping):
        return "".join(
            f"{key}{parameters(value[key], bracketed=bracketed, depth=depth + 1)}" for key in sorted(map(str, value))
        )
    if isinstance(value, list):
        inner = [parameters(item, bracketed=bracketed, depth=depth + 1) for item in value]
        plain_values = not any(isinstance(item, Mapping | list) for item in value)
        return f"[{', '.join(inner)}]" if bracketed and plain_values and depth > 1 else "".join(inner)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
