"""How the workflows of orders and trades are started, by name: the only place with their ids, policies and summaries.

Every caller (command line, webhook, strategy, sweep, reconcile, another workflow) uses a `Start`. Whether a used id may
be started again depends on what is started, not on the caller (`REUSE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from types import MappingProxyType
from typing import Any, TypedDict

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from activities.interfaces.search_attributes import of_external, of_monitor, of_order
from domain.ids import exit_workflow_id, external_workflow_id, order_workflow_id
from domain.messages import ExternalOrder, MonitorStart, OrderDecision, OrderIntent, OrderOutcome, TradeOutcome
from domain.orders import OrderRole
from domain.wording import external_summary, money, order_summary, rules_sentence

__all__ = [
    "EXIT_MONITOR_WORKFLOW",
    "EXTERNAL_WORKFLOW",
    "ORDER_WORKFLOW",
    "REUSE",
    "TASK_TIMEOUT",
    "Start",
    "WorkflowKind",
    "decide_order",
    "external_start",
    "monitor_start",
    "order_start",
    "start_order",
    "start_workflow",
]

ORDER_WORKFLOW = "OrderWorkflow"
EXIT_MONITOR_WORKFLOW = "ExitMonitorWorkflow"
EXTERNAL_WORKFLOW = "ExternalOrderWorkflow"

TASK_TIMEOUT = timedelta(seconds=5)
"""After this time a workflow task of a dead worker is given to another."""


class WorkflowKind(Enum):
    """What is started, as far as it matters for the reuse of an id."""

    NEW_ORDER = "a newly decided order"
    KNOWN_ORDER = "an order of the ledger whose workflow is gone"
    MONITOR = "the exit monitor of an open trade"
    EXTERNAL = "an external order, only shown"


REUSE: Mapping[WorkflowKind, WorkflowIDReusePolicy] = MappingProxyType(
    {
        # A repeated decision is the same order: one that has completed is not run again, one that failed is.
        WorkflowKind.NEW_ORDER: WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        # A fill or an attempt that appeared late needs its workflow again, also if that had completed.
        WorkflowKind.KNOWN_ORDER: WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        # What the ledger has as open is guarded, whatever became of an earlier monitor.
        WorkflowKind.MONITOR: WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        # It commands nothing: what has been shown to its end is not shown again.
        WorkflowKind.EXTERNAL: WorkflowIDReusePolicy.REJECT_DUPLICATE,
    }
)
"""The policy for a start whose id belongs to an ended workflow. A running one is never replaced."""


class Options(TypedDict):
    """Keyword arguments common to a client's start and a child's start."""

    id: str
    id_reuse_policy: WorkflowIDReusePolicy
    task_timeout: timedelta
    search_attributes: TypedSearchAttributes
    static_summary: str
    static_details: str | None


@dataclass(frozen=True, slots=True)
class Start:
    """A workflow to start, with its search attributes and summary."""

    kind: WorkflowKind
    workflow: str
    request: OrderIntent | MonitorStart | ExternalOrder
    workflow_id: str
    result_type: type
    search_attributes: TypedSearchAttributes
    summary: str
    details: str | None = None

    @property
    def options(self) -> Options:
        """The arguments common to a client's start and a child's start."""
        return Options(
            id=self.workflow_id,
            id_reuse_policy=REUSE[self.kind],
            task_timeout=TASK_TIMEOUT,
            search_attributes=self.search_attributes,
            static_summary=self.summary,
            static_details=self.details,
        )


def order_start(intent: OrderIntent, *, known: bool = False) -> Start:
    """An order's workflow. `known`: the ledger has the order, and its workflow is to be continued or restored."""
    opens_trade = intent.role is OrderRole.ENTRY
    return Start(
        WorkflowKind.KNOWN_ORDER if known else WorkflowKind.NEW_ORDER,
        ORDER_WORKFLOW,
        intent,
        order_workflow_id(intent.order_key),
        OrderOutcome,
        of_order(intent),
        order_summary(intent),
        rules_sentence(intent.rules, intent.limit_price) if opens_trade else None,
    )


def monitor_start(start: MonitorStart) -> Start:
    """The exit monitor of an open trade."""
    bought = f" bought at {money(start.entry_price)}" if start.entry_price is not None else ""
    return Start(
        WorkflowKind.MONITOR,
        EXIT_MONITOR_WORKFLOW,
        start,
        exit_workflow_id(start.entry_key),
        TradeOutcome,
        of_monitor(start),
        f"guards {money(start.size)} {start.symbol}{bought}",
        rules_sentence(start.rules, start.entry_price),
    )


def external_start(order: ExternalOrder) -> Start:
    """An external order, which its workflow only shows."""
    return Start(
        WorkflowKind.EXTERNAL,
        EXTERNAL_WORKFLOW,
        order,
        external_workflow_id(order.order_key),
        ExternalOrder,
        of_external(order),
        external_summary(order),
    )


async def start_workflow(
    client: Client,
    wanted: Start,
    *,
    task_queue: str,
    signal: tuple[Any, ...] | None = None,
    eager: bool = False,
    rpc_timeout: timedelta | None = None,
) -> WorkflowHandle[Any, Any]:
    """Start a workflow, or find it running; with `signal` (a name and its arguments), it receives that in both cases.

    `eager` lets a worker in this process take the first task at once. Raises WorkflowAlreadyStartedError if one with
    this id has ended and must not be started again (`REUSE`), and RPCError.
    """
    return await client.start_workflow(
        wanted.workflow,
        wanted.request,
        **wanted.options,
        task_queue=task_queue,
        result_type=wanted.result_type,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        start_signal=None if signal is None else signal[0],
        start_signal_args=[] if signal is None else signal[1:],
        request_eager_start=eager,
        rpc_timeout=rpc_timeout,
    )


async def start_order(
    client: Client, intent: OrderIntent, *, task_queue: str = "orders", eager: bool = True
) -> WorkflowHandle[Any, OrderOutcome]:
    """Start the workflow of a newly decided order, or find it running: the same intent is one workflow.

    `eager` lets a worker in this process take the first task at once. Raises WorkflowAlreadyStartedError if it has
    ended (its result is still available under its id) and RPCError if Temporal can't be reached.
    """
    return await start_workflow(client, order_start(intent), task_queue=task_queue, eager=eager)


async def decide_order(client: Client, intent: OrderIntent, *, task_queue: str = "orders") -> OrderDecision:
    """Start the order (or find it) and get the decision on it in one round trip.

    Raises WorkflowUpdateFailedError with INTENT_CONFLICT if the key was used for another intent,
    WorkflowAlreadyStartedError if the order has ended (the ledger has its decision), and RPCError if Temporal can't
    be reached.
    """
    wanted = order_start(intent)
    operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        wanted.workflow,
        wanted.request,
        **wanted.options,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    decision: OrderDecision = await client.execute_update_with_start_workflow(
        "decide", intent, start_workflow_operation=operation, result_type=OrderDecision
    )
    return decision
