"""The REST interface: one path a method, GET for public ones and POST with a signed envelope for private ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

import orjson
from aiohttp import web

from exchange.paper.cryptocom.answers import CODES, Answered, envelope
from exchange.paper.cryptocom.methods import Methods
from exchange.paper.cryptocom.requests import MethodCall
from exchange.paper.cryptocom.signing import PaperSecret
from exchange.paper.cryptocom.spoiling import SPOILT
from exchange.paper.faults import Fault, FaultKind
from exchange.paper.rest_server import RestServer

__all__ = ["PREFIX", "MethodRest"]

PREFIX = "/exchange/v1/"
_LARGEST_ID = 2**63 - 1
_REMEMBERED = 10_000
_PARAMETERS = ("limit", "count", "depth")
"""Whole numbers in a query."""


class MethodRest(RestServer):
    """Answers requests by the venue's methods."""

    def __init__(self, methods: Methods, secret: PaperSecret) -> None:
        super().__init__(methods.venue)
        self._methods = methods
        self._secret = secret
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)
        self._signatures: set[str] = set()

    def requests(self) -> list[str]:
        """Every method with its verb."""
        return [f"GET /{name}" for name in self._methods.public] + [f"POST /{name}" for name in self._methods.private]

    def path(self, request: web.Request) -> str:
        """The method, with a slash before it."""
        return "/" + request.path.removeprefix(PREFIX)

    def rate_limited(self, seconds: float = 0.0) -> web.Response:
        """A 429; no header says how long to wait."""
        return _reply(-1, "", Answered(42901))

    def error_page(self, status: int) -> web.Response:
        """HTML of the server in front, or nothing with a 503."""
        page = f"<html><head><title>{status}</title></head><body><h1>{status} Bad Gateway</h1></body></html>"
        return web.Response(status=status, text="" if status == 503 else page, content_type="text/html")

    def refused(self, fault: Fault, request: web.Request, raw: bytes) -> web.Response | None:
        """An error code in place of doing it."""
        if fault.kind is not FaultKind.REST_CODE:
            return None
        return self._coded(fault, request, raw)

    def spoilt(self, fault: Fault, request: web.Request, body: bytes) -> web.Response | None:
        """An error code although it was done, or a strange answer."""
        if fault.kind is FaultKind.REST_ACCEPTED_CODE:
            return self._coded(fault, request, body)
        spoil = SPOILT.get(fault.kind)
        return None if spoil is None else web.Response(body=spoil(body), content_type="application/json")

    def _coded(self, fault: Fault, request: web.Request, raw: bytes) -> web.Response:
        code = fault.status if fault.status in CODES else 50001
        body = _object(raw)
        return _reply(body.get("id", -1), self.path(request)[1:], Answered(code))

    def answer(self, request: web.Request, raw: bytes, lag: float = 0.0) -> web.Response:
        """The answer to one request, and its effect."""
        method = self.path(request)[1:]
        request_id: object = -1
        try:
            if method.startswith("public/"):
                call = self._public(request, method)
                result = self._methods.public[method](call)
            else:
                body = self._envelope(request, method, raw)
                request_id = body["id"]
                call = self._private(method, body, lag)
                result = self._methods.private[method](call)
        except Answered as answer:
            if isinstance(known := _object(raw).get("id"), int) and not isinstance(known, bool):
                request_id = known
            return _reply(request_id, method, answer)
        finally:
            self._venue.publish()
        return web.Response(body=envelope(request_id, method, result=result), content_type="application/json")

    def _public(self, request: web.Request, method: str) -> MethodCall:
        if method not in self._methods.public:
            raise Answered(40002)
        if request.method != "GET":
            raise Answered(50001)
        if not self._methods.limits.admit(method, time.monotonic()):
            raise Answered(42901)
        query: dict[str, object] = dict(request.query)
        for name in _PARAMETERS:
            given = query.get(name)
            if isinstance(given, str) and given.isascii() and given.isdecimal():
                query[name] = int(given[:18])
        return MethodCall(method, -1, None, query)

    def _envelope(self, request: web.Request, method: str, raw: bytes) -> Mapping[str, object]:
        """The envelope of a private request with an id, for its method. Raises `Answered`."""
        if method not in self._methods.private:
            raise Answered(40002)
        if request.method != "POST":
            raise Answered(40003)
        body = _object(raw)
        request_id = body.get("id")
        if isinstance(request_id, bool) or not isinstance(request_id, int) or not 0 <= request_id <= _LARGEST_ID:
            raise Answered(40001, "id must be a whole number")
        if body.get("method") != method:
            raise Answered(40003, "method is not the path's")
        return body

    def _private(self, method: str, body: Mapping[str, object], lag: float) -> MethodCall:
        """The call in an envelope with the right key, signature and nonce. Raises `Answered`."""
        params = body.get("params")
        if not isinstance(params, dict):
            raise Answered(10004, "params must be an object")
        self._secret.authenticate(body, params, self._venue.now_ns() // 10**6)
        if str(body["sig"]) in self._signatures:
            raise Answered(40006)
        self._remember(str(body["sig"]))
        if not self._methods.limits.admit(method, time.monotonic()):
            raise Answered(42901)
        return MethodCall(method, body["id"], body["nonce"], params, lag)

    def _remember(self, signature: str) -> None:
        if len(self._seen) == _REMEMBERED:
            self._signatures.discard(self._seen[0])
        self._seen.append(signature)
        self._signatures.add(signature)


def _object(raw: bytes) -> Mapping[str, object]:
    """The JSON object in a body; empty if it is none."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _reply(request_id: object, method: str, answer: Answered) -> web.Response:
    body = envelope(request_id, method, answer.code, message=answer.message, result=answer.result)
    status = CODES[answer.code][1]
    return web.Response(body=body, status=status, content_type="application/json")
