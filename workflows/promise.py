"""Accepted closes and cancels are stored in the ledger, so that they outlive the workflow that accepted them (LIFE-11).

They are written alongside the work and never before it: until then the workflow's own history has them. A restarted
monitor or order reads them from there (`activities.commands.accepted`).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import KeepCommand, OrderActivities
    from domain.commands import CommandKind, not_understood
    from domain.messages import CloseRequest
    from workflows.changes import CodeChange, changed

__all__ = ["Promise", "refuse_unknown"]


def refuse_unknown(request: CloseRequest) -> None:
    """Refuse a request with unknown fields, which would be carried out only in part. Only people use updates, so none
    is `own`: accepted ones are stored.

    Raises ApplicationError with the type BAD_REQUEST.
    """
    problem = "`own` is not for people" if request.own else not_understood(request)
    if problem is not None:
        raise ApplicationError(f"{problem}: nothing was done", type="BAD_REQUEST")


class Promise:
    """The accepted closes and cancels of one workflow."""

    def __init__(self) -> None:
        self._writing: set[asyncio.Task[None]] = set()
        self._given: set[CommandKind] = set()

    @property
    def kept(self) -> bool:
        """Whether all of them are in the ledger."""
        return not self._writing

    def keep(self, subject: str, kind: CommandKind, request: CloseRequest) -> None:
        """Store that it was accepted, unless it is a request of another of our workflows."""
        if request.own or kind in self._given:
            return
        if not changed(CodeChange.PROMISES_IN_LEDGER):
            return
        self._given.add(kind)
        writing = asyncio.create_task(self._keep(KeepCommand(subject=subject, kind=kind, request=request)))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _keep(self, request: KeepCommand) -> None:
        await workflow.execute_activity_method(
            cast("Any", OrderActivities.keep_command),
            request,
            start_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=30)
            ),
            summary=f"store the accepted {request.kind} in the ledger",
        )
