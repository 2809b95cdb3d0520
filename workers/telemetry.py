"""Metrics of a worker: OpenTelemetry instruments behind a Prometheus endpoint (docs/metrics.md names them all).

Counters and histograms are of what this process did, taken from the activities that pass through it, so that the sum
over all workers is the whole. Gauges are read from the ledger every few seconds: they are the same on every worker, and
a dashboard takes their maximum. Without a port nothing is measured and nothing costs anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.interfaces.orders import PlaceAttempt
from domain.ids import client_order_id
from domain.messages import Admission, OrderUpdate, PlaceAnswer, RecordResult, TradeOutcome
from exchange.background import TaskFault
from workers.errors import UserError
from workers.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from prometheus_client import CollectorRegistry

__all__ = ["Telemetry", "telemetry"]

_log = structlog.get_logger()

_REMEMBERED = 10_000
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)

# One row a value: the gauge, the value of its label, the number.
_LOOK = """
SELECT 'linkage_rate' AS gauge, o.source AS label,
       (count(l.order_key)::float8 / count(*)) AS value
  FROM orders o LEFT JOIN trade_strategy_link l USING (order_key)
 WHERE o.account = $1 AND o.role <> 'EXTERNAL' AND o.filled_size > 0 AND o.received_at > now() - interval '1 day'
 GROUP BY o.source
UNION ALL
SELECT 'data_age_seconds', name, greatest(extract(epoch FROM now() - last_message_at), 0)::float8
  FROM stream_positions WHERE last_message_at IS NOT NULL AND split_part(name, '/', 2) = $1
UNION ALL
SELECT 'stream_connected', name, connected::int::float8 FROM stream_positions WHERE split_part(name, '/', 2) = $1
UNION ALL
SELECT 'stream_reconnects', name, greatest(connections - 1, 0)::float8 FROM stream_positions
 WHERE split_part(name, '/', 2) = $1
UNION ALL
SELECT 'open_trades', state, count(*)::float8 FROM trades WHERE account = $1 AND state <> 'CLOSED' GROUP BY state
UNION ALL
SELECT 'open_orders', state, count(*)::float8 FROM orders WHERE account = $1 AND NOT finished GROUP BY state
UNION ALL
SELECT 'open_incidents', severity, count(*)::float8 FROM incidents
 WHERE account = $1 AND resolved_at IS NULL AND severity <> 'INFO' GROUP BY severity
UNION ALL
SELECT 'unrouted_facts', 'all', count(*)::float8 FROM raw_facts WHERE account = $1 AND routed_at IS NULL
UNION ALL
(SELECT 'ledger_violations', 'all', violations::float8 FROM ledger_checks WHERE account = $1 ORDER BY at DESC LIMIT 1)
"""
_GAUGES = {
    "linkage_rate": ("source", "share of filled orders of the last day that carry their decision"),
    "data_age_seconds": ("stream", "seconds since a stream's last message; healthy below 60"),
    "stream_connected": ("stream", "1 while a stream is connected"),
    "stream_reconnects": ("stream", "connections of a stream after its first"),
    "open_trades": ("state", "trades with a position"),
    "open_orders": ("state", "orders that have not ended"),
    "open_incidents": ("severity", "incidents that nobody has resolved"),
    "unrouted_facts": ("which", "facts of the exchange that are stored and not yet routed"),
    "ledger_violations": ("which", "violations that the last check of the ledger found"),
}


class Telemetry(Interceptor):
    """The instruments of one process, and the interceptor that feeds them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Slow to load: who has no port starts without them.
        from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
        from opentelemetry.metrics import Observation  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View  # noqa: PLC0415

        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
        buckets = View(instrument_name="bottrader_*_seconds", aggregation=ExplicitBucketHistogramAggregation(_SECONDS))
        self._provider = MeterProvider(metric_readers=[reader], views=[buckets], shutdown_on_exit=False)
        meter = self._provider.get_meter("bottrader")
        self._admissions = meter.create_counter("bottrader_admissions", description="intents decided on, by gate")
        self._orders = meter.create_counter("bottrader_orders", description="orders that ended, by outcome")
        self._attempts = meter.create_counter("bottrader_attempts", description="attempts sent, by answer and number")
        self._fills = meter.create_counter("bottrader_fills", description="fills recorded, by how they were learned")
        self._exits = meter.create_counter("bottrader_exits", description="trades closed, by the way they were left")
        self._to_record = meter.create_histogram(
            "bottrader_fill_to_recorded_seconds", description="from the exchange's time of a fill to its record"
        )
        self._to_fill = meter.create_histogram(
            "bottrader_placement_to_fill_seconds", description="from sending an order to its first fill"
        )
        self._calls = meter.create_histogram(
            "bottrader_activity_seconds", description="activities that ended, by name and outcome"
        )
        self._background = meter.create_counter(
            "bottrader_background_errors", description="errors of background work that nobody awaited, by type"
        )
        self._placed: OrderedDict[str, datetime] = OrderedDict()
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._seen: dict[str, list[tuple[str, float]]] = {}
        self._looked = 0.0
        for name, (label, description) in _GAUGES.items():
            meter.create_observable_gauge(f"bottrader_{name}", [self._observer(name, label)], description=description)
        meter.create_observable_gauge(
            "bottrader_look_age_seconds",
            [lambda _: [Observation(time.monotonic() - self._looked)] if self._looked else []],
            description="seconds since the gauges were read from the ledger",
        )

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Temporal's hook: every activity of this process passes through."""
        return _Inbound(next, self)

    async def look(self, pool: Any, account: str) -> None:
        """Read the gauges from the ledger. Raises the database's errors."""
        seen: dict[str, list[tuple[str, float]]] = {}
        for row in await pool.fetch(_LOOK, account):
            seen.setdefault(row["gauge"], []).append((row["label"], row["value"]))
        self._seen, self._looked = seen, time.monotonic()

    def close(self) -> None:
        """Measure no more."""
        self._provider.shutdown()

    def _observer(self, name: str, label: str) -> Any:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - slow to load

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, {label: of}) for of, value in self._seen.get(name, ())]

        return observe

    def sent(self, argument: object) -> None:
        """An activity begins: an attempt that is about to be sent is remembered."""
        if isinstance(argument, PlaceAttempt):
            _remember(self._placed, argument.plan.client_order_id, datetime.now(UTC))

    def ended(self, name: str, argument: object, result: object, seconds: float) -> None:
        """An activity ended well: count what it says."""
        self._calls.record(seconds, {"activity": name, "outcome": "ok"})
        if isinstance(result, Admission):
            self._admissions.add(
                1, {"outcome": "accepted" if result.accepted else "refused", "gate": result.gate or ""}
            )
            if not result.accepted:
                self._orders.add(1, {"outcome": result.state.value})
        elif isinstance(result, PlaceAnswer) and isinstance(argument, PlaceAttempt):
            number = str(argument.plan.number) if argument.plan.number < 10 else "10+"
            self._attempts.add(1, {"answer": result.verdict.value, "attempt": number, "code": result.code[:60]})
        elif isinstance(result, RecordResult) and name == "end_order":
            self._orders.add(1, {"outcome": result.state.value})
        elif isinstance(result, TradeOutcome) and result.entry_key not in self._closed:
            _remember(self._closed, result.entry_key, None)
            reason = result.exit_reason.value if result.exit_reason else "NONE"
            self._exits.add(1, {"path": reason, "result": "won" if result.pnl > 0 else "lost"})

    def failed(self, name: str, seconds: float) -> None:
        """An activity raised."""
        self._calls.record(seconds, {"activity": name, "outcome": "failed"})

    def background(self, fault: TaskFault) -> None:
        """Something failed that nobody awaited."""
        self._background.add(1, {"kind": fault.kind})

    def recorded(self, order_key: str, update: OrderUpdate, result: RecordResult, ended: bool) -> None:
        """The ledger of this process took a new fill, from a workflow or directly; `ended`: its order with it."""
        self._fills.add(1, {"source": update.source.value})
        self._to_record.record(max(0.0, (datetime.now(UTC) - update.at).total_seconds()))
        placed = self._placed.pop(client_order_id(order_key, update.attempt), None)
        if placed is not None and result.first_fill:
            self._to_fill.record(max(0.0, (update.at - placed).total_seconds()))
        if ended:
            self._orders.add(1, {"outcome": result.state.value})


class _Inbound(ActivityInboundInterceptor):
    """Passes an activity on and tells of it. What counting might raise never becomes an activity's failure."""

    def __init__(self, following: ActivityInboundInterceptor, telemetry: Telemetry) -> None:
        super().__init__(following)
        self._telemetry = telemetry

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        name = getattr(input.fn, "__name__", "unknown")
        argument = input.args[0] if input.args else None
        began = time.perf_counter()
        self._telemetry.sent(argument)
        try:
            result = await super().execute_activity(input)
        except Exception:
            self._telemetry.failed(name, time.perf_counter() - began)
            raise
        try:
            self._telemetry.ended(name, argument, result, time.perf_counter() - began)
        except (ValueError, TypeError, AttributeError) as problem:
            _log.warning("not counted", activity=name, problem=repr(problem))
        return result


def _remember(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


@contextlib.asynccontextmanager
async def telemetry(settings: Settings, pool: Any) -> AsyncIterator[Sequence[Interceptor]]:
    """The interceptors of this process's workers, with an endpoint while the block runs; none without a port.

    Raises UserError(PORT_IN_USE) for a port that can't be listened on.
    """
    asked = settings.telemetry
    if not asked.port:
        yield ()
        return
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - slow to load

    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    try:
        server, thread = start_http_server(asked.port, asked.host, registry)
    except OSError as error:
        telemetry.close()
        raise UserError(
            "PORT_IN_USE",
            f"Metrics can't be served ({error.strerror}): set telemetry.host and telemetry.port.",
        ) from None
    looking = asyncio.create_task(_look_for_ever(telemetry, pool, settings.account, float(asked.look_s)))
    _log.info("metrics", address=f"http://{asked.host}:{asked.port}/metrics")
    try:
        yield (telemetry,)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join, 5)
        telemetry.close()


async def _look_for_ever(telemetry: Telemetry, pool: Any, account: str, pause: float) -> None:
    while True:
        try:
            await telemetry.look(pool, account)
        except Exception as problem:  # noqa: BLE001 - the database may be away in any way; the age of the look says so
            _log.warning("gauges not read", problem=repr(problem))
        await asyncio.sleep(pause)
