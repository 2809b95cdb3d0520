"""Spans in OTLP's JSON form: posted to a collector (OTLP over HTTP), or appended to a file, a line a batch."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from activities.secret_values import without_secrets

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext
    from opentelemetry.util.types import AttributeValue

__all__ = ["OtlpJson"]

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 2.0
"""A collector that is away must not hold up a command's end."""
_AGAIN_S = 60.0
"""Minimum time between two log lines about it."""
_Plain = dict[str, object]


class OtlpJson(SpanExporter):
    """Exports to `target`: a collector's address (http://host:4318, with or without its path), or a file's path.

    A batch that can't be delivered is dropped, and logged at most once a minute. Secrets of the settings are removed.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._failed_at = -_AGAIN_S

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Deliver a batch; called from the processor's own thread."""
        body = without_secrets(json.dumps(_document(spans)))
        try:
            if self._target.startswith("/"):
                with Path(self._target).open("a", encoding="utf-8") as file:
                    file.write(body + "\n")
            else:
                self._post(body.encode())
        except (OSError, http.client.HTTPException) as problem:
            if time.monotonic() - self._failed_at >= _AGAIN_S:
                self._failed_at = time.monotonic()
                _log.warning("traces not delivered", spans=len(spans), problem=repr(problem))
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _post(self, body: bytes) -> None:
        where = urlsplit(self._target)
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        connection = kind(where.netloc, timeout=_TIMEOUT_S)
        try:
            path = where.path if where.path.strip("/") else "/v1/traces"
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise OSError(f"the collector answers {answer.status}")
        finally:
            connection.close()


def _document(spans: Sequence[ReadableSpan]) -> _Plain:
    resource = spans[0].resource.attributes if spans else {}
    told = [_span(span) for span in spans]
    scope = {"scope": {"name": "bottrader"}, "spans": told}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}


def _span(span: ReadableSpan) -> _Plain:
    found: _Plain = {
        **_identity(span.get_span_context()),
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP counts from 1
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes),
        "events": [
            {"timeUnixNano": str(event.timestamp), "name": event.name, "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "links": [{**_identity(link.context), "attributes": _attributes(link.attributes)} for link in span.links],
        "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
    }
    if span.parent is not None:
        found["parentSpanId"] = f"{span.parent.span_id:016x}"
    return found


def _identity(context: SpanContext | None) -> _Plain:
    if context is None:
        return {}
    return {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"}


def _attributes(given: Mapping[str, AttributeValue] | None) -> list[_Plain]:
    return [{"key": key, "value": _value(value)} for key, value in (given or {}).items()]


def _value(value: object) -> _Plain:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
