"""API keys as Coinbase hands them out, and the one place that reads them.

The official file is JSON `{"name": …, "privateKey": …}`; the private key is an ES256 PEM or an Ed25519 key (PEM or
base64). Tokens are built by the official client. A secret never appears in a repr, an error or a log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from coinbase import jwt_generator

__all__ = ["ApiKey", "ApiKeyError"]


class ApiKeyError(ValueError):
    """The key can't be used; the text says why and what to do. `code` is for programs."""

    code = "BAD_API_KEY"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that has been tried: it can sign."""

    name: str
    secret: str = field(repr=False)

    @staticmethod
    def of(name: str, secret: str) -> ApiKey:
        r"""A key from its two parts; `\n` written as two characters (as in .env files) is understood.

        Raises:
            ApiKeyError: a part is missing, or the secret is no ES256 or Ed25519 private key.
        """
        name, secret = name.strip(), secret.strip().replace("\\n", "\n")
        if not name or not secret:
            raise ApiKeyError("the API key needs both a name and a private key: copy both from Coinbase's key page")
        key = ApiKey(name, secret)
        key.stream_token()
        return key

    @staticmethod
    def from_file(path: Path | str) -> ApiKey:
        """A key from Coinbase's own JSON file.

        Raises:
            ApiKeyError: the file is missing, unreadable, no such JSON, or its key can't sign.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as problem:
            raise ApiKeyError(
                f"the API key file {path} can't be read ({problem.strerror}): correct the path or download it again"
            ) from None
        except ValueError:
            raise ApiKeyError(f"the API key file {path} is not JSON: download it again from Coinbase") from None
        if not isinstance(content, dict):
            raise ApiKeyError(f"the API key file {path} holds no object: it should be {{name, privateKey}}")
        name, secret = content.get("name") or content.get("id"), content.get("privateKey")
        if not isinstance(name, str) or not isinstance(secret, str):
            raise ApiKeyError(f'the API key file {path} lacks "name" or "privateKey": download it again from Coinbase')
        return ApiKey.of(name, secret)

    def stream_token(self) -> str:
        """A fresh token for one subscribe message (valid 120 s).

        Raises:
            ApiKeyError: the secret is no ES256 or Ed25519 private key.
        """
        try:
            token: str = jwt_generator.build_ws_jwt(self.name, self.secret)
        except Exception:  # noqa: BLE001 - the client raises bare Exception, whose text may quote the key
            raise ApiKeyError(
                f"the private key of {self.name!r} can't sign: it must be an ECDSA P-256 (ES256) PEM or an Ed25519 key"
            ) from None
        return token
