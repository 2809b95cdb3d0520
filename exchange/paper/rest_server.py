"""A REST interface with the active faults: what all protocols share. A protocol answers, and shapes its errors."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from email.utils import format_datetime

from aiohttp import web

from exchange.paper.faults import REST_FAULTS, Fault, FaultKind
from exchange.paper.venue import PaperVenue

__all__ = ["RestServer"]

_SILENT_SECONDS = 3600.0


class RestServer(ABC):
    """Answers requests; `handle` is the aiohttp handler for every path."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue

    @abstractmethod
    def requests(self) -> list[str]:
        """Every served request, as "METHOD /path" below the API's prefix, with ?* for variable parts."""

    @abstractmethod
    def path(self, request: web.Request) -> str:
        """The request's path below the API's prefix."""

    @abstractmethod
    def answer(self, request: web.Request, raw: bytes, lag: float = 0.0) -> web.Response:
        """The answer to one request with body `raw`, and its effect; lists are `lag` seconds old."""

    @abstractmethod
    def rate_limited(self, seconds: float = 0.0) -> web.Response:
        """The answer to one request too many; `seconds` is the requested wait, if any."""

    @abstractmethod
    def error_page(self, status: int) -> web.Response:
        """The answer of a server in front of the interface that gets none from behind."""

    def spoilt(self, fault: Fault, request: web.Request, body: bytes) -> web.Response | None:
        """The answer in place of `body` under a fault of this protocol's own; None if it has no such fault."""
        return None

    def refused(self, fault: Fault, request: web.Request, raw: bytes) -> web.Response | None:
        """The answer to a request that a fault of this protocol's own prevents; None if it has no such fault."""
        return None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, with the active faults."""
        raw = await request.read()
        if self._venue.away:
            return self.error_page(503)
        fault = None
        if self._venue.faults:
            scope = f"{request.method} {self.path(request)}"
            fault = self._venue.faults.strike(REST_FAULTS, scope, time.monotonic())
        if fault is None:
            return self.answer(request, raw)
        return await self._faulty(fault, request, raw)

    async def date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Add the Date header by the venue's clock."""
        response.headers["Date"] = format_datetime(self._venue.now(), usegmt=True)

    async def _faulty(self, fault: Fault, request: web.Request, raw: bytes) -> web.StreamResponse:
        kind = fault.kind
        if kind is FaultKind.REST_RATE_LIMITED:
            return self.rate_limited(fault.delay)
        if kind is FaultKind.REST_SERVER_ERROR:
            return self.error_page(fault.status or 503)
        if kind is FaultKind.REST_NOT_ACCEPTED_CUT:
            return _cut(request)
        refused = self.refused(fault, request, raw)
        if refused is not None:
            return refused
        if kind is FaultKind.REST_ACCEPTED_LATE:
            await asyncio.sleep(fault.delay)
        response = self.answer(request, raw, fault.delay if kind is FaultKind.REST_LAGGING else 0.0)
        return await self._after(fault, request, response)

    async def _after(self, fault: Fault, request: web.Request, response: web.Response) -> web.StreamResponse:
        """The answer to a request that is done."""
        kind = fault.kind
        if kind is FaultKind.REST_ACCEPTED_SERVER_ERROR:
            return self.error_page(fault.status or 502)
        if kind is FaultKind.REST_ACCEPTED_CUT:
            return _cut(request)
        if kind is FaultKind.REST_ACCEPTED_SILENT:
            await asyncio.sleep(fault.delay or _SILENT_SECONDS)
            return _cut(request)
        if kind is FaultKind.REST_SLOW:
            await asyncio.sleep(fault.delay)
        elif isinstance(response.body, bytes):
            if kind is FaultKind.REST_MALFORMED:
                return web.Response(body=response.body[: len(response.body) // 2], content_type="application/json")
            return self.spoilt(fault, request, response.body) or response
        return response


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
