"""Temporal's Web UI behind a gate of ours: requests of other web pages and of strangers never reach Temporal.

The UI's own server accepts any Host, so a page under a rebound name could cancel, signal and terminate, and in live
mode it would lend its client certificate to every user of this machine. So that server only serves files here
(`UiUpstream`), and the gate passes the requests of its own page on to Temporal's HTTP API, which answers nobody else.

Where the API runs, its log-in is the gate's, too: a browser sends the cookie of `http://127.0.0.1:8790` to every port
of that host, and the gate asks the API about it with each request, so a log-out applies at once. The role view may
read; everything but GET needs the role trade. In live mode there is also a link that works once, exchanged for a
session of twelve hours.

If all connections are in use, one that waits for its client is closed for the next: whoever holds them by sending or
reading slowly keeps nobody out.
"""

import asyncio
import hmac
import json
import os
import re
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, urlencode, urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from domain.browser import foreign, own_hosts
from workers.errors import UnreachableError
from workers.private_files import write_private
from workers.stack.temporal_views import VIEW_PATHS, view_address, with_views

__all__ = ["PUBLIC_PATH", "UiGate", "UiGateConfig", "UiUpstream"]

SESSION_S = 12 * 3600.0
"""Wall seconds that a log-in lasts."""

PUBLIC_PATH = "^/*api"
"""What the UI's server is told to stand before its addresses. It rewrites what it is asked for by this pattern, in
which `*` is anything: of an address with `api/` in it remains what comes before. So its own API has no address, and its
files keep theirs."""

_COOKIE = "bottrader_ui"
_SESSION = re.compile(r"[A-Za-z0-9_-]{20,100}")
_LARGEST_BODY = 4 * 2**20  # Temporal's own limit of a request
_CONNECT_TIMEOUT_S = 5.0
_MOST_CONNECTIONS = 256
"""At a time. The gate is in the process that starts the others again, which needs open files of its own."""
# Long polls for a history's next event last a minute; the browser or the server ends them.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
_UNSHORTENED = "application/json+no-payload-shorthand"  # payloads as the UI's own server passes them
_DOWNLOAD = re.compile(r"/api/v1/namespaces/([^/]+)/workflows/([^/]+)/runs?/([^/]+)/history\.json")
_TO_SERVER = ("Accept-Language", "Caller-Type", "If-Modified-Since", "If-None-Match")
_TO_BROWSER = ("Content-Type", "Cache-Control", "ETag", "Last-Modified", "Content-Security-Policy", "Location")
_SECURITY_HEADERS = {
    # The UI shows a workflow's details in a frame of its own: none but itself may frame it.
    "Content-Security-Policy": "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LOG_IN = (
    "Log in with the link that `bottrader up` printed, or with the newest one in the file temporal_ui_link "
    "of its data folder. Each works once."
)
_LOG_IN_AT = (
    "Log in to BotTrader's page at {} first, with the link that `bottrader up` printed or the newest one in the file "
    "page_link of its data folder, or with a user's password; then open {} again."
)
_CHECK_TIMEOUT = aiohttp.ClientTimeout(total=10.0)


@dataclass(frozen=True)
class UiUpstream:
    """Where the gate gets things: the UI's files, and Temporal's HTTP API.

    `api_host` is the only Host that the API answers (None: its own address), `tls` has our client certificate.
    `public_path` is what the UI's server was told to put before its own addresses; the gate takes it out again.
    """

    files: str
    api: str
    api_host: str | None = None
    tls: ssl.SSLContext | None = None
    public_path: str = ""


@dataclass(frozen=True)
class UiGateConfig:
    """`port` 0 is any free one. `link_file` is where the link to log in is kept (0600); None: there is no such link.

    `login` returns the address of the API, whose sessions are accepted (None: it has not started yet). With neither, no
    log-in is needed. In a container the gate listens on `host`, and a browser names the port that is published for it,
    `public_port`; behind a reverse proxy a browser shows `origin`, such as https://bot.example:8443.
    """

    upstream: UiUpstream
    port: int = 0
    namespace: str = "default"
    link_file: Path | None = None
    host: str = "127.0.0.1"
    public_port: int | None = None
    login: Callable[[], str | None] | None = None
    origin: str | None = None


class _Full(asyncio.Protocol):
    """A connection that is one too many: it is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


@dataclass
class _Logins:
    """Sessions of the gate's own link, and the next link's token."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    ends: dict[str, float] = field(default_factory=dict)

    def holds(self, session: str | None) -> bool:
        return session is not None and self.ends.get(session, 0.0) > time.monotonic()

    def exchange(self, token: str) -> str | None:
        """A new session for the token, which then works no more; None for a wrong one."""
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self.token = secrets.token_urlsafe(32)
        self.ends = {session: end for session, end in self.ends.items() if end > time.monotonic()}
        session = secrets.token_urlsafe(32)
        self.ends[session] = time.monotonic() + SESSION_S
        return session


class UiGate:
    """The gate, in our own process: `start()`, then `url` and `link`, and `stop()`."""

    def __init__(self, config: UiGateConfig) -> None:
        self.config = config
        self._port = config.port
        self._logins = _Logins()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._asking: set[object] = set()
        """Connections whose requests Temporal is answering."""
        self._answered: set[object] = set()
        """Connections that have had an answer."""
        self._client: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The Web UI's address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def link(self) -> str:
        """What a person opens: the address, or where a log-in is needed the link that works once."""
        return self.url if self.config.link_file is None else f"{self.url}/login?token={self._logins.token}"

    @property
    def views(self) -> dict[str, str]:
        """The lists of trades and orders: name → address."""
        return {name: self.url + path for path, name in VIEW_PATHS.items()}

    async def start(self) -> None:
        """Listen. Raises UnreachableError(PORT_IN_USE)."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._client = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        serve = self._runner.server
        if serve is None:
            raise RuntimeError("the gate has no server")

        def one_more() -> asyncio.BaseProtocol:
            return serve() if self._has_room(serve) else _Full()

        try:
            self._listening = await asyncio.get_running_loop().create_server(one_more, self.config.host, self._port)
        except OSError as error:
            await self.stop()
            raise UnreachableError(
                "PORT_IN_USE",
                f"Port {self._port} for Temporal's Web UI can't be used ({os.strerror(error.errno or 0)}): stop what "
                "listens there or choose another with --ui-port (0 = any free port).",
            ) from None
        self._port = self._listening.sockets[0].getsockname()[1]
        self._write_link()

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self.config.link_file is not None:
            self.config.link_file.unlink(missing_ok=True)

    def _has_room(self, server: web.Server) -> bool:
        """Whether one more connection may be made; if all are in use, one is closed for it: first one that has never
        had an answer, the oldest of them.
        """
        open_ones = [each for each in server.connections if each.transport and not each.transport.is_closing()]
        self._answered &= set(open_ones)
        if len(open_ones) < _MOST_CONNECTIONS:
            return True
        waiting = [each for each in open_ones if each not in self._asking]
        if not waiting:
            return False
        oldest = next((each for each in waiting if each not in self._answered), waiting[0])
        cast(asyncio.Transport, oldest.transport).abort()
        return True

    def _write_link(self) -> None:
        if self.config.link_file is not None:
            write_private(self.config.link_file, self.link + "\n")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer_to(request)
        finally:
            self._answered.add(request.protocol)

    async def _answer_to(self, request: web.Request) -> web.StreamResponse:
        why = foreign(request.method, request.headers, self._origins)
        # A browser never sends an address in another form, or one that leads elsewhere.
        if why is None and (not request.raw_path.startswith("/") or "/.." in request.raw_path):
            why = "This is not an address of the Web UI."
        if why is not None:
            return _plain(403, why)
        if self.config.link_file is not None and request.path == "/login":
            return self._log_in(request)
        refused, may_act = await self._checked(request)
        if refused is not None:
            return refused
        if request.path == "/api/v1/settings":
            return _with_headers(web.json_response(_settings(self.config, may_act=may_act)))
        if request.method == "GET" and (name := VIEW_PATHS.get(request.path)):
            where = view_address(name, self.config.namespace)
            return _with_headers(web.Response(status=303, headers={"Location": where}))
        # A body that arrives slowly holds nothing: until it is whole, the connection can be closed for another one.
        body = await request.read() if request.can_read_body else None
        self._asking.add(request.protocol)
        try:
            if request.method == "GET" and (asked := _DOWNLOAD.fullmatch(request.rel_url.raw_path)):
                return await self._download(*asked.groups())
            return await self._pass_on(request, body)
        finally:
            self._asking.discard(request.protocol)

    @property
    def _origins(self) -> list[str]:
        own = [f"http://{host}" for host in own_hosts(self.config.public_port or self._port)]
        return own if self.config.origin is None else [*own, self.config.origin]

    async def _checked(self, request: web.Request) -> tuple[web.StreamResponse | None, bool]:
        """The answer to a request without a log-in, or whose role is not enough (None: it may pass); and whether the
        caller may act.
        """
        config = self.config
        if config.link_file is not None:
            if self._logins.holds(request.cookies.get(_COOKIE)):
                return None, True
            if config.login is None:
                return _plain(401, _LOG_IN), False
        if config.login is None:
            return None, True
        base = config.login()
        if base is None:
            return _plain(503, "BotTrader's API, which checks log-ins, has not started yet: try again."), False
        return await self._asked_the_api(base, request)

    async def _asked_the_api(self, base: str, request: web.Request) -> tuple[web.StreamResponse | None, bool]:
        if self._client is None:
            raise RuntimeError("the gate is not started")
        name = f"__Host-bottrader-{urlsplit(base).port}"
        session = request.cookies.get(name, "")
        if not _SESSION.fullmatch(session):
            return _plain(401, _LOG_IN_AT.format(base, self.url)), False
        role = "view" if request.method in {"GET", "HEAD"} else "trade"
        try:
            async with self._client.get(
                f"{base}/api/session/check",
                params={"role": role},
                headers={"Cookie": f"{name}={session}"},
                timeout=_CHECK_TIMEOUT,
                allow_redirects=False,
            ) as answer:
                status, may_act = answer.status, answer.headers.get("X-Role") == "trade"
        except (aiohttp.ClientError, TimeoutError):
            status, may_act = 0, False
        if status == HTTPStatus.NO_CONTENT:
            return None, may_act
        if status == HTTPStatus.UNAUTHORIZED:
            return _plain(401, _LOG_IN_AT.format(base, self.url)), False
        if status == HTTPStatus.FORBIDDEN:
            return _plain(403, "Your role is view, which can only read."), False
        return _plain(503, "BotTrader's API, which checks log-ins, does not answer: try again."), False

    def _log_in(self, request: web.Request) -> web.StreamResponse:
        session = self._logins.exchange(request.query.get("token", "")) if request.method == "GET" else None
        if session is None:
            return _plain(401, _LOG_IN)
        self._write_link()
        answer = _with_headers(web.Response(status=303, headers={"Location": "/"}))
        answer.set_cookie(_COOKIE, session, max_age=int(SESSION_S), httponly=True, samesite="Strict", path="/")
        return answer

    async def _download(self, namespace: str, workflow: str, run: str) -> web.StreamResponse:
        """A run's whole history, as the UI's own server puts it together from its pages."""
        upstream, client = self.config.upstream, self._client
        if client is None:
            raise RuntimeError("the gate is not started")
        headers = {"Accept": _UNSHORTENED} | ({"Host": upstream.api_host} if upstream.api_host else {})
        address = upstream.api + _written_once(f"/api/v1/namespaces/{namespace}/workflows/{workflow}")
        events: list[object] = []
        token = ""
        while True:
            query = urlencode({"execution.runId": run, "nextPageToken": token})
            try:
                async with client.get(
                    URL(f"{address}/history?{query}", encoded=True), headers=headers, ssl=upstream.tls or True
                ) as answer:
                    page = json.loads(await answer.read())
            except (aiohttp.ClientError, TimeoutError, ValueError):
                return _unanswered()
            if answer.status != HTTPStatus.OK:
                return _with_headers(web.json_response(page, status=answer.status))
            events += page.get("history", {}).get("events", [])
            token = page.get("nextPageToken", "")
            if not token:
                return _with_headers(web.json_response(events))

    async def _pass_on(self, request: web.Request, body: bytes | None) -> web.StreamResponse:
        upstream, client = self.config.upstream, self._client
        if client is None:
            raise RuntimeError("the gate is not started")
        headers = {name: request.headers[name] for name in _TO_SERVER if name in request.headers}
        api = request.raw_path.startswith("/api/")
        address = request.raw_path
        if api:
            address = _written_once(address)
            headers |= {"Accept": _UNSHORTENED, "Content-Type": _UNSHORTENED}
            if upstream.api_host is not None:
                headers["Host"] = upstream.api_host
        elif request.method not in {"GET", "HEAD"}:
            return _plain(405, "There is nothing to change here.")
        elif upstream.public_path and request.path == "/render":
            address = f"/^/{address.removeprefix('/')}"  # where its server keeps this page under such a public path
        try:
            async with client.request(
                request.method,
                URL((upstream.api if api else upstream.files) + address, encoded=True),
                headers=headers,
                data=body,
                ssl=upstream.tls or True,
                allow_redirects=False,
                skip_auto_headers=("User-Agent",),
            ) as answer:
                found = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return _unanswered()
        passed = {name: answer.headers[name] for name in _TO_BROWSER if name in answer.headers}
        if api:
            passed["Content-Type"] = "application/json"
        elif answer.content_type == "text/html":
            if upstream.public_path:
                found = found.replace(upstream.public_path.encode(), b"")
            if request.path != "/render":
                found = with_views(found, self.config.namespace)
        return _with_headers(web.Response(status=answer.status, body=found, headers=passed))


def _written_once(address: str) -> str:
    """An address of the API as Temporal reads it: the UI writes the special characters of an id twice, as for its own
    server, which reads them twice. An id with a slash in it can't be written for Temporal.
    """
    path, mark, query = address.partition("?")
    return "/".join(quote(unquote(unquote(part)), safe="") for part in path.split("/")) + mark + query


def _unanswered() -> web.Response:
    return _plain(502, json.dumps({"code": 14, "message": "Temporal does not answer."}), "application/json")


def _plain(status: int, text: str, content_type: str = "text/plain") -> web.Response:
    return _with_headers(web.Response(status=status, text=text + "\n", content_type=content_type))


def _with_headers(answer: web.Response) -> web.Response:
    for name, value in _SECURITY_HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def _settings(config: UiGateConfig, *, may_act: bool) -> dict[str, Any]:
    """What the UI asks for first, as its own server would answer. Without `may_act` its acting buttons are disabled."""
    switches = (
        "ShowTemporalSystemNamespace",
        "NotifyOnNewVersion",
        "DisableWriteActions",
        "WorkflowTerminateDisabled",
        "WorkflowCancelDisabled",
        "WorkflowSignalDisabled",
        "WorkflowUpdateDisabled",
        "WorkflowResetDisabled",
        "BatchActionsDisabled",
        "StartWorkflowDisabled",
        "HideWorkflowQueryErrors",
        "RefreshWorkflowCountsDisabled",
        "ActivityCommandsDisabled",
    )
    codec = {
        "Endpoint": "",
        "PassAccessToken": False,
        "IncludeCredentials": False,
        "DefaultErrorMessage": "",
        "DefaultErrorLink": "",
    }
    return {
        "Auth": {"Enabled": False, "Options": None},
        "BannerText": "",
        "DefaultNamespace": config.namespace,
        "FeedbackURL": "",
        "Codec": codec,
        "Version": "",
        **dict.fromkeys(switches, False),
        "DisableWriteActions": not may_act,
    }
