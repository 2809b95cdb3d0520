"""The metrics of Temporal's SDK in this process (docs/metrics.md): polls, slots, latencies. Its own server, in Rust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from workers.errors import UserError

if TYPE_CHECKING:
    from workers.settings import TelemetrySettings

__all__ = ["runtime_with_metrics"]

_WAITS = ("workflow_task_schedule_to_start_latency", "activity_schedule_to_start_latency")
_MILLISECONDS = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 60_000.0)
"""Finer than the SDK's own buckets, of which none ends at the 200 ms of the alert."""


def runtime_with_metrics(asked: TelemetrySettings) -> Runtime | None:
    """The runtime for a worker's client, which serves its metrics while it lives; None without `sdk_port`.

    Names are as Temporal's own dashboards for Python have them: times in milliseconds, no endings for units or totals.
    Raises UserError(PORT_IN_USE) for a port that can't be listened on.
    """
    if not asked.sdk_port:
        return None
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    served = PrometheusConfig(
        bind_address=f"{host}:{asked.sdk_port}", histogram_bucket_overrides=dict.fromkeys(_WAITS, _MILLISECONDS)
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=served))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            "PORT_IN_USE",
            "The metrics of Temporal's SDK can't be served: set telemetry.host (an IP address) and telemetry.sdk_port.",
        ) from error
