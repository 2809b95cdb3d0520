"""An exit order as a child of its trade's monitor: what sells, and what protects at the exchange, start alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.search_attributes import of_order
    from domain.ids import order_workflow_id
    from domain.messages import OrderIntent, OrderOutcome
    from domain.wording import order_summary
    from workflows.durable import TASK_TIMEOUT

__all__ = ["ExitOrder", "sells_beside", "start_exit_order"]

_DUST_IS_NOTHING = "dust beside what may still sell a trade is nothing to sell"

ExitOrder = workflow.ChildWorkflowHandle[Any, OrderOutcome]


async def start_exit_order(intent: OrderIntent, *, again: bool = False) -> ExitOrder | None:
    """Its workflow, which outlives the monitor; None where one of its id runs, or has ended and is not to go `again`.

    One that has failed is always started anew.
    """
    reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
    try:
        return await workflow.start_child_workflow(
            "OrderWorkflow",
            intent,
            id=order_workflow_id(intent.order_key),
            result_type=OrderOutcome,
            parent_close_policy=ParentClosePolicy.ABANDON,
            cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            id_reuse_policy=reuse,
            task_timeout=TASK_TIMEOUT,
            search_attributes=of_order(intent),
            static_summary=order_summary(intent),
        )
    except WorkflowAlreadyStartedError:
        return None


def sells_beside(remaining: Decimal, claimed: Decimal, free: Decimal | None) -> bool:
    """Whether an exit has something to sell beside what may still sell `claimed` of what its trade has left.

    `free` is that as an order that the exchange takes; None where the product's rules are not known.
    """
    if remaining <= claimed:
        return False
    return free is None or free > 0 or not workflow.patched(_DUST_IS_NOTHING)
