"""Asking a running workflow for something and hearing its answer; who is asked to close a trade or cancel an order.

A trade's exit monitor sells it; where there is none yet, the entry passes the close on. An order's own workflow cancels
it. Where none of them runs, whoever asks keeps the wish in the ledger (`activities.commands.keep`) for the one that the
sweep starts.
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
    """What a workflow answered. `code` says why it refused; it is empty where the wish was accepted."""

    sentence: str
    code: str = ""

    @property
    def accepted(self) -> bool:
        """Whether it will be done."""
        return not self.code

    @property
    def settled(self) -> bool:
        """Whether it was refused only because it is being done, or is done, already."""
        return self.code in _SETTLED


async def ask(
    client: Client, workflow_id: str, update: str, request: object, seconds: float, *, update_id: str | None = None
) -> Reply:
    """Send an update, at most so many wall seconds, and return its answer or its refusal.

    `update_id` makes the same question twice one question. Raises LookupError where no such workflow runs,
    NoAnswerError where nobody answers in time, and RPCError.
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
    """Have a trade closed or an order cancelled by the first that runs of those who can, each given so many seconds.

    Raises ValueError for a command of another kind, LookupError where none of them runs, NoAnswerError and RPCError.
    """
    for workflow_id in heard_by(kind, key):
        try:
            return await ask(client, workflow_id, kind.value, request, seconds, update_id=update_id)
        except LookupError:
            continue
    raise LookupError(key)
