"""Calls to Coinbase's REST API by the official client, and the meaning of each kind of failure.

The client is synchronous, so calls run on threads, one client and session a thread, with connections kept alive. The
rule for commands: until a byte of the request was given to the connection, the venue certainly did not take it
(`NotAccepted`); afterwards only a readable answer decides, and everything else is `OutcomeUnknown`. That moment is
observed in the connection itself rather than guessed from exception types. Nothing is ever sent twice: no retries, no
redirects. A failed read is `Unavailable`.

One exception: a request that the venue rejected with 401, and so did not take, is sent again with a new token, at most
twice, if the refusal's date, or a check of the venue's clock, shows that the token's time was wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any

import orjson
import requests
from coinbase.constants import USER_AGENT
from coinbase.rest import RESTClient
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

from exchange.clock import ExchangeClock
from exchange.coinbase.failures import AUTH_FAILURE, command_failure, date_of, read_failure, response_of
from exchange.coinbase.keys import ApiKey
from exchange.coinbase.parse import moment_of
from exchange.port import ExchangeError, NotAccepted, OutcomeUnknown, Unavailable
from exchange.rate_limit import RateLimiter
from exchange.reading import MessageError
from exchange.trust import authorities

__all__ = ["PREFIX", "RestCaller"]

PREFIX = "/api/v3/brokerage"

_SPARE_SECONDS = 2.0
"""A call is given up this many seconds after its own timeouts, which bound silence, not a slow answer."""

# The client attaches its own handler to standard error; here every failure reaches the caller as an exception.
logging.getLogger("coinbase.RESTClient").handlers.clear()
logging.getLogger("coinbase.RESTClient").addHandler(logging.NullHandler())
logging.getLogger("coinbase.RESTClient").propagate = False

_CLOCK_WRONG_SECONDS = 1.0
"""A token's time was wrong if the assumed and the actual venue clock differ by this many seconds."""
_CLOCK_WAIT_SECONDS = 0.5
"""Seconds that a refused request waits for the venue's time if the refusal's date says nothing new."""
_SENT_AGAIN = 2
"""How often a request with a refused token is sent again at most, while there is another time to try."""
_CLOCK_RIGHT_SECONDS = 10.0
"""For this many seconds after a check found the clock right, a refused token causes no other check."""

_sending = threading.local()


class _ObservedConnection(HTTPSConnection):
    """Notes when a request is handed to an established connection."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        _sending.begun = True
        super().request(*args, **kwargs)


class _ObservedPool(HTTPSConnectionPool):
    ConnectionCls = _ObservedConnection


class _Answer(requests.Response):
    """Parses its body once: the client asks for it several times."""

    _parsed: Any = None

    def json(self, **_: Any) -> Any:
        if self._parsed is None:
            self._parsed = orjson.loads(self.content)
        return self._parsed


class _Transport(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        # Our own context: the default one writes its keys to the file named by SSLKEYLOGFILE.
        super().init_poolmanager(*args, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"https": _ObservedPool}

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        response: requests.Response = super().build_response(req, resp)
        response.__class__ = _Answer
        return response


def _session(ca_file: str | None) -> requests.Session:
    session = requests.Session()
    session.mount("https://", _Transport(max_retries=0))
    # The environment is ignored: its authorities would replace ours, its proxies would be in between, and a .netrc
    # file would replace the token.
    session.trust_env = False
    session.verify = authorities(ca_file)
    session.max_redirects = 0
    return session


class _Client(RESTClient):  # type: ignore[misc]  # the client is untyped
    """The official client, with tokens in the exchange's time; without a key only for public paths."""

    def __init__(self, address: str, key: ApiKey | None, clock: ExchangeClock, timeout: tuple[float, float]) -> None:
        super().__init__(
            api_key=key.name if key else None,
            api_secret=key.secret if key else None,
            base_url=address,
            timeout=timeout,
        )
        self._key = key
        self._clock = clock

    def set_headers(self, method: str, path: str) -> dict[str, str]:
        """The headers of a request, with a token if there is a key."""
        headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json"}
        if self._key is not None:
            token = self._key.token(self._clock.now(), f"{method} {self.base_url}{path}")
            headers["Authorization"] = f"Bearer {token}"
        return headers


class RestCaller:
    """Sends requests on threads, within the process's share of the account's rate.

    Args:
        address: host, or host:port.
        key: signs every request; without one only public paths can be used.
        ca_file: PEM file to trust instead of the public authorities.
        connect_timeout: seconds for TCP and TLS.
        read_timeout: seconds of silence after sending.
        threads: calls in flight at once.
        limiter: the process's share of the rate.
        clock_look_seconds: seconds between checks of the venue's clock; each refused token causes another.
    """

    def __init__(
        self,
        address: str,
        key: ApiKey | None,
        *,
        ca_file: str | None,
        connect_timeout: float,
        read_timeout: float,
        threads: int,
        limiter: RateLimiter,
        clock_look_seconds: float = 600.0,
    ) -> None:
        self.clock = ExchangeClock()
        self._address = address
        self._key = key
        self._ca_file = ca_file
        self._timeout = (connect_timeout, read_timeout)
        self._deadline = connect_timeout + read_timeout + _SPARE_SECONDS
        self._limiter = limiter
        # A quarter of the threads is reserved for exits, however slow the venue is. A read whose caller was cancelled
        # keeps its slot until its thread is free again.
        self._ordinary = asyncio.Semaphore(max(1, threads - threads // 4))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="coinbase-rest")
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._closed = False
        self._look_seconds = clock_look_seconds
        self._next_look = time.monotonic() + clock_look_seconds
        self._looking = threading.Lock()
        self._right_until = 0.0
        self._looked_at = float("-inf")
        """When a clock check last ended, with any result (monotonic seconds)."""

    async def read(self, path: str, params: Mapping[str, Any] | None = None, *, public: bool = False) -> dict[str, Any]:
        """GET `path` (after the prefix) and return the JSON object.

        Raises:
            Unavailable: for any reason, with `code` AUTH_FAILURE, RATE_LIMITED, NOT_FOUND or UNAVAILABLE.
        """
        arguments = dict(params or {})

        def call(client: RESTClient) -> Any:
            return client.get(PREFIX + path, params=arguments, public=public)

        if self._key is None and not public:
            raise Unavailable("no API key is configured, so the account can't be read", code=AUTH_FAILURE)
        async with self._limiter.turn():
            answer = await self._run(call, read_failure, f"GET {path}", late=Unavailable, public=public)
        if time.monotonic() >= self._next_look:
            self.look_at_the_clock()
        return answer

    async def command(self, path: str, body: Mapping[str, Any], *, urgent: bool = False) -> dict[str, Any]:
        """POST `body` to `path` once and return the JSON object.

        Raises:
            CommandRefused: the venue refused the command with a status of its own (4xx).
            NotAccepted: the venue certainly did not take it.
            OutcomeUnknown: the venue may or may not have taken it.
        """
        if self._key is None:
            raise NotAccepted("no API key is configured, so nothing can be ordered", code=AUTH_FAILURE)
        async with self._limiter.turn(urgent=urgent):
            return await self.command_now(path, body, urgent=urgent)

    async def command_now(self, path: str, body: Mapping[str, Any], *, urgent: bool = False) -> dict[str, Any]:
        """`command` for a caller that already holds a turn of the limiter."""

        def call(client: RESTClient) -> Any:
            return client.post(PREFIX + path, data=dict(body))

        return await self._run(call, command_failure, f"POST {path}", late=OutcomeUnknown, urgent=urgent)

    async def pages(self, path: str, params: Mapping[str, Any], items: str) -> AsyncIterator[list[dict[str, Any]]]:
        """The lists named `items` of all pages; also goes on after an empty page if the venue says that there are more.

        Raises:
            Unavailable: a page failed, or the venue repeats a cursor.
        """
        cursor, seen = "", set[str]()
        while True:
            page = await self.read(path, {**params, "cursor": cursor or None})
            rows = page.get(items, ())
            if rows is None:
                rows = []  # the venue sometimes sends null for an empty list
            if not isinstance(rows, list):
                raise Unavailable(f"GET {path}: the answer has no list {items!r}", code="UNREADABLE_ANSWER")
            yield rows
            cursor = page.get("cursor") or ""
            if not cursor or page.get("has_next") is False:
                return
            if cursor in seen:
                raise Unavailable(
                    f"GET {path}: the venue gave the page cursor {cursor[:40]!r} twice, so the list would never end",
                    code="CURSOR_LOOP",
                )
            seen.add(cursor)

    async def _run(
        self,
        call: Callable[[RESTClient], Any],
        failure: Callable[[str, BaseException, bool], ExchangeError],
        what: str,
        *,
        late: type[ExchangeError],
        urgent: bool = False,
        public: bool = False,
    ) -> dict[str, Any]:
        began = time.monotonic()

        def send(again: int = 0) -> Any:
            _sending.begun = False
            offset = self.clock.offset
            try:
                answer = call(self._client(public=public))
            except Exception as problem:  # every failure must become one of the port's errors
                once_more = again < _SENT_AGAIN and time.monotonic() - began < self._deadline / 2
                if not self._clock_was_wrong(problem, offset, once_more=once_more) or not once_more:
                    raise failure(what, problem, _sending.begun) from problem
                return send(again + 1)
            if not public:
                self.clock.accepted(offset)
            return answer

        def run() -> dict[str, Any]:
            answer = send()
            if not isinstance(answer, dict):
                raise late(f"{what}: the answer is not a JSON object", code="UNREADABLE_ANSWER")
            return answer

        if self._closed:
            raise failure(what, RuntimeError("the adapter is closed"), False)
        future: Future[dict[str, Any]] | None = None
        try:
            async with asyncio.timeout(self._deadline):
                if not urgent:
                    await self._ordinary.acquire()
                future = self._submit(run, ordinary=not urgent)
                return await asyncio.wrap_future(future)
        except TimeoutError as problem:
            never_started = future is None or future.cancelled() or future.cancel()
            raise failure(what, problem, not never_started) from None

    def _submit(self, run: Callable[[], dict[str, Any]], *, ordinary: bool) -> Future[dict[str, Any]]:
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended before the thread
                loop.call_soon_threadsafe(self._ordinary.release)

        try:
            future = self._threads.submit(run)
        except RuntimeError:
            if ordinary:
                self._ordinary.release()
            raise
        if ordinary:
            future.add_done_callback(free)
        return future

    def _client(self, *, public: bool) -> RESTClient:
        """This thread's client; an unsigned one for public paths, as even they refuse a token with a wrong time."""
        if getattr(self._local, "session", None) is None:
            session = self._local.session = _session(self._ca_file)
            self._sessions.append(session)
            self._local.signing = self._open(self._key, session)
            self._local.public = self._open(None, session)
        client: RESTClient = self._local.public if public else self._local.signing
        return client

    def _open(self, key: ApiKey | None, session: requests.Session) -> RESTClient:
        client: RESTClient = _Client(self._address, key, self.clock, self._timeout)
        client.session.close()
        client.session = session
        return client

    # --- the venue's clock -------------------------------------------------------------------------------------------

    def stream_token(self) -> str:
        """A new token for a subscribe message, in the venue's time.

        Raises:
            ValueError: there is no API key.
        """
        if self._key is None:
            raise ValueError("no API key is configured, so no subscription can be signed")
        return self._key.token(self.clock.now())

    def look_at_the_clock(self, *, refused: bool = False) -> None:
        """Request the venue's time in the background. A failed check changes nothing, except after a token was
        `refused` by a message without a time: then the date of the failed check is used."""
        with contextlib.suppress(RuntimeError):  # closed in the meantime
            self._threads.submit(self._look, self.clock.offset, refused=refused)

    def _clock_was_wrong(self, problem: BaseException, offset: float, *, once_more: bool) -> bool:
        """Whether the venue refused a token, which was made with `offset`, and another offset should be tried.

        The refusal's own date decides at once, independent of any read; the exact time is then requested in the
        background. If the date says nothing new, this waits briefly for that time, if the request could be sent
        `once_more`.
        """
        response = response_of(problem)
        if response is None or response.status_code != 401 or self._key is None:
            return False
        refused_at = time.monotonic()
        if self._refused(offset, date_of(response)):
            self.look_at_the_clock()
        elif once_more:
            self._wait_for_a_look(offset, refused_at)
        return abs(self.clock.offset - offset) >= _CLOCK_WRONG_SECONDS

    def _wait_for_a_look(self, offset: float, refused_at: float) -> None:
        """Wait until the venue's time has been requested since a token with `offset` was refused (monotonic seconds).

        The wait is bounded: a read that hangs must not delay an order.
        """
        with contextlib.suppress(RuntimeError):  # closed in the meantime
            wait([self._threads.submit(self._look_since, offset, refused_at)], timeout=_CLOCK_WAIT_SECONDS)

    def _look_since(self, offset: float, refused_at: float) -> None:
        if not self._looking.acquire(timeout=_CLOCK_WAIT_SECONDS):
            return
        try:
            if self._looked_at <= refused_at and time.monotonic() >= self._right_until:
                self._ask_time(offset, refused=True)
        finally:
            self._looking.release()

    def _look(self, offset: float, *, refused: bool) -> None:
        """Request the venue's time, unless another thread has done so since it was assumed to be `offset` ahead, or is
        doing so: a venue that hangs blocks one thread only.
        """
        if not self._looking.acquire(blocking=False):
            return
        try:
            if self.clock.offset != offset or (refused and self._refused(offset, None)):
                return  # another known offset is tried before a request
            if time.monotonic() >= self._right_until:
                self._ask_time(offset, refused=refused)
        finally:
            self._looking.release()

    def _ask_time(self, offset: float, *, refused: bool) -> None:
        now = time.monotonic()
        self._next_look = now + self._look_seconds
        try:
            self.clock.look(lambda: moment_of(self._client(public=True).get(PREFIX + "/time", public=True)))
        except (requests.RequestException, MessageError, ValueError, AttributeError) as problem:
            if refused:
                # Any answer has at least a date; without an answer our own clock is tried.
                response = response_of(problem)
                date = None if response is None else date_of(response)
                self._refused(offset, date or datetime.now(UTC))
            return
        finally:
            self._looked_at = time.monotonic()
        if abs(self.clock.offset - offset) < _CLOCK_WRONG_SECONDS:
            self._right_until = now + _CLOCK_RIGHT_SECONDS

    def _refused(self, offset: float, date: datetime | None) -> bool:
        changed = self.clock.refused(offset, date)
        if changed:
            self._right_until = 0.0  # that result was for the previous offset
        return changed

    async def close(self) -> None:
        """Wait for calls in flight (their timeouts bound that) and close the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown, True, cancel_futures=True)
        for session in self._sessions:
            session.close()
        self._sessions.clear()
