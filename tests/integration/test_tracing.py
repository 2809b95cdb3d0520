"""One trace from the decision to the exit, through real Temporal."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Interceptor, Replayer, UnsandboxedWorkflowRunner

from activities.secret_values import hide
from domain.exits import ExitRules
from tests.support.harness import ALL_ROLES, TradingSystem, trading_system
from tests.support.intents import market_buy
from tests.support.traces import longest, read_spans, tree
from tests.workflow.test_replay import WORKFLOWS
from workers.otlp import OtlpJson
from workers.runner import WorkerParts, workers_for
from workers.schedules import ensure_singletons
from workers.settings import TelemetrySettings
from workers.stack.dev_server import DevServer
from workers.temporal_connection import connect
from workers.tracing import Tracing, tracing_to


@contextlib.asynccontextmanager
async def traced_system(database: str, temporal: str, target: Path) -> AsyncIterator[TradingSystem]:
    """A system whose client and workers trace to a file."""
    async with (
        trading_system(database, temporal, roles=frozenset()) as system,
        contextlib.AsyncExitStack() as running,
    ):
        settings = system.settings.model_copy(update={"telemetry": TelemetrySettings(traces=str(target))})
        client = await connect(settings)
        running.callback(tracing_to(str(target)).provider.shutdown)
        system.parts = WorkerParts(settings, client, system.pool, system.parts.exchange)
        for worker in workers_for(system.parts, set(ALL_ROLES)):
            await running.enter_async_context(worker)
        await ensure_singletons(client, settings)
        await system.until_streams_are_up()
        yield system


def quiet() -> tuple[Tracing, InMemorySpanExporter]:
    """An interceptor that keeps its spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(resource=Resource({}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider), exporter


async def replays(history: WorkflowHistory, *interceptors: Interceptor) -> None:
    """Raises where the workflow's code and the history differ."""
    await Replayer(
        workflows=WORKFLOWS,
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=interceptors,
    ).replay_workflow(history)


async def test_a_trade_is_one_trace_from_decision_to_exit(
    database: str, temporal_server: DevServer, tmp_path: Path
) -> None:
    """Start, admission, placing, recording, the monitor, its exit and the close are spans of one trace; no activity
    that runs for days is in it; and the histories replay with and without tracing, which makes no span then.
    """
    target = tmp_path / "traces.jsonl"
    async with traced_system(database, temporal_server.address, target) as system:
        rules = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=1)
        trade = await system.start(market_buy(system.account, "0.01", rules=rules))
        await trade.until_protected("0.01")
        await system.price("47000")
        await trade.closed()
        histories = [await trade.handle.fetch_history(), await trade.monitor.fetch_history()]
        exit_order = system.client.get_workflow_handle(f"order-{trade.leg_key(1)}")
        histories.append(await exit_order.fetch_history())
    spans = read_spans(target)
    trace = longest(spans)
    text = "\n".join(tree(trace))
    names = [span.name for span in trace]
    assert names[0] == "StartWorkflow:OrderWorkflow", text
    for name in ("RunActivity:admit", "RunActivity:place", "RunActivity:record", "CompleteWorkflow:OrderWorkflow"):
        assert names.count(name) >= 2, text
    for name in (
        "StartChildWorkflow:ExitMonitorWorkflow",
        "HandleSignal:exit_due",
        "StartChildWorkflow:OrderWorkflow",
        "RunActivity:close_trade",
        "CompleteWorkflow:ExitMonitorWorkflow",
    ):
        assert name in names, text
    outcomes = {span.attributes.get("bottrader.outcome") for span in trace}
    assert {"accepted", "ACCEPTED", "FILLED", "HARD_STOP"} <= outcomes, text
    identities = {span.identity for span in trace}
    assert [span.name for span in trace if span.parent not in identities] == ["StartWorkflow:OrderWorkflow"]
    for_days = {"RunActivity:watch_prices", "RunActivity:run_user_stream"}
    assert not for_days & {span.name for span in spans}
    for history in histories:
        tracing, exporter = quiet()
        await replays(history)
        await replays(history, tracing)
        assert exporter.get_finished_spans() == ()


async def test_without_a_target_nothing_is_traced(database: str, temporal_server: DevServer) -> None:
    """By default a client has no interceptor."""
    async with trading_system(database, temporal_server.address, roles=frozenset()) as system:
        client = await connect(system.settings)
        assert list(client.config()["interceptors"]) == []


class _Collector(BaseHTTPRequestHandler):
    """Keeps what is posted; answers as it was told."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, self.headers["Content-Type"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[HTTPServer]:
    """A collector on loopback, with `posted` and `status`."""
    server = HTTPServer(("127.0.0.1", 0), _Collector)
    server.posted, server.status = [], 200  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_are_posted_as_otlp(collector: HTTPServer) -> None:
    """A collector gets each span with its parent, its attributes and its error, at the path of OTLP, and no secret of
    the settings; where it refuses or is away, spans are dropped and nobody waits.
    """
    hide(["a-secret-of-the-settings"])
    address = f"http://127.0.0.1:{collector.server_port}"
    provider = TracerProvider(resource=Resource({"service.name": "bottrader"}))
    provider.add_span_processor(SimpleSpanProcessor(OtlpJson(address)))
    tracer = provider.get_tracer("bottrader")
    with (
        contextlib.suppress(ValueError),
        tracer.start_as_current_span("outer", attributes={"number": 3, "yes": True, "share": 0.5}),
        tracer.start_as_current_span("inner"),
    ):
        raise ValueError("no a-secret-of-the-settings here")
    (path, kind, inner), (_, _, outer) = collector.posted  # type: ignore[attr-defined]
    assert (path, kind) == ("/v1/traces", "application/json")
    assert "a-secret-of-the-settings" not in json.dumps([inner, outer])
    (told,) = inner["resourceSpans"][0]["scopeSpans"][0]["spans"]
    (above,) = outer["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert told["parentSpanId"] == above["spanId"]
    assert told["traceId"] == above["traceId"]
    assert told["status"] == {"code": 2, "message": "ValueError: no *** here"}
    assert {item["key"]: item["value"] for item in above["attributes"]} == {
        "number": {"intValue": "3"},
        "yes": {"boolValue": True},
        "share": {"doubleValue": 0.5},
    }
    collector.status = 503  # type: ignore[attr-defined]
    with tracer.start_as_current_span("refused"):
        pass
    assert len(collector.posted) == 3  # type: ignore[attr-defined]
    provider.shutdown()
