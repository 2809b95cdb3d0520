"""Calls to Crypto.com's REST API on aiohttp, and what is known when one fails.

The rule for commands: until a connection was given the request, the venue certainly did not take it (`NotAccepted`);
afterwards only an answer with a code decides, and everything else is `OutcomeUnknown`. Nothing is ever sent twice: no
retries, no redirects, and a request of its own id each. A failed read is `Unavailable`.

One exception: a request whose nonce the venue refused, and so did not take, is sent again with a new one, at most
twice, if the refusal's date shows that the time in it was wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import orjson

from exchange.clock import ExchangeClock, http_date
from exchange.cryptocom.answers import AUTH_FAILURE, INVALID_NONCE, VenueAnswer, read_failure
from exchange.cryptocom.limits import MethodLimits
from exchange.cryptocom.parse import Row
from exchange.cryptocom.signing import CryptocomKey, RequestIds, envelope
from exchange.port import NotAccepted, OutcomeUnknown, Unavailable
from exchange.trust import client_context

__all__ = ["CryptocomCaller"]

_SPARE_SECONDS = 2.0
"""A call is given up this many seconds after its own timeouts, which bound silence, not a slow answer."""
_SENT_AGAIN = 2
"""How often a request with a refused nonce is sent again at most, while there is another time to try."""
_KEEP_ALIVE_SECONDS = 15.0
"""Unused connections are closed by us, so that an order seldom meets one that the venue is closing."""


class _Sending:
    """Whether a request was given to a connection."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


class _NoAnswerError(Exception):
    """There was no answer, for these reasons."""


def _trace() -> aiohttp.TraceConfig:
    async def begun(_: aiohttp.ClientSession, context: object, __: object) -> None:
        sending = getattr(context, "trace_request_ctx", None)
        if isinstance(sending, _Sending):
            sending.begun = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(begun)
    trace.on_connection_reuseconn.append(begun)
    return trace


class CryptocomCaller:
    """Sends requests within the process's share of the limits.

    Args:
        url: address of the API, without a method.
        key: signs private requests; without one only public ones can be sent.
        ca_file: PEM file to trust instead of the public authorities.
        connect_timeout: seconds for TCP and TLS.
        read_timeout: seconds of silence after sending.
        connections: calls in flight at once; a quarter more are for exits alone.
        limits: by method.
    """

    def __init__(
        self,
        url: str,
        key: CryptocomKey | None,
        *,
        ca_file: Path | None,
        connect_timeout: float,
        read_timeout: float,
        connections: int,
        limits: MethodLimits,
    ) -> None:
        self.clock = ExchangeClock()
        self.ids = RequestIds(self.clock.now)
        self._url = url.rstrip("/")
        self._key = key
        self._tls = client_context(ca_file) if url.startswith("https:") else None
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=read_timeout)
        self._deadline = connect_timeout + read_timeout + _SPARE_SECONDS
        self._most = connections + max(1, connections // 4)
        self._ordinary = asyncio.Semaphore(connections)
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def public(self, method: str, params: Mapping[str, str | int]) -> Row:
        """GET a public method. Returns its result; raises Unavailable."""
        answer, _ = await self._public(method, params)
        if not answer.fine:
            raise read_failure(method, answer)
        return answer.result

    async def server_time(self) -> datetime:
        """The venue's clock (UTC, whole seconds) by the date of an answer, which may be any. Raises Unavailable."""
        sent = time.time()
        _, date = await self._public("public/get-tickers", {"instrument_name": "BTC_USD"})
        if date is None:
            raise Unavailable("the venue's answer has no date", code="UNREADABLE_ANSWER")
        self.clock.heard(date, sent)
        return date.astimezone(UTC)

    async def _public(self, method: str, params: Mapping[str, str | int]) -> tuple[VenueAnswer, datetime | None]:
        async with self._limits.of(method).turn():
            try:
                return await self._exchange_of(method, _Sending(), params=dict(params), urgent=False)
            except _NoAnswerError as problem:
                raise Unavailable(f"{method} failed: {problem}") from problem

    async def private(self, method: str, params: Row) -> Row:
        """POST a private method that only reads. Returns its result; raises Unavailable."""
        if self._key is None:
            raise Unavailable("no API key is configured, so the account can't be read", code=AUTH_FAILURE)
        async with self._limits.of(method).turn():
            sending = _Sending()
            try:
                answer = await self._signed(method, params, sending, urgent=False)
            except _NoAnswerError as problem:
                raise Unavailable(f"{method} failed: {problem}") from problem
        if not answer.fine:
            raise read_failure(method, answer)
        return answer.result

    async def command(self, method: str, params: Row, *, urgent: bool = False) -> VenueAnswer:
        """POST a private method that changes something, once. Returns the venue's answer, whatever it is.

        Raises:
            NotAccepted: it was not sent.
            OutcomeUnknown: it was sent, and not answered.
        """
        if self._key is None:
            raise NotAccepted("no API key is configured, so nothing can be ordered", code=AUTH_FAILURE)
        async with self._limits.of(method).turn(urgent=urgent):
            sending = _Sending()
            try:
                return await self._signed(method, params, sending, urgent=urgent)
            except _NoAnswerError as problem:
                if sending.begun:
                    raise OutcomeUnknown(f"{method}: sent, but without a readable answer: {problem}") from problem
                raise NotAccepted(f"{method} was not sent: {problem}") from problem

    async def _signed(self, method: str, params: Row, sending: _Sending, *, urgent: bool) -> VenueAnswer:
        began = time.monotonic()
        for again in range(_SENT_AGAIN + 1):
            offset = self.clock.offset
            body = envelope(method, params, self.ids, self._key)
            answer, date = await self._exchange_of(method, sending, body=body, urgent=urgent)
            if answer.name != INVALID_NONCE:
                if answer.fine:
                    self.clock.accepted(offset)
                return answer
            another = self.clock.refused(offset, date) or self.clock.offset != offset
            if not another or again == _SENT_AGAIN or time.monotonic() - began > self._deadline / 2:
                return answer
            sending.begun = False
        raise AssertionError("the last round returns")

    async def _exchange_of(
        self,
        method: str,
        sending: _Sending,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Row | None = None,
        urgent: bool,
    ) -> tuple[VenueAnswer, datetime | None]:
        """One request and its answer, with the answer's date. Raises _NoAnswerError."""
        if self._closed:
            raise _NoAnswerError("the adapter is closed")
        self._in_flight += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self._deadline):
                if urgent:
                    return await self._request(method, sending, params, body)
                async with self._ordinary:
                    return await self._request(method, sending, params, body)
        except TimeoutError:
            raise _NoAnswerError("no answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            # ValueError: what came is no HTTP, or its text is none.
            raise _NoAnswerError(str(problem) or type(problem).__name__) from problem
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _request(
        self, method: str, sending: _Sending, params: Mapping[str, str | int] | None, body: Row | None
    ) -> tuple[VenueAnswer, datetime | None]:
        session = self._open()
        async with session.request(
            "GET" if body is None else "POST",
            f"{self._url}/{method}",
            params=params,
            data=None if body is None else orjson.dumps(body),
            headers=None if body is None else {"Content-Type": "application/json"},
            allow_redirects=False,
            trace_request_ctx=sending,
        ) as response:
            text = await response.read()
            return (
                VenueAnswer.of(response.status, _decoded(text), retry_after=_retry_after(response)),
                http_date(response.headers.get("Date")),
            )

    def _open(self) -> aiohttp.ClientSession:
        """The session; it belongs to the loop that runs, so it is made with the first request."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._most,
                ssl=self._tls if self._tls is not None else True,
                keepalive_timeout=_KEEP_ALIVE_SECONDS,
                use_dns_cache=False,
            )
            # The environment is ignored: a proxy or a .netrc file could come between us and the venue.
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                trust_env=False,
                trace_configs=[_trace()],
                headers={"User-Agent": "bottrader"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Wait for calls in flight (their timeouts bound that) and close the connections."""
        self._closed = True
        await self._idle.wait()
        if self._session is not None:
            await self._session.close()
            self._session = None


def _decoded(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    try:
        seconds = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds <= 3600 else None
