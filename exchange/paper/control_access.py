"""Access to the control interface: with its token only, under this machine's own names, never from a page in a browser.

The port moves money of the paper account, so it is closed to web pages (another origin, a name that was pointed here, a
form's text) and to whoever can't read the token's file.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exchange.paper.errors import PaperError

__all__ = ["TOKEN_FILE", "guard", "own_token"]

TOKEN_FILE: Final = "control_token"  # noqa: S105 - a file's name
_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_SHORTEST: Final = 32


def own_token(folder: Path) -> str:
    """The token in `folder`, made there if missing, readable by its owner only; one that others could have read is
    replaced.

    Raises PaperError(DATA_FOLDER) if it can't be written.
    """
    path = folder / TOKEN_FILE
    with contextlib.suppress(OSError, UnicodeDecodeError):
        kept = path.read_text(encoding="ascii").strip()
        if len(kept) >= _SHORTEST and not path.is_symlink() and not path.stat().st_mode & 0o077:
            return kept
    token = secrets.token_hex(24)
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(token + "\n")
    except OSError as error:
        raise PaperError("DATA_FOLDER", f"Cannot write {path}: {error.strerror}.") from error
    return token


def guard(token: str) -> Middleware:
    """The middleware that lets only requests with `token` pass."""
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _host(request.headers.getall("Host", [])) not in _NAMES:
            return _refuse(403, "WRONG_HOST", "the control interface is at 127.0.0.1 or localhost, by no other name")
        if "Origin" in request.headers:
            return _refuse(403, "WRONG_ORIGIN", "a page in a browser can't use the control interface")
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or not hmac.compare_digest(given[0].encode("utf-8", "surrogateescape"), expected):
            return _refuse(
                401,
                "UNAUTHORIZED",
                f"send Authorization: Bearer with the text in {TOKEN_FILE} of the exchange's data folder",
            )
        if request.method == "POST" and request.content_type != "application/json":
            return _refuse(415, "NOT_JSON", "send Content-Type: application/json")
        return await handler(request)

    return check


def _host(given: list[str]) -> str | None:
    """The requested host name, without its port; None if there is none, or more than one."""
    if len(given) != 1:
        return None
    with contextlib.suppress(ValueError):
        parts = urlsplit(f"//{given[0]}")
        if parts.username is None and not parts.path and not parts.query:
            return parts.hostname
    return None


def _refuse(status: int, code: str, message: str) -> web.Response:
    body = orjson.dumps({"error": code, "message": message})
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
