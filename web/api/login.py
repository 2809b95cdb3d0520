"""Logging in and out: by the link that works once, or by a user's password.

Each log-in, failed log-in and log-out is a line of the log, with the address; never with what was typed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from web.api.callers import Caller, Role
from web.api.door import Door, caller_of
from web.api.passwords import matches
from web.api.problems import RESPONSES
from web.api.sessions import Session
from web.refusals import Refused
from web.strangers import Tally

__all__ = ["About", "SessionAnswer", "login_routes"]

_log = structlog.get_logger()

USED_LINK = "#used-link"
"""Where the page is opened with a link that logs nobody in."""
_WAITING = 8
"""Log-ins that may wait; they are checked one at a time, as each takes a tenth of a second and 32 MB."""


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class About(_Shown):
    """The account that is shown."""

    account: str
    mode: str = Field(description="paper or live; live is real money")
    dry_run: bool
    speed: str = Field(description="market seconds in a wall second")
    temporal_ui: str | None = Field(
        None, description="Temporal's Web UI; a workflow's page is its /namespaces/<namespace>/workflows/<id>"
    )
    namespace: str


class SessionAnswer(_Shown):
    """Who is logged in."""

    name: str
    role: Role
    csrf: str | None = Field(
        description="the value of X-CSRF that each action needs; null for a program, which needs none"
    )
    ends_at: datetime | None = Field(description="when the session ends at the latest (UTC); null for a program")
    idle_s: float | None = Field(description="wall seconds without a request after which it ends")
    about: About


class PasswordLogin(_Shown):
    """A user and its password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field(max_length=100)
    password: str = Field(max_length=1024)


class _LogIn:
    def __init__(self, door: Door) -> None:
        self._door = door
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._failed = Tally("api_log_in_failed")

    def by_link(self, request: Request, token: str) -> Response:
        """Links can't be guessed, so a valid one is accepted however often others at its address have failed: any page
        could make a browser here open wrong ones. Raises Refused.
        """
        link = self._door.link
        if link is None or not link.take(token):
            self._door.failures.begin([f"link {self._door.address(request)}"])
            self._failed.add("link", self._door.address(request))
            if "text/html" in request.headers.get("accept", ""):
                # A person: the page says so, or shows itself where the link has logged in before.
                return RedirectResponse(f"/{USED_LINK}", 303)
            raise Refused(
                401,
                "BAD_LINK",
                "This link has been used or is not valid: the newest one is in the file page_link of the data "
                "folder that `bottrader up` printed.",
            )
        _, cookie = self._open(request, link.user, Role.TRADE, "link")
        return RedirectResponse("/", 303, {"Set-Cookie": cookie})

    async def by_password(self, request: Request, given: PasswordLogin) -> tuple[Session, str]:
        """The session and the header that sets its cookie. Raises Refused."""
        address = self._door.address(request)
        keys = [f"user {given.user} at {address}", f"address {address}"]
        if self._waiting >= _WAITING:
            # Before it is counted: it is not checked.
            raise Refused(503, "BUSY", "Too many people are logging in at the same time: try again.", retry_after=1)
        self._door.failures.begin(keys)
        user = next((user for user in self._door.terms.users if user.name == given.user), None)
        self._waiting += 1
        try:
            async with self._turn:
                right = await asyncio.to_thread(matches, given.password, None if user is None else user.digest)
        finally:
            self._waiting -= 1
        if user is None or not right:
            self._failed.add("password", address)
            if user is not None:
                # The names of others are not logged: somebody may have typed a password there.
                _log.warning("api_log_in_refused", user=user.name, way="password", address=address)
            raise Refused(401, "BAD_LOGIN", "No user has this name and this password.")
        self._door.failures.succeeded(keys)
        return self._open(request, user.name, user.role, "password")

    def _open(self, request: Request, user: str, role: Role, way: str) -> tuple[Session, str]:
        value, session = self._door.sessions.open(user, role.value)
        _log.info("api_logged_in", user=user, role=role.value, way=way, address=self._door.address(request))
        return session, _cookie(self._door, value, int(self._door.sessions.lasts_s))


def _cookie(door: Door, value: str, seconds: int) -> str:
    """Browsers accept `Secure` from http://127.0.0.1 too, and a `__Host-` name only from this very host."""
    return f"{door.terms.cookie}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict"


def login_routes(door: Door, about: About) -> APIRouter:
    """The log-in's addresses; see docs/api.md."""
    router = APIRouter(tags=["session"])
    log_in = _LogIn(door)

    def shown(caller: Caller) -> SessionAnswer:
        session = caller.session
        left = None if session is None else timedelta(seconds=door.sessions.left_s(session))
        return SessionAnswer(
            name=caller.name,
            role=caller.role,
            csrf=None if session is None else session.csrf,
            ends_at=None if left is None else datetime.now(UTC) + left,
            idle_s=None if session is None else door.sessions.idle_s,
            about=about,
        )

    @router.get("/login", include_in_schema=False)
    async def link(request: Request, token: str = "") -> Response:
        return log_in.by_link(request, token)

    @router.post("/api/login", operation_id="log_in", responses=RESPONSES, response_model=SessionAnswer)
    async def password(request: Request, given: PasswordLogin) -> Response:
        """Log in with a password. After five failures in 15 minutes further log-ins are refused for a while."""
        session, cookie = await log_in.by_password(request, given)
        answer = shown(Caller(session.user, Role(session.role), session))
        return JSONResponse(answer.model_dump(mode="json"), headers={"Set-Cookie": cookie})

    @router.get("/api/session", operation_id="session", responses=RESPONSES)
    async def session(request: Request) -> SessionAnswer:
        """Who is logged in, with which role, and the X-CSRF for actions."""
        return shown(caller_of(request))

    @router.get(
        "/api/session/check",
        operation_id="check_session",
        status_code=204,
        responses={**RESPONSES, 204: {"description": "logged in, with this role; X-User and X-Role say who"}},
    )
    async def check(request: Request, role: Role = Role.VIEW) -> Response:
        """Whether the caller is logged in and has the role: for a proxy in front of another page (docs/api.md)."""
        caller = caller_of(request)
        if role is Role.TRADE and not caller.may_trade:
            raise Refused(403, "ROLE_MAY_NOT", f"{caller.name} has the role view, which can only read.")
        return Response(status_code=204, headers={"X-User": caller.name, "X-Role": caller.role.value})

    @router.post("/api/logout", operation_id="log_out", status_code=204, responses=RESPONSES)
    async def log_out(request: Request) -> Response:
        """End the session. A program has none."""
        caller = caller_of(request)
        headers: Mapping[str, str] = {}
        if caller.session is not None:
            door.sessions.end(caller.session)
            headers = {"Set-Cookie": _cookie(door, "", 0)}
            _log.info("api_logged_out", user=caller.name, address=door.address(request))
        return Response(status_code=204, headers=headers)

    return router
