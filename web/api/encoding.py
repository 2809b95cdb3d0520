"""The encoding of the API's answers: large ones are gzipped, and a client that has the newest version gets 304 (ETag).

Compression can reveal a secret in an answer that also has text that an attacker chooses (BREACH). No
answer that is compressed here contains a secret: those with a session's X-CSRF (`/api/session`, `/api/login`) are never
compressed, and settings are in no answer. Requests from other pages are refused before anything is read (`door`).
The event stream is never compressed: each event must leave at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from dataclasses import dataclass, field

from starlette.requests import Request

from web.api.door import Application, Message, Receive, Send

__all__ = ["EncodedAnswers", "quality"]

_WITH_SECRETS = frozenset({"/api/session", "/api/session/check", "/api/login", "/api/logout"})
_KINDS = frozenset({b"application/json", b"text/csv"})
_SMALLEST = 1024
"""Bytes; less than that gains nothing."""
_IN_A_THREAD = 65_536
"""Bytes; more than that would keep the event loop for milliseconds."""
_LEVEL = 5
_GZIP = 16 + zlib.MAX_WBITS


class EncodedAnswers:
    """An ASGI application around `app`, behind the door."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or not path.startswith("/api/") or path in _WITH_SECRETS:
            await self._app(scope, receive, send)
            return
        headers = Request(scope).headers
        accepted = ",".join(headers.getlist("accept-encoding"))
        known = ",".join(headers.getlist("if-none-match"))
        await self._app(scope, receive, _Answer(send, quality(accepted, "gzip", "*") > 0, _tags(known)))


@dataclass
class _Answer:
    """One answer on its way. Its start waits until it is known whether the body comes at once."""

    send: Send
    gzip: bool
    known: frozenset[str]
    _start: Message | None = None
    _stream: zlib._Compress | None = field(default=None)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 200 and _kind(message) in _KINDS:
                self._start = message
                return
        elif self._start is not None:
            start, self._start = self._start, None
            if not message.get("more_body", False):
                await self._whole(start, message.get("body", b""))
                return
            await self._begin(start)
        if self._stream is not None:
            message = self._packed(self._stream, message)
        await self.send(message)

    async def _whole(self, start: Message, body: bytes) -> None:
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        if self.known & {tag, "*"}:
            kept = [(b"etag", tag.encode()), *_VARY]
            await self.send({"type": "http.response.start", "status": 304, "headers": kept})
            await self.send({"type": "http.response.body", "body": b""})
            return
        added = [(b"etag", tag.encode()), *_VARY]
        if self.gzip and len(body) >= _SMALLEST:
            body = await asyncio.to_thread(_gzipped, body) if len(body) > _IN_A_THREAD else _gzipped(body)
            added.append((b"content-encoding", b"gzip"))
        added.append((b"content-length", str(len(body)).encode()))
        await self.send({**start, "headers": [*_without(start, b"content-length"), *added]})
        await self.send({"type": "http.response.body", "body": body})

    async def _begin(self, start: Message) -> None:
        """A body in pieces: its length is not known, and it has no ETag."""
        added = list(_VARY)
        if self.gzip:
            self._stream = zlib.compressobj(_LEVEL, wbits=_GZIP)
            added.append((b"content-encoding", b"gzip"))
        await self.send({**start, "headers": [*_without(start, b"content-length"), *added]})

    def _packed(self, stream: zlib._Compress, message: Message) -> Message:
        more = message.get("more_body", False)
        body = stream.compress(message.get("body", b"")) + stream.flush(zlib.Z_SYNC_FLUSH if more else zlib.Z_FINISH)
        return {**message, "body": body}


_VARY = ((b"vary", b"Accept, Accept-Encoding"),)


def quality(accepted: str, *names: str) -> float:
    """How much one of `names` is wanted by a header such as Accept or Accept-Encoding: its q from 0 to 1, 0 if it is
    not named. The first of `names` that the header has decides.
    """
    said: dict[str, float] = {}
    for part in accepted.split(","):
        name, _, given = part.partition(";")
        q = given.partition("q=")[2].partition(";")[0].strip()
        try:
            said[name.strip().lower()] = min(max(float(q), 0.0), 1.0) if q else 1.0
        except ValueError:
            said[name.strip().lower()] = 0.0
    return next((said[name] for name in names if name in said), 0.0)


def _tags(header: str) -> frozenset[str]:
    """The ETags of an If-None-Match, all as weak ones: they are compared weakly."""
    found = [part.strip() for part in header.split(",")]
    return frozenset(f"W/{tag}" if tag.startswith('"') else tag for tag in found if tag)


def _kind(start: Message) -> bytes:
    for name, value in start.get("headers", ()):
        if name.lower() == b"content-type":
            kind: bytes = value.partition(b";")[0].strip().lower()
            return kind
    return b""


def _without(start: Message, gone: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in start.get("headers", ()) if name.lower() != gone]


def _gzipped(body: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    return packer.compress(body) + packer.flush()
