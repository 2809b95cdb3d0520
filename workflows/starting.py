"""How an order is started, by whoever decides: the same intent twice is the same workflow."""

from __future__ import annotations

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from activities.interfaces.search_attributes import of_order
from domain.ids import order_workflow_id
from domain.messages import OrderDecision, OrderIntent, OrderOutcome
from domain.wording import order_summary, rules_sentence
from workflows.durable import TASK_TIMEOUT
from workflows.order import OrderWorkflow

__all__ = ["decide_order", "start_order"]


async def start_order(
    client: Client, intent: OrderIntent, *, task_queue: str = "orders", eager: bool = True
) -> WorkflowHandle[OrderWorkflow, OrderOutcome]:
    """Start the order's workflow, or find it running; one that has ended is not started again.

    `eager` lets a worker in this process take the first task at once. Raises WorkflowAlreadyStartedError if it has
    ended (its result is still to be had under its id) and RPCError if Temporal can't be reached.
    """
    return await client.start_workflow(
        OrderWorkflow.run,
        intent,
        id=order_workflow_id(intent.order_key),
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        task_timeout=TASK_TIMEOUT,
        search_attributes=of_order(intent),
        static_summary=order_summary(intent),
        static_details=rules_sentence(intent.rules, intent.limit_price),
        request_eager_start=eager,
    )


async def decide_order(client: Client, intent: OrderIntent, *, task_queue: str = "orders") -> OrderDecision:
    """Start the order (or find it) and get the decision on it in one round trip.

    Raises WorkflowUpdateFailedError with INTENT_CONFLICT if the key was used for another intent,
    WorkflowAlreadyStartedError if the order has ended (the ledger has its decision), and RPCError if Temporal can't
    be reached.
    """
    start = WithStartWorkflowOperation(
        OrderWorkflow.run,
        intent,
        id=order_workflow_id(intent.order_key),
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        task_timeout=TASK_TIMEOUT,
        search_attributes=of_order(intent),
        static_summary=order_summary(intent),
        static_details=rules_sentence(intent.rules, intent.limit_price),
    )
    return await client.execute_update_with_start_workflow(OrderWorkflow.decide, intent, start_workflow_operation=start)
