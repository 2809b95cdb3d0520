"""Metrics of a worker behind a Prometheus endpoint (docs/metrics.md names them all).

Counters and histograms are of what this process did, taken from the activities that pass through it, so that the sum
over all workers is the whole. Gauges are read from the ledger every few seconds: they are the same on every worker, and
a dashboard takes their maximum. Without a port nothing is measured and nothing costs anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.database import Pool
from activities.interfaces.orders import LookUp, PlaceAttempt, RecordUpdate
from activities.interfaces.reconcile import ReconcileReport
from activities.measures import Measures
from activities.policy import Policy
from domain.ids import client_order_id
from domain.messages import (
    Admission,
    OrderUpdate,
    PlaceAnswer,
    PlaceVerdict,
    RecordResult,
    ResolveAnswer,
    ResolveVerdict,
    StatusSource,
    TradeOutcome,
)
from domain.orders import AttemptStatus
from exchange.background import TaskFault
from workers.ledger_gauges import GAUGES, Readings, read_gauges
from workers.metrics_server import MetricsServer
from workers.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

__all__ = ["Telemetry", "telemetry"]

_log = structlog.get_logger()

_REMEMBERED = 10_000
_CODE = re.compile(r"[A-Za-z0-9_]{0,60}")
_MOST_CODES = 100
"""Codes are the venue's own words: more of them than this, or other text, are counted as `other`."""
_ROLES = {
    "role_running": ("role", "1 for each role that this process runs"),
    "role_needed": ("role", "1 for each role that the settings need in some process"),
}
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 300)
_SECONDS_OF_STOPS = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 5e-2)


class Telemetry(Interceptor, Measures):
    """The instruments of one process, with the interceptor and the measures that feed them.

    Attributes:
        registry: what the endpoint serves.
        policy: the policy in force, whose limits are told beside the day's result; None: neither is told.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # Slow to load: who has no port starts without it.
        from prometheus_client import Counter, Histogram, disable_created_metrics  # noqa: PLC0415

        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has none; a second series each, of which nobody asks

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, *labels: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
            return Histogram(name, meaning, labels, registry=registry, buckets=buckets)

        self.registry = registry
        self._admissions = counter("bottrader_admissions", "intents decided on, by gate", "gate", "outcome")
        self._orders = counter("bottrader_orders", "orders that ended, by outcome", "outcome")
        self._attempts = counter(
            "bottrader_attempts", "attempts sent, by answer and number", "answer", "attempt", "code"
        )
        self._attempt_ends = counter(
            "bottrader_attempt_ends", "attempts that ended, by outcome and number", "attempt", "outcome"
        )
        self._fills = counter("bottrader_fills", "fills recorded, by how they were learned", "source")
        self._matches = counter(
            "bottrader_fill_matches", "reports that bring a fill, by how their order was found", "by", "source"
        )
        self._fill_failures = counter(
            "bottrader_fill_failures", "fills that could not be recorded at once and are tried again", "kind", "where"
        )
        self._reports = counter(
            "bottrader_reports", "reports of the exchange recorded, by what they wrote", "source", "write"
        )
        self._exits = counter("bottrader_exits", "trades closed, by the way they were left", "path", "result")
        self._findings = counter(
            "bottrader_reconcile_findings", "differences that reconcile found, by kind", "difference"
        )
        self._background = counter(
            "bottrader_background_errors", "errors of background work that nobody awaited, by type", "kind"
        )
        self._to_record = histogram(
            "bottrader_fill_to_recorded_seconds", "from the exchange's time of a fill to its record"
        )
        self._to_fill = histogram("bottrader_placement_to_fill_seconds", "from sending an order to its first fill")
        self._calls = histogram(
            "bottrader_activity_seconds", "activities that ended, by name and outcome", "activity", "outcome"
        )
        self._reconciled = histogram("bottrader_reconcile_seconds", "runs of reconcile that ended")
        self._unprotected = histogram("bottrader_unprotected_seconds", "spans in which a position had no price watcher")
        self._stops = histogram(
            "bottrader_stop_calculation_seconds",
            "comparing a price with all stops of its product",
            buckets=_SECONDS_OF_STOPS,
        )
        self.policy: Callable[[], Policy] | None = None
        self._roles: Readings = {}
        self._placed: OrderedDict[str, datetime] = OrderedDict()
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._codes: set[str] = set()
        self._seen: Readings = {}
        self._looked = time.monotonic()
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The gauges as they were last read, each with its label and its values."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - slow to load

        for gauges, readings in ((GAUGES, self._seen), (_ROLES, self._roles)):
            for name, (label, meaning) in gauges.items():
                family = GaugeMetricFamily(f"bottrader_{name}", meaning, labels=[label])
                for value, number in readings.get(name, ()):
                    family.add_metric([value], number)
                yield family
        yield GaugeMetricFamily(
            "bottrader_look_age_seconds",
            "seconds since the gauges were read from the ledger, or since the start",
            value=time.monotonic() - self._looked,
        )

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Temporal's hook: every activity of this process passes through."""
        return _Inbound(next, self)

    async def look(self, pool: Pool, settings: Settings) -> None:
        """Read the gauges from the ledger. Raises the database's errors."""
        policy = None if self.policy is None else self.policy()
        self._seen = await read_gauges(pool, settings.account, shards=settings.watcher.shards, policy=policy)
        self._looked = time.monotonic()

    def run_roles(self, running: Iterable[str], needed: Iterable[str]) -> None:
        """Which roles this process runs, and which the settings need somewhere."""
        self._roles = {
            "role_running": [(role, 1.0) for role in sorted(running)],
            "role_needed": [(role, 1.0) for role in sorted(needed)],
        }

    def sent(self, argument: object) -> None:
        """An activity begins: an attempt that is about to be sent is remembered."""
        if isinstance(argument, PlaceAttempt):
            _remember(self._placed, argument.plan.client_order_id, datetime.now(UTC))

    def ended(self, name: str, argument: object, result: object, seconds: float) -> None:
        """An activity ended well: count what it says."""
        self._calls.labels(name, "ok").observe(seconds)
        if isinstance(result, Admission):
            self._admissions.labels(result.gate or "", "accepted" if result.accepted else "refused").inc()
            if not result.accepted:
                self._orders.labels(result.state.value).inc()
        elif isinstance(result, PlaceAnswer) and isinstance(argument, PlaceAttempt):
            number = _number(argument.plan.number)
            self._attempts.labels(result.verdict.value, number, self._known(result.code)).inc()
            if result.verdict is PlaceVerdict.REFUSED:
                self.attempt_ended(AttemptStatus.FAILED.value, argument.plan.number)
        elif isinstance(result, ResolveAnswer) and isinstance(argument, LookUp):
            if result.verdict is ResolveVerdict.ABSENT:
                self.attempt_ended(AttemptStatus.ABSENT.value, argument.number)
        elif isinstance(result, ReconcileReport):
            self._reconcile(result)
        elif isinstance(result, RecordResult) and name == "end_order":
            self._orders.labels(result.state.value).inc()
        elif isinstance(result, TradeOutcome) and result.entry_key not in self._closed:
            _remember(self._closed, result.entry_key, None)
            reason = result.exit_reason.value if result.exit_reason else "NONE"
            self._exits.labels(reason, "won" if result.pnl > 0 else "lost").inc()

    def failed(self, name: str, seconds: float, argument: object = None, problem: BaseException | None = None) -> None:
        """An activity raised `problem`."""
        self._calls.labels(name, "failed").observe(seconds)
        if isinstance(argument, RecordUpdate) and argument.update.filled_size > 0:
            self.fill_failed("workflow", type(problem).__name__)

    def _known(self, code: str) -> str:
        """The code as a label."""
        if code not in self._codes:
            if len(self._codes) >= _MOST_CODES or not _CODE.fullmatch(code):
                return "other"
            self._codes.add(code)
        return code

    def _reconcile(self, report: ReconcileReport) -> None:
        self._reconciled.observe(report.seconds)
        for difference, count in report.counts.items():
            self._findings.labels(difference).inc(count)

    def matched(self, by: str, source: StatusSource) -> None:
        """A report brought a fill."""
        self._matches.labels(by, source.value).inc()

    def written(self, write: str, source: StatusSource) -> None:
        """A report was recorded."""
        self._reports.labels(source.value, write).inc()

    def attempt_ended(self, outcome: str, number: int) -> None:
        """An attempt has come to its end."""
        self._attempt_ends.labels(_number(number), outcome).inc()

    def fill_failed(self, where: str, kind: str) -> None:
        """A fill could not be recorded now."""
        self._fill_failures.labels(kind, where).inc()

    def stops_calculated(self, seconds: float) -> None:
        """A price was compared with all stops of its product."""
        self._stops.observe(seconds)

    def unprotected(self, seconds: float) -> None:
        """A position was not watched for so long."""
        self._unprotected.observe(seconds)

    def background(self, fault: TaskFault) -> None:
        """Something failed that nobody awaited."""
        self._background.labels(fault.kind).inc()

    def recorded(self, order_key: str, update: OrderUpdate, result: RecordResult, ended: bool) -> None:
        """The ledger of this process took a new fill, from a workflow or directly; `ended`: its order with it."""
        self._fills.labels(update.source.value).inc()
        self._to_record.observe(max(0.0, (datetime.now(UTC) - update.at).total_seconds()))
        placed = self._placed.pop(client_order_id(order_key, update.attempt), None)
        if placed is not None and result.first_fill:
            self._to_fill.observe(max(0.0, (update.at - placed).total_seconds()))
        if ended:
            self._orders.labels(result.state.value).inc()


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
        except Exception as problem:
            self._telemetry.failed(name, time.perf_counter() - began, argument, problem)
            raise
        try:
            self._telemetry.ended(name, argument, result, time.perf_counter() - began)
        except (ValueError, TypeError, AttributeError) as problem:
            _log.warning("not counted", activity=name, problem=repr(problem))
        return result


def _number(attempt: int) -> str:
    return str(attempt) if attempt < 10 else "10+"


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
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - slow to load

    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    server = MetricsServer(registry, asked.host, asked.port, "telemetry.port")
    looking = asyncio.create_task(_look_for_ever(telemetry, pool, settings))
    _log.info("metrics", address=f"http://{asked.host}:{asked.port}/metrics")
    try:
        yield (telemetry,)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await asyncio.to_thread(server.close)


async def _look_for_ever(telemetry: Telemetry, pool: Pool, settings: Settings) -> None:
    while True:
        try:
            await telemetry.look(pool, settings)
        except Exception as problem:  # noqa: BLE001 - the database may be away in any way; the age of the look says so
            _log.warning("gauges not read", problem=repr(problem))
        await asyncio.sleep(float(settings.telemetry.look_s))
