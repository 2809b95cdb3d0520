"""The evidence of an audit: the exchange's own books, our ledger and Temporal's workflows, read once after a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from temporalio.client import Client

from domain.messages import OrderIntent
from exchange.paper import PaperControl
from tests.chaos.harness_recorder import Notes, PriceNote

__all__ = ["Evidence", "RunningWorkflow", "collect", "evidence_text"]

Row = dict[str, Any]
_VISIBILITY_SECONDS = 20.0
_TABLES = {
    "orders": "SELECT * FROM orders",
    "attempts": "SELECT * FROM attempts",
    "fills": "SELECT * FROM fills",
    "allocations": "SELECT * FROM fifo_allocations",
    "trades": "SELECT * FROM trades",
    "plans": "SELECT * FROM exit_plans",
    "links": "SELECT * FROM trade_strategy_link",
    "records": "SELECT * FROM trade_records",
    "incidents": "SELECT * FROM incidents ORDER BY id",
    "lease_notes": "SELECT * FROM chaos.leases ORDER BY at",
    "plan_notes": "SELECT * FROM chaos.plans ORDER BY at",
    "fill_notes": "SELECT * FROM chaos.fills ORDER BY at",
}


@dataclass(frozen=True, slots=True)
class RunningWorkflow:
    """A workflow execution in Temporal. `stuck_task` is the attempt of its workflow task, 0 or 1 if normal."""

    workflow_id: str
    kind: str
    status: str
    stuck_task: int = 0


@dataclass(slots=True)
class Evidence:
    """Everything, as plain rows."""

    exchange_orders: list[Row] = field(default_factory=list)
    exchange_fills: list[Row] = field(default_factory=list)
    balances: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    journal: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    allocations: list[Row] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    plans: list[Row] = field(default_factory=list)
    links: list[Row] = field(default_factory=list)
    records: list[Row] = field(default_factory=list)
    incidents: list[Row] = field(default_factory=list)
    lease_notes: list[Row] = field(default_factory=list)
    plan_notes: list[Row] = field(default_factory=list)
    fill_notes: list[Row] = field(default_factory=list)
    workflows: list[RunningWorkflow] = field(default_factory=list)
    """Every order's and monitor's latest run."""
    running: list[RunningWorkflow] = field(default_factory=list)
    """Workflows of any kind that `temporal workflow list` shows as running."""
    intents: list[OrderIntent] = field(default_factory=list)
    sells: list[OrderIntent] = field(default_factory=list)
    """Sells of trades that people wanted."""
    prices: list[PriceNote] = field(default_factory=list)
    skews: list[tuple[datetime, float]] = field(default_factory=list)
    outages: list[tuple[datetime, datetime]] = field(default_factory=list)
    cuts: list[tuple[datetime, datetime]] = field(default_factory=list)
    database_kills: list[tuple[datetime, datetime]] = field(default_factory=list)
    terminated: list[tuple[datetime, str]] = field(default_factory=list)
    """Monitors that a person terminated: when, and the entry's key."""
    no_cut: str = ""
    """Why there was no planned power cut."""
    problems: list[str] = field(default_factory=list)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


async def collect(
    client: Client,
    ledger: Any,
    control: PaperControl,
    notes: Notes,
    *,
    intents: Sequence[OrderIntent],
    sells: Sequence[OrderIntent] = (),
    problems: Sequence[str] = (),
) -> Evidence:
    """Read all sides. The database's rows are from one moment."""
    evidence = Evidence(
        intents=list(intents),
        sells=list(sells),
        problems=list(problems),
        prices=notes.prices,
        skews=notes.skews,
        outages=notes.outages,
        cuts=notes.cuts,
        database_kills=notes.database_kills,
        terminated=notes.terminated,
    )
    evidence.exchange_orders = await control.orders()
    evidence.exchange_fills = await control.fills()
    evidence.balances = await control.balances()
    evidence.journal = await control.journal()
    async with ledger.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.set_type_codec("jsonb", encoder=str, decoder=orjson.loads, schema="pg_catalog")
        for name, statement in _TABLES.items():
            setattr(evidence, name, [dict(row) for row in await connection.fetch(statement)])
    evidence.workflows, evidence.running = await _workflows(client, evidence)
    return evidence


async def _workflows(client: Client, evidence: Evidence) -> tuple[list[RunningWorkflow], list[RunningWorkflow]]:
    """Orders and monitors, and all running workflows. Visibility lags: unexpected ones are checked again."""
    ended = {f"order-{row['order_key']}" for row in evidence.orders if row["finished"]}
    open_trades = {row["entry_key"] for row in evidence.trades if row["state"] != "CLOSED"}
    ended -= {f"order-{key}" for key in open_trades}
    ended |= {f"external-{row['order_key']}" for row in evidence.orders if row["finished"]}
    ended |= {f"exit-{row['entry_key']}" for row in evidence.trades if row["state"] == "CLOSED"}
    deadline = time.monotonic() + _VISIBILITY_SECONDS
    while True:
        found = [
            item
            async for item in client.list_workflows(
                "WorkflowType IN ('OrderWorkflow', 'ExitMonitorWorkflow') AND ExecutionStatus <> 'ContinuedAsNew'"
            )
        ]
        latest: dict[str, Any] = {}
        for item in sorted(found, key=lambda item: item.start_time):
            latest[item.id] = item
        running = [item for item in latest.values() if item.status is not None and item.status.name == "RUNNING"]
        extra = [item for item in running if item.id in ended]
        listed = [
            RunningWorkflow(item.id, item.workflow_type, "RUNNING")
            async for item in client.list_workflows("ExecutionStatus = 'Running'")
        ]
        if time.monotonic() > deadline or not (extra or any(item.workflow_id in ended for item in listed)):
            break
        await asyncio.sleep(0.5)
    answer = []
    for item in latest.values():
        attempt = 0
        if item.status is not None and item.status.name == "RUNNING":
            description = await client.get_workflow_handle(item.id).describe()
            attempt = description.raw_description.pending_workflow_task.attempt
        name = item.status.name if item.status is not None else "UNKNOWN"
        answer.append(RunningWorkflow(item.id, item.workflow_type, name, attempt))
    return answer, listed


def evidence_text(evidence: Evidence) -> str:
    """All of it as JSON, for the analysis of a failing seed."""

    def plain(value: object) -> object:
        if isinstance(value, OrderIntent):
            return value.model_dump(mode="json")
        return str(value)

    document = {name: getattr(evidence, name) for name in Evidence.__slots__}
    for name in ("workflows", "running"):
        document[name] = [asdict(item) for item in getattr(evidence, name)]
    document["prices"] = [asdict(item) for item in evidence.prices]
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(document, default=plain, option=options).decode()
