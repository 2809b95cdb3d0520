"""Telling workflows that an exit is due: once per plan, reason and epoch until acknowledged, higher reasons at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.leases import DATABASE_TROUBLE, Lease
from activities.starting import Starter
from domain.ids import exit_workflow_id
from domain.messages import ExitDue
from domain.watch import Plan, Watch

__all__ = ["ExitSignals"]

log = structlog.get_logger(__name__)


class ExitSignals:
    """Sends due exits beside the ticks, `at_once` at a time.

    Args:
        spawn: runs a coroutine beside everything else.
        repeat_seconds: wall; what was delivered and is not acknowledged by then is sent again.
        timeout: wall seconds for one call to Temporal.
    """

    def __init__(
        self,
        client: Client,
        starter: Starter,
        lease: Lease,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        repeat_seconds: float,
        timeout: float,
        at_once: int,
    ) -> None:
        self.sent = 0
        self._client = client
        self._starter = starter
        self._lease = lease
        self._spawn = spawn
        self._repeat_seconds = repeat_seconds
        self._timeout = timeout
        self._slots = asyncio.Semaphore(at_once)
        self._sending: set[str] = set()

    def soon(self, watch: Watch, plan: Plan) -> None:
        """Send the plan's due exit, unless that is under way."""
        if plan.entry_key not in self._sending:
            self._sending.add(plan.entry_key)
            self._spawn(self._tell(watch, plan))

    def repeat(self, watch: Watch) -> None:
        """Send again what is not acknowledged in time."""
        now = time.monotonic()
        for plan in watch.pending.values():
            if now >= plan.send_after:
                self.soon(watch, plan)

    async def _tell(self, watch: Watch, plan: Plan) -> None:
        """Tell the plan's workflow; when a higher reason comes due meanwhile, that one too, at once."""
        try:
            while True:
                async with self._slots:
                    due = plan.due
                    if due is None or time.monotonic() < plan.send_after:
                        return
                    if not self._lease.held or not watch.still_due(plan):
                        return
                    try:
                        async with asyncio.timeout(self._timeout * 2):
                            await self._send(plan, due)
                    except (RPCError, *DATABASE_TROUBLE) as problem:
                        plan.failures += 1
                        pause = min(self._repeat_seconds, 0.1 * 2 ** min(plan.failures, 10))
                        plan.send_after = time.monotonic() + pause
                        log.warning("exit not signalled", entry_key=plan.entry_key, problem=repr(problem))
                        return
                self.sent += 1
                if plan.due is due:
                    plan.delivered, plan.failures = True, 0
                    plan.send_after = time.monotonic() + self._repeat_seconds
        finally:
            self._sending.discard(plan.entry_key)

    async def _send(self, plan: Plan, due: ExitDue) -> None:
        handle = self._client.get_workflow_handle(exit_workflow_id(plan.entry_key))
        try:
            await handle.signal("exit_due", due, rpc_timeout=timedelta(seconds=self._timeout))
        except RPCError as problem:
            if problem.status is not RPCStatusCode.NOT_FOUND:
                raise
            if not await self._starter.monitor(plan.entry_key, due):
                log.warning("an exit is due for a closed trade", entry_key=plan.entry_key, reason=due.reason)
