"""The webhook's metrics: requests by outcome and sender, and response times (docs/metrics.md)."""

from __future__ import annotations

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

__all__ = ["CONTENT_TYPE", "WebhookMetrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class WebhookMetrics:
    """The instruments of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=self._registry)
        buckets = View(instrument_name="bottrader_*_seconds", aggregation=ExplicitBucketHistogramAggregation(_SECONDS))
        self._provider = MeterProvider(metric_readers=[reader], views=[buckets], shutdown_on_exit=False)
        meter = self._provider.get_meter("bottrader")
        self._requests = meter.create_counter(
            "bottrader_webhook_requests", description="alerts received by webhook, by answer"
        )
        self._took = meter.create_histogram(
            "bottrader_webhook_seconds", description="time from an alert's arrival to its answer"
        )
        self._background = meter.create_counter(
            "bottrader_background_errors", description="errors of background tasks, by type"
        )

    def answered(self, outcome: str, sender: str, seconds: float) -> None:
        """One request was answered. `outcome` is the decision or the code of the refusal."""
        self._requests.add(1, {"outcome": outcome, "sender": sender})
        self._took.record(seconds, {"outcome": outcome})

    def background(self, kind: str) -> None:
        """A background task failed; `kind` is the error's type."""
        self._background.add(1, {"kind": kind})

    def text(self) -> bytes:
        """Everything as Prometheus text."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Stop measuring."""
        self._provider.shutdown()
