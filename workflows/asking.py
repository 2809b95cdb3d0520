"""Requests to a running workflow and their answers; which workflow is asked to close a trade or cancel an order.

A trade's exit monitor sells it; if there is none yet, the entry passes the close on. An order's own workflow cancels
it. If none of them is running, the caller stores the request in the ledger (`activities.commands.keep`) for the one
that the sweep starts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from domain.commands import CommandKind, heard_by
from domain.errors import BotTraderError
from domain.messages import CloseAnswer, CloseRequest

__all__ = ["NoAnswerError", "Reply", "ask", "ask_to_end"]

_SETTLED = frozenset({"CLOSING", "TRADE_CLOSED", "ORDER_ENDED"})
_NO_ANSWER = frozenset({RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED})


class NoAnswerError(BotTraderError):
    """A workflow runs and did not answer in time, probably because no worker does: whether it was heard is unknown."""

    code = "NO_ANSWER"

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id


@dataclass(frozen=True, slots=True)
class Reply:
    """A workflow's answer. `code` says why it refused; empty if the request was accepted."""

    sentence: str
    code: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the request was accepted."""
        return not self.code

    @property
    def settled(self) -> bool:
        """Whether it was refused only because it is already under way or done."""
        return self.code in _SETTLED


async def ask(
    client: Client, workflow_id: str, update: str, request: object, seconds: float, *, update_id: str | None = None
) -> Reply:
    """Send an update, with a timeout in wall seconds, and return its answer or its refusal.

    `update_id` makes a repeat the same update. Raises LookupError if no such workflow is running, NoAnswerError without
    an answer in time, and RPCError.
    """
    handle = client.get_workflow_handle(workflow_id)
    try:
        async with asyncio.timeout(seconds):
            answer = await handle.execute_update(update, request, id=update_id, result_type=CloseAnswer)
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        if not isinstance(cause, ApplicationError):
            return Reply(str(cause), "REFUSED")
        # The text of an ApplicationError begins with its type, which is for programs.
        return Reply(cause.message, cause.type or "REFUSED")
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        raise NoAnswerError(workflow_id) from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise LookupError(workflow_id) from error
        if error.status in _NO_ANSWER:
            raise NoAnswerError(workflow_id) from None
        raise
    return Reply(answer.sentence)


async def ask_to_end(
    client: Client,
    kind: CommandKind,
    key: str,
    request: CloseRequest,
    seconds: float,
    *,
    update_id: str | None = None,
) -> Reply:
    """Request a close or cancel from the first running workflow that can do it, with a timeout in seconds for each.

    Raises ValueError for a command of another kind, LookupError if none of them is running, NoAnswerError and RPCError.
    """
    for workflow_id in heard_by(kind, key):
        try:
            return await ask(client, workflow_id, kind.value, request, seconds, update_id=update_id)
        except LookupError:
            continue
    raise LookupError(key)
