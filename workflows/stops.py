"""A person's change of an open trade's stops: one transaction, whose answer has the plan's new stops."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import MoveStops, OrderActivities
    from domain.messages import StopsAnswer, StopsRequest
    from workflows.durable import transact

__all__ = ["move_stops"]


async def move_stops(entry_key: str, request: StopsRequest) -> StopsAnswer:
    """Move the plan's stops. Raises ApplicationError with the refusal's code as its type."""
    info = workflow.current_update_info()
    change_id = request.command or f"{entry_key}/{info.id if info else workflow.uuid4()}"
    wanted = MoveStops(entry_key=entry_key, change_id=change_id, request=request)
    try:
        return await transact(OrderActivities.move_stops, wanted, "a person moves the stops")
    except ApplicationError as refused:
        if refused.type != "STOPS_REFUSED":
            raise
        raise ApplicationError(refused.message, type=str(refused.details[0])) from refused
