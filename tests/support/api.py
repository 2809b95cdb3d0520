"""The API over a real socket, for tests: logged in, as a page or as a program."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import APIRouter

from domain.browser import own_hosts
from web.api.app import create_api
from web.api.callers import Program, Role, User
from web.api.door import Door, DoorTerms
from web.api.login import About
from web.api.passwords import digest_of
from web.api.sessions import OneTimeLink, Sessions
from web.server import WebServer, listen

VIEWER, TRADER = "token-of-the-viewer-1", "token-of-the-trader-1"
PASSWORD = "correct horse battery"


@functools.cache
def digest() -> str:
    """The digest of PASSWORD; it is slow to compute."""
    return digest_of(PASSWORD)


@dataclass
class Page:
    """The headers of our page: its origin, a session, and that session's X-CSRF."""

    http: httpx.AsyncClient
    origin: str
    csrf: str

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """An action, as the page requests it."""
        given = {"Origin": self.origin, "X-CSRF": self.csrf, **headers}
        return await self.http.post(path, json={} if body is None else body, headers=given)


@dataclass
class Api:
    """A running API. `http` has no cookies and no token."""

    door: Door
    link: OneTimeLink
    origin: str
    http: httpx.AsyncClient

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.origin.rpartition(":")[2])

    @contextlib.asynccontextmanager
    async def client(self, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """Another browser or program."""
        async with httpx.AsyncClient(base_url=self.origin, timeout=120, trust_env=False, headers=headers) as http:
            yield http

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """Log in by the link, like the owner. httpx sends a Secure cookie over https only, so it is set by hand."""
        answer = await self.http.get("/login", params={"token": self.link.token})
        cookie = answer.headers["set-cookie"].partition(";")[0]
        async with self.client(Cookie=cookie) as http:
            session = (await http.get("/api/session")).json()
            yield Page(http, self.origin, session["csrf"])

    @contextlib.asynccontextmanager
    async def program(self, token: str = TRADER) -> AsyncIterator[httpx.AsyncClient]:
        """A program with a bearer token."""
        async with self.client(Authorization=f"Bearer {token}") as http:
            yield http


@contextlib.asynccontextmanager
async def api_on(
    *,
    routers: Sequence[APIRouter] = (),
    sessions: Sessions | None = None,
    account: str = "main",
    stop: Callable[[], None] = lambda: None,
    page: APIRouter | None = None,
    programs: Sequence[Program] = (),
    mode: str = "paper",
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Api]:
    """The API as `bottrader api serve` sets it up, with two programs and the users ana (trade) and vera (view).

    `stop`: called before its end; `page`: the page's addresses; `programs`: others beside the two.
    """
    address = listen(host, port)
    port = address.getsockname()[1]
    origins = tuple(f"http://{own}" for own in own_hosts(port, host))
    terms = DoorTerms(
        origins,
        f"__Host-bottrader-{port}",
        users=(User("ana", Role.TRADE, digest()), User("vera", Role.VIEW, digest())),
        programs=(
            Program("viewer", Role.VIEW, VIEWER.encode()),
            Program("trader", Role.TRADE, TRADER.encode()),
            *programs,
        ),
    )
    link = OneTimeLink("owner")
    about = About(account=account, mode=mode, dry_run=False, speed="1", temporal_ui=None, namespace="default")
    sessions = sessions or Sessions(43_200, 3600)
    door = create_api(terms, about, sessions=sessions, link=link, routers=routers, page=page)
    server = WebServer(door, arrival_s=10, max_connections=100, name="api")
    serving = asyncio.create_task(server.serve(sockets=[address]))
    origin = origins[0]
    try:
        async with httpx.AsyncClient(base_url=origin, timeout=120, trust_env=False) as http:
            yield Api(door, link, origin, http)
    finally:
        stop()
        server.stop()
        await serving
