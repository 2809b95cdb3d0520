"""Metrics of the webhook and of the API: requests by outcome, response times, open streams (docs/metrics.md)."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_TYPE", "ApiMetrics", "WebhookMetrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Instruments:
    """A registry, and the counter that every server has."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has none; a second series each, of which nobody asks
        self.registry = CollectorRegistry()
        self._background = Counter(
            "bottrader_background_errors", "errors of background tasks, by type", ["kind"], registry=self.registry
        )

    def background(self, kind: str) -> None:
        """A background task failed; `kind` is the error's type."""
        self._background.labels(kind).inc()

    def text(self) -> bytes:
        """Everything as Prometheus text."""
        return generate_latest(self.registry)


class WebhookMetrics(_Instruments):
    """The instruments of the webhook's server."""

    def __init__(self) -> None:
        super().__init__()
        self._requests = Counter(
            "bottrader_webhook_requests",
            "alerts received by webhook, by answer",
            ["outcome", "sender"],
            registry=self.registry,
        )
        self._took = Histogram(
            "bottrader_webhook_seconds",
            "time from an alert's arrival to its answer",
            ["outcome"],
            registry=self.registry,
            buckets=_SECONDS,
        )

    def answered(self, outcome: str, sender: str, seconds: float) -> None:
        """One request was answered. `outcome` is the decision or the code of the refusal."""
        self._requests.labels(outcome, sender).inc()
        self._took.labels(outcome).observe(seconds)


class ApiMetrics(_Instruments):
    """The instruments of the API's server. `streams` returns how many pages are open now."""

    def __init__(self, streams: Callable[[], int]) -> None:
        super().__init__()
        self._requests = Counter(
            "bottrader_api_requests",
            "requests to the API and the page, by address and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._took = Histogram(
            "bottrader_api_seconds",
            "time from a request to the beginning of its answer",
            ["route"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        Gauge("bottrader_api_streams", "open streams of changes: pages that look", registry=self.registry).set_function(
            streams
        )

    def measured(self, app: ASGIApp) -> ASGIApp:
        """`app`, with its requests counted.

        The label `route` is the address as the API describes it, without its values; `none` for what has none or was
        refused before. A method that does not exist is `other`.
        """

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            began, status, took = time.perf_counter(), 0, 0.0

            async def sent(message: Message) -> None:
                nonlocal status, took
                if message["type"] == "http.response.start":
                    status, took = message["status"], time.perf_counter() - began
                await send(message)

            try:
                await app(scope, receive, sent)
            finally:
                self._answered(scope, status, took)

        return answer

    def _answered(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope.get("method", "")
        self._requests.labels(method if method in _METHODS else "other", route, str(status or "none")).inc()
        if status:
            self._took.labels(route).observe(seconds)
