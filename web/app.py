"""The webhook over HTTP: `POST /webhook`, and what says that it lives.

A request passes: how large (413) and how slow (408), whether it is JSON (400), who sends it (401), how often (429),
whether it is an alert (422), how many at once (503), and then its decision. The body is read before anything is known
of its sender, so reading it is bounded in size, time and depth. Every answer is counted and logged by its code; neither
has a secret or what a stranger wrote in it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from web.alert import EXAMPLES, Alert, Wrong, read_alert
from web.answers import Answer, ProblemAnswer
from web.limits import Rates, Slots, read_body
from web.metrics import CONTENT_TYPE, WebhookMetrics
from web.refusals import Refused
from web.senders import Proof, Sender, by_headers, by_token
from web.strict_json import BadJson, read_json

__all__ = ["Limits", "create_app"]

_log = structlog.get_logger()

_JSON_TYPES = ("application/json", "text/plain", "application/x-www-form-urlencoded", "")
"""Charting programs send JSON under any of these; what counts is that the body is JSON."""

Decide = Callable[[Alert, Proof], Awaitable[Answer]]
Alive = Callable[[], Awaitable[dict[str, bool]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much, how often and how long. Seconds are of the wall clock."""

    max_body_bytes: int = 16_384
    max_depth: int = 8
    window_s: float = 300
    body_s: float = 5
    per_minute: int = 60
    burst: int = 20
    max_concurrent: int = 32


def create_app(
    *,
    decide: Decide,
    alive: Alive,
    senders: Callable[[], Sequence[Sender]],
    limits: Callable[[], Limits],
    metrics: WebhookMetrics | None = None,
) -> FastAPI:
    """The application. `senders` and `limits` are asked at each request, so that they may change meanwhile.

    Args:
        decide: the decision on an alert that is proven; raises Refused and Wrong.
        alive: what the webhook needs, and whether it answers.
    """
    counted = metrics or WebhookMetrics()
    # The documentation pages of FastAPI load their scripts from the network.
    app = FastAPI(title="BotTrader webhook", version="1", docs_url=None, redoc_url=None)
    alerts = _Alerts(decide, senders, limits, counted)
    app.post(
        "/webhook",
        summary="Send an alert and get its decision",
        response_model=Answer,
        responses=_RESPONSES,
        openapi_extra=_REQUEST,
        operation_id="send_alert",
    )(alerts.receive)

    @app.get("/health", summary="Whether this process serves", operation_id="health")
    async def health() -> dict[str, bool]:
        """It does, if this is answered."""
        return {"ok": True}

    seen: dict[str, Any] = {"at": -1e9, "parts": {}}

    @app.get(
        "/ready",
        summary="Whether an alert could be decided on",
        operation_id="ready",
        responses={503: {"description": "something that is needed does not answer"}},
    )
    async def ready() -> Response:
        """Each thing that is needed, and whether it answers; looked at once a second at most."""
        if time.monotonic() - seen["at"] >= 1:
            seen.update(parts=await alive(), at=time.monotonic())
        fine = all(seen["parts"].values())
        return JSONResponse({"ok": fine, **seen["parts"]}, 200 if fine else 503)

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(counted.text(), media_type=CONTENT_TYPE)

    @app.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> JSONResponse:
        refused = Refused(error.status_code, str(error.detail).upper().replace(" ", "_"), f"{error.detail}.")
        return JSONResponse(refused.body, error.status_code, error.headers)

    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class _Alerts:
    """The endpoint of alerts, with what it counts between requests."""

    def __init__(
        self,
        decide: Decide,
        senders: Callable[[], Sequence[Sender]],
        limits: Callable[[], Limits],
        counted: WebhookMetrics,
    ) -> None:
        self._decide = decide
        self._senders = senders
        self._limits = limits
        self._counted = counted
        self._rates = Rates()
        self._slots = Slots()

    async def receive(self, request: Request) -> Response:
        """A buy is decided on by every gate before this answers. The same key again gets the same decision, and the
        same key with another content is refused.
        """
        began, who = time.perf_counter(), {"sender": ""}
        try:
            found = await self._answer(request, who)
        except Refused as refused:
            self._count(refused.code, who["sender"], began)
            _log.warning("webhook_refused", code=refused.code, sender=who["sender"], peer=_peer(request))
            return JSONResponse(refused.body, refused.status, refused.headers)
        except Exception as error:  # noqa: BLE001 - the outermost edge: a fault of ours is said, counted and logged
            self._count("FAULT", who["sender"], began)
            # Where, and nothing of what: messages and local variables may hold what was sent.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("webhook_fault", error=type(error).__name__, sender=who["sender"], where=where)
            return JSONResponse(Refused(500, "FAULT", _FAULT).body, 500)
        seconds = self._count(found.decision, found.sender, began)
        told = found.model_dump(mode="json", exclude_none=True, include=_LOGGED)
        _log.info("webhook", **told, ms=round(seconds * 1000, 1))
        return JSONResponse(
            found.model_dump(mode="json", exclude_defaults=True), 202 if found.decision == "deciding" else 200
        )

    def _count(self, outcome: str, sender: str, began: float) -> float:
        seconds = time.perf_counter() - began
        self._counted.answered(outcome, sender, seconds)
        return seconds

    async def _answer(self, request: Request, who: dict[str, str]) -> Answer:
        """The decision; `who` is told the sender as soon as it is known. Raises Refused."""
        now, limit, senders = datetime.now(UTC), self._limits(), self._senders()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _JSON_TYPES:
            raise Refused(415, "NOT_JSON", "An alert is JSON: send Content-Type: application/json.")
        raw = await read_body(request, most=limit.max_body_bytes, seconds=limit.body_s)
        proof = by_headers(request.headers, raw, senders, now, timedelta(seconds=limit.window_s))
        try:
            value = read_json(raw, max_depth=limit.max_depth)
        except BadJson as error:
            text = str(error)
            raise Refused(400, "BAD_JSON", f"{text[:1].upper()}{text[1:]}.") from None
        if proof is None:
            token = value.get("token") if isinstance(value, dict) else None
            proof = by_token(token if isinstance(token, str) else None, senders)
        who["sender"] = proof.sender
        self._rates.take(proof.sender, per_minute=limit.per_minute, burst=limit.burst)
        try:
            alert = read_alert(value)
            with self._slots.one(limit.max_concurrent):
                return await self._decide(alert, proof)
        except Wrong as error:
            end = "" if error.sentence.endswith("?") else "."
            raise Refused(422, "BAD_ALERT", f"{error.sentence}{end}", field=error.field or None) from None


_FAULT = "Something went wrong inside; the log has it. The same alert with the same key may be sent again."
_LOGGED = {"decision", "sender", "key", "repeated", "action", "symbol", "order_key", "state", "gate"}


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


# --- OpenAPI ----------------------------------------------------------------------------------------------------------

_PROBLEMS = {
    400: "the body is not JSON, or not JSON that can be trusted",
    401: "nothing proves who sends it, or its time is too far from ours",
    408: "the body did not arrive in time",
    409: "the key was used for another alert",
    413: "the body is too large",
    415: "the body is said to be something else than JSON",
    422: "a field is unknown, missing or wrong; `field` names it",
    429: "too many alerts of this sender; see Retry-After",
    503: "busy, or something that is needed does not answer; the same key may be sent again",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the decision"},
    202: {"model": Answer, "description": "no decision yet"},
    **{status: {"model": ProblemAnswer, "description": text} for status, text in _PROBLEMS.items()},
}
_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Alert"}, "examples": dict(EXAMPLES)}},
    },
    "security": [{"bearer": []}, {"timestamp": [], "signature": []}, {}],
}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema, with the alert's own, which the endpoint reads by itself."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description="Alerts in, decisions out. Signature: HMAC-SHA256 over `<X-Timestamp>.<body>`, hexadecimal.",
            routes=app.routes,
        )
        parts = found.setdefault("components", {})
        schema = Alert.model_json_schema(ref_template="#/components/schemas/{model}")
        parts.setdefault("schemas", {}).update({**schema.pop("$defs", {}), "Alert": schema})
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "timestamp": {"type": "apiKey", "in": "header", "name": "X-Timestamp"},
            "signature": {"type": "apiKey", "in": "header", "name": "X-Signature"},
        }
        app.openapi_schema = found
    return app.openapi_schema
