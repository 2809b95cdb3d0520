"""Metrics of the webhook and of the API: requests by outcome, response times, open streams (docs/metrics.md)."""

from __future__ import annotations

import time
from collections.abc import Callable

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_TYPE", "ApiMetrics", "WebhookMetrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Instruments:
    """A registry with a meter, and the counter that every server has."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=self.registry)
        buckets = View(instrument_type=Histogram, aggregation=ExplicitBucketHistogramAggregation(_SECONDS))
        self._provider = MeterProvider(metric_readers=[reader], views=[buckets], shutdown_on_exit=False)
        self.meter: Meter = self._provider.get_meter("bottrader")
        self._background = self.meter.create_counter(
            "bottrader_background_errors", description="errors of background tasks, by type"
        )

    def background(self, kind: str) -> None:
        """A background task failed; `kind` is the error's type."""
        self._background.add(1, {"kind": kind})

    def text(self) -> bytes:
        """Everything as Prometheus text."""
        return generate_latest(self.registry)

    def close(self) -> None:
        """Stop measuring."""
        self._provider.shutdown()


class WebhookMetrics(_Instruments):
    """The instruments of the webhook's server."""

    def __init__(self) -> None:
        super().__init__()
        self._requests = self.meter.create_counter(
            "bottrader_webhook_requests", description="alerts received by webhook, by answer"
        )
        self._took = self.meter.create_histogram(
            "bottrader_webhook_seconds", description="time from an alert's arrival to its answer"
        )

    def answered(self, outcome: str, sender: str, seconds: float) -> None:
        """One request was answered. `outcome` is the decision or the code of the refusal."""
        self._requests.add(1, {"outcome": outcome, "sender": sender})
        self._took.record(seconds, {"outcome": outcome})


class ApiMetrics(_Instruments):
    """The instruments of the API's server. `streams` returns how many pages are open now."""

    def __init__(self, streams: Callable[[], int]) -> None:
        super().__init__()
        self._requests = self.meter.create_counter(
            "bottrader_api_requests", description="requests to the API and the page, by address and status"
        )
        self._took = self.meter.create_histogram(
            "bottrader_api_seconds", description="time from a request to the beginning of its answer"
        )
        self.meter.create_observable_gauge(
            "bottrader_api_streams",
            [lambda _: [Observation(streams())]],
            description="open streams of changes: pages that look",
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
        self._requests.add(
            1, {"route": route, "method": method if method in _METHODS else "other", "status": str(status or "none")}
        )
        if status:
            self._took.record(seconds, {"route": route})
