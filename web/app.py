"""The webhook over HTTP: `POST /webhook`, and health checks.

A request passes these checks: sender by headers (401), size (413) and speed (408), sender by body (401), rate (429),
valid JSON (400) and alert (422), concurrency (503), and then its decision. Failures before the sender is authenticated
are counted by address and rate limited (429), with one log line a minute. Later failures are reported to people,
because senders such as TradingView neither show the answer nor retry. Every answer is counted by its code; metrics and
logs contain no secrets and no text from unauthenticated requests.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from web.alert import EXAMPLES, Alert, Wrong, asks_to_close, read_alert, with_readable_record
from web.answers import AlertAnswer, ProblemAnswer
from web.limits import Rates, Slots, read_body
from web.metrics import CONTENT_TYPE, WebhookMetrics
from web.old_alert import OLD_EXAMPLE, OldForm, is_old, read_old_alert, sells_old
from web.refusals import Lapse, Refused
from web.senders import Proof, Sender, by_body, by_headers, without_secrets
from web.strangers import Strangers, Tally, address_of
from web.strict_json import BadJson, check_texts, read_json

__all__ = ["RequestLimits", "create_app"]

_log = structlog.get_logger()

_JSON_TYPES = ("application/json", "text/plain", "application/x-www-form-urlencoded", "")
"""Content types that charting programs use for JSON; what matters is that the body is JSON."""

Decide = Callable[[Alert, Proof], Awaitable[AlertAnswer]]
Alive = Callable[[], Awaitable[dict[str, bool]]]
Tell = Callable[[Lapse], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits for sizes, rates and times. Seconds are wall clock."""

    max_body_bytes: int = 16_384
    max_depth: int = 8
    window_s: float = 300
    body_s: float = 5
    per_minute: int = 60
    burst: int = 20
    max_concurrent: int = 32
    failures_per_minute: int = 5
    behind_proxy: bool = False


def create_app(
    *,
    decide: Decide,
    alive: Alive,
    senders: Callable[[], Sequence[Sender]],
    limits: Callable[[], RequestLimits],
    metrics: WebhookMetrics | None = None,
    tell: Tell | None = None,
) -> FastAPI:
    """The application. `senders` and `limits` are called for each request, because they may change.

    Args:
        decide: the decision on an authenticated alert; raises Refused and Wrong.
        alive: the required services, and whether they answer.
        tell: called for each invalid alert of an authenticated sender.
    """
    counted = metrics or WebhookMetrics()
    # The documentation pages of FastAPI load their scripts from the network.
    app = FastAPI(title="BotTrader webhook", version="1", docs_url=None, redoc_url=None)
    alerts = _Alerts(decide, senders, limits, counted, tell)
    app.post(
        "/webhook",
        summary="Send an alert and get its decision",
        response_model=AlertAnswer,
        responses=_RESPONSES,
        openapi_extra=_REQUEST,
        operation_id="send_alert",
    )(alerts.receive)

    @app.get("/health", summary="Whether this process serves", operation_id="health")
    async def health() -> dict[str, bool]:
        """The process serves if this is answered."""
        return {"ok": True}

    seen: dict[str, Any] = {"at": -1e9, "parts": {}}
    looking = asyncio.Lock()  # strangers may ask, too: however many do, one look serves them all

    @app.get(
        "/ready",
        summary="Whether an alert could be decided now",
        operation_id="ready",
        responses={503: {"description": "a required service does not answer"}},
    )
    async def ready() -> Response:
        """Each required service, and whether it answers; checked at most once a second."""
        async with looking:
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


@dataclass(slots=True)
class _Seen:
    """What is known of a request so far; a sender is an authenticated one."""

    sender: str = ""
    key: str | None = None
    closes: bool = False


class _Alerts:
    """The endpoint for alerts, with its counters."""

    def __init__(
        self,
        decide: Decide,
        senders: Callable[[], Sequence[Sender]],
        limits: Callable[[], RequestLimits],
        counted: WebhookMetrics,
        tell: Tell | None,
    ) -> None:
        self._decide = decide
        self._senders = senders
        self._limits = limits
        self._counted = counted
        self._tell = tell
        self._strangers = Strangers()
        self._turned_away = Tally("webhook_turned_away")
        self._faults = Tally("webhook_fault")
        self._hurried: dict[tuple[str, bool], float] = {}
        self._rates = Rates()
        self._slots = Slots()

    async def receive(self, request: Request) -> Response:
        """A buy runs through every gate before this answers. The same key again gets the same decision, and the same
        key with another content is refused.
        """
        began, who = time.perf_counter(), _Seen()
        try:
            found = await self._answer(request, who)
        except Refused as refused:
            refused = await self._refuse(request, refused, who)
            self._count(refused.code, who.sender, began)
            return JSONResponse(refused.body, refused.status, refused.headers)
        except Exception as error:  # noqa: BLE001 - the outermost edge: a fault of ours is said, counted and logged
            self._count("FAULT", who.sender, began)
            # Where, and nothing of what: messages and local variables may hold what was sent.
            self._faults.add(f"{type(error).__name__} at {_where(error)}")
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

    async def _refuse(self, request: Request, refused: Refused, who: _Seen) -> Refused:
        """The answer to a refused request, after counting, logging or reporting it."""
        limit = self._limits()
        address = address_of(request, behind_proxy=limit.behind_proxy)
        if not who.sender:
            wait = self._strangers.failed(address, per_minute=limit.failures_per_minute)
            if wait:
                refused = Refused(
                    429,
                    "TOO_MANY_FAILURES",
                    f"More than {limit.failures_per_minute} requests in a minute from this address were not "
                    f"authenticated (this one: {refused.code}): for {wait} s only authenticated ones are answered.",
                    retry_after=wait,
                )
            self._turned_away.add(refused.code, address)
            return refused
        if refused.status == 429:
            self._turned_away.add(f"{refused.code} {who.sender}", address)
            hurried = (who.sender, who.closes)
            if time.monotonic() - self._hurried.get(hurried, -_HOUR_S) < _HOUR_S:
                return refused
            self._hurried[hurried] = time.monotonic()
        _log.warning("webhook_refused", code=refused.code, sender=who.sender, peer=address)
        if refused.status < 500:
            await self._report(refused, who)
        return refused

    async def _report(self, refused: Refused, who: _Seen) -> None:
        """Report an invalid alert to people; the sender is answered even if that fails."""
        if self._tell is None:
            return
        hidden = self._senders()
        field, key = (None if text is None else without_secrets(text, hidden) for text in (refused.field, who.key))
        sentence = without_secrets(refused.sentence, hidden)
        try:
            await self._tell(Lapse(who.sender, refused.code, sentence, field, key, who.closes))
        except Exception as error:  # noqa: BLE001 - the answer is the refusal, not what its record failed by
            self._faults.add(f"{type(error).__name__} at {_where(error)}")

    async def _answer(self, request: Request, who: _Seen) -> AlertAnswer:
        """The decision; `who` is told the sender as soon as it is known. Raises Refused."""
        now, limit, senders = datetime.now(UTC), self._limits(), self._senders()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _JSON_TYPES:
            raise Refused(415, "NOT_JSON", "An alert is JSON: send Content-Type: application/json.")
        proof = by_headers(request.headers, senders, now, timedelta(seconds=limit.window_s))
        who.sender = "" if proof is None else proof.sender
        raw = await read_body(request, most=limit.max_body_bytes, seconds=limit.body_s)
        if proof is None:
            proof = by_body(request.headers, raw, senders)
            who.sender = proof.sender
        sent = raw.lower()  # as far as that can be told of what isn't read yet, or can't be
        who.closes = b'"close"' in sent or (b'"pair"' in sent and b'"sell"' in sent)
        self._rates.take(proof.sender, per_minute=limit.per_minute, burst=limit.burst, closes=who.closes)
        try:
            value = read_json(raw, max_depth=limit.max_depth)
            if isinstance(value, dict):
                who.closes = asks_to_close(value) or sells_old(value)
                key = value.get("key", value.get("id", value.get("uuid")))
                who.key = key[:100] if isinstance(key, str) and key.isprintable() else None
                value = with_readable_record(value) if who.closes else value
            check_texts(value)
        except BadJson as error:
            text = str(error)
            raise Refused(400, "BAD_JSON", f"{text[:1].upper()}{text[1:]}.") from None
        try:
            alert = read_old_alert(value) if is_old(value) else read_alert(value)
            with self._slots.one(limit.max_concurrent):
                return await self._decide(alert, proof)
        except Wrong as error:
            end = "" if error.sentence.endswith("?") else "."
            raise Refused(422, "BAD_ALERT", f"{error.sentence}{end}", field=error.field or None) from None


_FAULT = "Internal error; details are in the log. The same alert with the same key may be sent again."
_HOUR_S = 3600.0
_LOGGED = {"decision", "sender", "key", "repeated", "action", "symbol", "order_key", "state", "gate"}


def _where(error: Exception) -> str:
    """The last three places in the code, the innermost last."""
    places = traceback.extract_tb(error.__traceback__)[-3:]
    return " > ".join(f"{Path(place.filename).name}:{place.lineno} {place.name}" for place in places)


# --- OpenAPI ----------------------------------------------------------------------------------------------------------

_PROBLEMS = {
    400: "the body is not JSON, or ambiguous JSON",
    401: "the sender is not authenticated, or its time is too far from ours; checked first",
    408: "the body did not arrive in time",
    409: "the key was used for another alert",
    413: "the body is too large",
    415: "the content type is not JSON",
    422: "a field is unknown, missing or wrong; `field` names it",
    429: "too many alerts of this sender, or too many unauthenticated requests from this address; see Retry-After",
    503: "busy, or a required service does not answer; the same key may be sent again",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the decision"},
    202: {"model": AlertAnswer, "description": "no decision yet"},
    **{status: {"model": ProblemAnswer, "description": text} for status, text in _PROBLEMS.items()},
}
_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Alert", "OldForm")]},
                "examples": {**EXAMPLES, "old": OLD_EXAMPLE},
            }
        },
    },
    "security": [{"bearer": []}, {"timestamp": [], "signature": []}, {}],
}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI schema, with the alert's, which the endpoint parses itself."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description="Alerts in, decisions out. Signature: HMAC-SHA256 over `<X-Timestamp>.<body>`, hexadecimal.",
            routes=app.routes,
        )
        parts = found.setdefault("components", {})
        for name, form in (("Alert", Alert), ("OldForm", OldForm)):
            schema = form.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.setdefault("schemas", {}).update({**schema.pop("$defs", {}), name: schema})
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "timestamp": {"type": "apiKey", "in": "header", "name": "X-Timestamp"},
            "signature": {"type": "apiKey", "in": "header", "name": "X-Signature"},
        }
        app.openapi_schema = found
    return app.openapi_schema
