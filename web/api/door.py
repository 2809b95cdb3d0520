"""The access control of the API: every request is checked here before the application sees it.

Checked are, in this order: which page sends it (Host, Origin, Sec-Fetch: `domain.browser`), that its body is JSON, who
asks (the session's cookie or a program's token), the session's X-CSRF, the role, and the body's size. Closed by
default: a new address needs a log-in, and everything but reading needs the role trade.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request

from domain.browser import foreign
from web.api.callers import Caller, Program, Role, User, program_with
from web.api.failures import Failures
from web.api.problems import problem
from web.api.sessions import OneTimeLink, Sessions
from web.refusals import Refused
from web.strangers import Tally, address_of

__all__ = [
    "CSRF_HEADER",
    "PAGE_FILES",
    "Application",
    "Door",
    "DoorTerms",
    "Message",
    "Receive",
    "Send",
    "caller_of",
    "policy_with",
]

CSRF_HEADER = "X-CSRF"
MOST_BYTES = 16_384
_BODY_S = 5.0
_SAFE = frozenset({"GET", "HEAD"})
_OPEN = frozenset({("GET", "/"), ("GET", "/login"), ("POST", "/api/login")})
"""Needed to log in."""
PAGE_FILES = "/page/"
"""Under it are the page's own files, which hold nothing of the account."""
_ALIVE = "/health"
_OF_EVERY_ROLE = frozenset({"/api/logout"})
_LOG_IN = (
    "Log in first: with the link that `bottrader up` printed, or the newest one in the file page_link of its data "
    "folder (each works once), with a user's password, or with a program's bearer token."
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def policy_with(script_hash: str | None = None) -> str:
    """The Content-Security-Policy of an answer: everything from this address only, and nothing inline but a script with
    this hash (SHA-256 in base64).
    """
    inline = "" if script_hash is None else f" 'sha256-{script_hash}'"
    return (
        f"default-src 'none'; script-src 'self'{inline}; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


_POLICY = policy_with().encode()

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
"""An ASGI application."""


@dataclass(frozen=True, slots=True)
class DoorTerms:
    """The page's addresses and who may log in.

    `origins` are the page's own (`http://127.0.0.1:8790`); `cookie` is the session's name, with the port in it, since
    a browser sends one host's cookies to all its ports.
    """

    origins: tuple[str, ...]
    cookie: str
    users: Sequence[User] = ()
    programs: Sequence[Program] = ()
    behind_proxy: bool = False


@dataclass
class Door:
    """An ASGI application around `app`."""

    app: Application
    terms: DoorTerms
    sessions: Sessions
    link: OneTimeLink | None = None
    failures: Failures = field(default_factory=Failures)
    turned_away: Tally = field(default_factory=lambda: Tally("api_turned_away"))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        request = Request(scope, receive)
        guarded = _with_headers(send, private=scope["path"].startswith(("/api", "/login")))
        try:
            caller = self._let_in(request)
            if request.method not in _SAFE:
                receive = _again(await _body(request), receive)
        except Refused as refused:
            if refused.status in {401, 429}:
                self.turned_away.add(refused.code, self.address(request))
            await problem(refused)(scope, receive, guarded)
            return
        scope["caller"] = caller
        await self.app(scope, receive, guarded)

    def address(self, request: Request) -> str:
        """The address that a request comes from, for counting and for the log."""
        return address_of(request, behind_proxy=self.terms.behind_proxy)

    def _let_in(self, request: Request) -> Caller | None:
        """The caller; None where no log-in is needed. Raises Refused."""
        # The path that is routed: `request.url` is made with the Host header, which can hold a path of its own.
        method, path, reads = request.method, request.scope["path"], request.method in _SAFE
        if reads and path == _ALIVE:
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        by_token = scheme.lower() == "bearer" and bool(token.strip())
        why = foreign(method, request.headers, self.terms.origins, by_token=by_token)
        if why is not None:
            raise Refused(403, "FOREIGN_REQUEST", why)
        if not reads and request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refused(415, "NOT_JSON", "Send it as JSON, with Content-Type: application/json.")
        if (method, path) in _OPEN or (reads and path.startswith(PAGE_FILES)):
            return None
        caller = self._program(token.strip(), request) if by_token else self._person(request, reads=reads)
        if not reads and not caller.may_trade and path not in _OF_EVERY_ROLE:
            raise Refused(403, "ROLE_MAY_NOT", f"{caller.name} has the role view, which can only read.")
        return caller

    def _person(self, request: Request, *, reads: bool) -> Caller:
        session = self.sessions.find(request.cookies.get(self.terms.cookie))
        if session is None:
            raise Refused(401, "NOT_LOGGED_IN", _LOG_IN)
        given = request.headers.get(CSRF_HEADER, "")
        if not reads and not hmac.compare_digest(given.encode("utf-8", "replace"), session.csrf.encode()):
            raise Refused(403, "NO_CSRF", f"An action needs the header {CSRF_HEADER} with the value from /api/session.")
        return Caller(session.user, Role(session.role), session)

    def _program(self, token: str, request: Request) -> Caller:
        """Tokens can't be guessed, so a valid one is accepted however often others at its address have failed."""
        program = program_with(token, self.terms.programs)
        if program is None:
            self.failures.begin([f"token {self.address(request)}"])
            raise Refused(401, "BAD_TOKEN", "No program in [api.programs] has this bearer token.")
        return Caller(program.name, program.role)


def caller_of(request: Request) -> Caller:
    """Who asks. Raises Refused(401) where no log-in was needed to get here."""
    caller: Caller | None = request.scope["caller"]
    if caller is None:
        raise Refused(401, "NOT_LOGGED_IN", _LOG_IN)
    return caller


async def _body(request: Request) -> bytes:
    """The whole body. Raises Refused: BODY_TOO_LARGE (413), BODY_TOO_SLOW (408), GONE (400)."""
    too_large = Refused(413, "BODY_TOO_LARGE", f"A request has at most {MOST_BYTES} bytes.")
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > MOST_BYTES:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.stream():
                found += piece
                if len(found) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "BODY_TOO_SLOW", f"The body did not arrive within {_BODY_S:g} s.") from None
    except ClientDisconnect:
        raise Refused(400, "GONE", "The sender left before the body had arrived.") from None
    return bytes(found)


def _again(body: bytes, receive: Receive) -> Receive:
    """What the application reads: the body, then what follows it (the end of the connection)."""
    given = False

    async def read() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read


def _with_headers(send: Send, *, private: bool) -> Send:
    """Security headers on every answer; answers of the API are not stored by browsers or proxies."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *_HEADERS]
            if not any(name.lower() == b"content-security-policy" for name, _ in headers):
                headers.append((b"content-security-policy", _POLICY))
            if private:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return sent
