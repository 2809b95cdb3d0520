"""How workflows run activities, with their timeouts and retries.

A short idempotent transaction runs as a local activity: three tries within five seconds, one event, no task queue. If
the database is unreachable for longer, it runs as an ordinary activity with unlimited retries, so that a long outage
holds no workflow task. Calls to the exchange are ordinary activities, so that they are visible in the Web UI.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities
    from activities.interfaces.starting import order_start
    from domain.messages import OrderIntent, OrderOutcome
    from workflows.changes import CodeChange, changed

__all__ = [
    "HEARTBEAT",
    "OrderChild",
    "ask_exchange",
    "ask_until",
    "start_order_child",
    "transact",
    "wait_until",
]

Request = TypeVar("Request")
Result = TypeVar("Result")
Method = Callable[[OrderActivities, Request], Awaitable[Result]]
OrderChild = workflow.ChildWorkflowHandle[Any, OrderOutcome]

HEARTBEAT = timedelta(seconds=4)
"""The heartbeat timeout of a call to the exchange whose worker died."""

_FINAL = ["INTENT_CONFLICT", "UNKNOWN_ATTEMPT", "ENTRY_STOPPED", "STOPS_REFUSED"]
_BRIEF = RetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    backoff_coefficient=2.0,
    maximum_attempts=3,
    non_retryable_error_types=_FINAL,
)
_PATIENT = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
    non_retryable_error_types=_FINAL,
)


async def wait_until(condition: Callable[[], bool], seconds: float | None, summary: str) -> bool:
    """Wait until the condition holds, at most `seconds` of wall time (None: for ever). False if the time is over.

    `summary` is what the Web UI shows beside the timer.
    """
    try:
        await workflow.wait_condition(
            condition, timeout=None if seconds is None else timedelta(seconds=seconds), timeout_summary=summary
        )
    except TimeoutError:
        return False
    return True


async def start_order_child(intent: OrderIntent, *, again: bool = False, queue: str | None = None) -> OrderChild | None:
    """Start an order's own workflow, which outlives its parent; on the parent's task queue unless `queue` is given.

    None if a workflow of this order is running, or has completed and must not run `again`. One that failed or was
    terminated is always restarted.
    """
    start = order_start(intent, known=again)
    try:
        return await workflow.start_child_workflow(
            start.workflow,
            intent,
            **start.options,
            task_queue=queue,
            result_type=OrderOutcome,
            parent_close_policy=ParentClosePolicy.ABANDON,
            cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
        )
    except WorkflowAlreadyStartedError:
        return None


async def transact(method: Method[Request, Result], request: Request, summary: str) -> Result:
    """Run a short idempotent transaction; waits out any outage of the database or of the exchange's answers.

    Raises ApplicationError only for permanent errors (INTENT_CONFLICT, UNKNOWN_ATTEMPT, ENTRY_STOPPED, STOPS_REFUSED).
    """
    call = cast("Any", method)
    try:
        result = await workflow.execute_local_activity_method(
            call,
            request,
            start_to_close_timeout=timedelta(seconds=5),
            schedule_to_close_timeout=timedelta(seconds=5),
            retry_policy=_BRIEF,
            summary=summary,
        )
    except FailureError as error:
        # A local activity's failure comes bare, or as an ActivityError around it; both are the same to us.
        if is_cancelled_exception(error):
            raise
        _raise_if_final(error)
        try:
            result = await workflow.execute_activity_method(
                call,
                request,
                start_to_close_timeout=timedelta(seconds=20),
                retry_policy=_PATIENT,
                summary=f"{summary} (retried until it succeeds)",
            )
        except ActivityError as last:
            _raise_if_final(last)
            raise
    return cast("Result", result)


def _raise_if_final(error: FailureError) -> None:
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ApplicationError) and cause.type in _FINAL:
        raise cause from error


async def ask_exchange(
    method: Method[Request, Result],
    request: Request,
    summary: str,
    *,
    tries: int = 0,
    timeout: timedelta = timedelta(seconds=20),
) -> Result:
    """Run an activity that calls the exchange and may be repeated. `tries` of 0 means for ever.

    Raises ActivityError when the tries are used up.
    """
    return await _asked(method, request, summary, tries=tries, timeout=timeout)


async def ask_until(
    known: Callable[[], bool],
    method: Method[Request, Result],
    request: Request,
    summary: str,
    *,
    tries: int = 0,
) -> Result | None:
    """`ask_exchange`, but returns None once `known` says that the answer is no longer needed.

    Raises ActivityError when the tries are used up.
    """
    asking = _asked(method, request, summary, tries=tries, timeout=timedelta(seconds=20))
    await workflow.wait_condition(lambda: asking.done() or known())
    if not asking.done() and changed(CodeChange.ANSWERS_UNNEEDED):
        asking.cancel()
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return None
    return await asking


def _asked(
    method: Method[Request, Result], request: Request, summary: str, *, tries: int, timeout: timedelta
) -> workflow.ActivityHandle[Result]:
    policy = RetryPolicy(
        initial_interval=timedelta(milliseconds=250),
        backoff_coefficient=2.0,
        maximum_interval=timedelta(seconds=10),
        maximum_attempts=tries,
        non_retryable_error_types=_FINAL,
    )
    handle = workflow.start_activity_method(
        cast("Any", method),
        request,
        start_to_close_timeout=timeout,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=policy,
        summary=summary,
    )
    return cast("workflow.ActivityHandle[Result]", handle)
