"""The sweep: restores missing workflows (LIFE-9, 10), and sends them accepted closes and cancels again (LIFE-11).

A workflow is as good as missing if its worker can't finish a workflow task, one try after the other: Temporal would try
it for ever, with ever longer pauses, and what it is told meanwhile waits. It is terminated, and another run goes on
from the ledger.

Temporal's visibility lags a little, so every workflow it does not list is checked by id before it is started, and
starting a running one changes nothing. An accepted close or cancel that is not done is sent to the running workflow
again, because it may have been recorded just after that one read the ledger; a repeat changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.commands import not_done
from activities.database import Pool
from activities.incidents import report_incident
from activities.interfaces.starting import EXIT_MONITOR_WORKFLOW, ORDER_WORKFLOW
from activities.interfaces.streams import SweepActivity, SweepInput, SweepReport
from activities.starting import Starter
from domain.commands import CommandKind, heard_by
from domain.ids import exit_workflow_id, order_workflow_id
from domain.incidents import IncidentKind
from domain.messages import CloseRequest

__all__ = ["Sweep", "SweepOptions"]

log = structlog.get_logger(__name__)

# A trade whose last fill is a moment old has a workflow that is about to start its monitor. One that is sold to the end
# and still open counts too: its monitor closes it.
_OPEN_TRADES = """
SELECT t.entry_key FROM trades t JOIN orders o ON o.order_key = t.entry_key
 WHERE t.account = $1 AND t.state <> 'CLOSED'
   AND COALESCE(o.last_fill_at, t.opened_at) < now() - make_interval(secs => $2)
"""
# An entry's workflow runs until its trade is closed (LIFE-1), any other order's until the order is finished: one whose
# attempt has ended may still have to release what it reserved.
_OPEN_ORDERS = """
SELECT o.order_key FROM orders o LEFT JOIN trades t ON t.entry_key = o.order_key
 WHERE o.account = $1 AND o.role <> 'EXTERNAL' AND o.received_at < now() - make_interval(secs => $2)
   AND (NOT o.finished OR t.state <> 'CLOSED')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """Wall seconds."""

    trade_grace_seconds: float = 5.0
    order_grace_seconds: float = 60.0
    at_once: int = 20
    stuck_attempts: int = 5
    """So many tries of one workflow task mean that no worker can finish it."""
    looks: int = 200
    """So many running workflows of a kind are looked at each time, one after the other."""


class Sweep(SweepActivity):
    """The activity."""

    def __init__(self, pool: Pool, client: Client, starter: Starter, options: SweepOptions | None = None) -> None:
        self._pool = pool
        self._client = client
        self._starter = starter
        self._options = options or SweepOptions()
        self._looked_at: dict[str, str] = {}
        """The last workflow that was looked at, by kind."""

    @activity.defn(name="sweep")
    async def sweep(self, request: SweepInput) -> SweepReport:
        """Check the account's open trades and orders once. Raises RPCError and the database's errors."""
        options = self._options
        trades = [
            row["entry_key"]
            for row in await self._pool.fetch(_OPEN_TRADES, request.account, options.trade_grace_seconds)
        ]
        orders = [
            row["order_key"]
            for row in await self._pool.fetch(_OPEN_ORDERS, request.account, options.order_grace_seconds)
        ]
        monitors = await self._missing(EXIT_MONITOR_WORKFLOW, trades, exit_workflow_id)
        workflows = await self._missing(ORDER_WORKFLOW, orders, order_workflow_id)
        started_monitors = await self._each(monitors, self._starter.monitor)
        started_orders = await self._each(workflows, lambda key: self._start_order(request.account, key))
        if started_monitors or started_orders:
            log.warning("sweep started workflows", monitors=started_monitors, orders=started_orders)
        wishes = {
            f"{kind.value}/{key}": (kind, key, asked)
            for kind, key, asked in await not_done(self._pool, request.account)
        }
        told = await self._each(list(wishes), lambda wish: self._tell(*wishes[wish]))
        return SweepReport(
            open_trades=len(trades),
            open_orders=len(orders),
            monitors_started=tuple(started_monitors),
            orders_started=tuple(started_orders),
            wishes_told=tuple(told),
        )

    async def _tell(self, kind: CommandKind, key: str, request: CloseRequest) -> bool:
        """Send it; returns whether a workflow is running that receives it."""
        for workflow_id in heard_by(kind, key):
            try:
                await self._client.get_workflow_handle(workflow_id).signal(kind.value, request)
            except RPCError as problem:
                if problem.status is not RPCStatusCode.NOT_FOUND:
                    raise
                continue
            return True
        return False

    async def _missing(self, kind: str, keys: Sequence[str], workflow_id: Callable[[str], str]) -> list[str]:
        """Those of `keys` without a running workflow; one that can't go on is terminated."""
        if not keys:
            return []
        running = set()
        async for item in self._client.list_workflows(f"WorkflowType = '{kind}' AND ExecutionStatus = 'Running'"):
            running.add(item.id)
        listed = sorted(key for key in keys if workflow_id(key) in running)
        last = self._looked_at.get(kind, "")
        looked = sorted(listed, key=lambda key: (key <= last, key))[: self._options.looks]
        self._looked_at[kind] = looked[-1] if looked else ""

        async def runs_not(key: str) -> bool:
            return not await self._runs(workflow_id(key))

        return await self._each([key for key in keys if workflow_id(key) not in running] + looked, runs_not)

    async def _runs(self, workflow_id: str) -> bool:
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            description = await handle.describe()
        except RPCError as problem:
            if problem.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        if description.status is not WorkflowExecutionStatus.RUNNING:
            return False
        tries = description.raw_description.pending_workflow_task.attempt
        if tries < self._options.stuck_attempts:
            return True
        log.warning("a workflow can't go on: another run continues from the ledger", workflow=workflow_id, tries=tries)
        stuck = self._client.get_workflow_handle(workflow_id, run_id=description.run_id)
        try:
            await stuck.terminate("no worker can finish its workflow task: another run continues from the ledger")
        except RPCError as problem:
            if problem.status is not RPCStatusCode.NOT_FOUND:
                raise
        return False

    async def _start_order(self, account: str, order_key: str) -> bool:
        try:
            await self._starter.resume(order_key)
        except ValidationError as problem:
            await report_incident(
                self._pool,
                account,
                IncidentKind.ORDER_NOT_RESUMABLE,
                "CRITICAL",
                order_key,
                f"Order {order_key} has no running workflow and its stored intent can't be read: {problem}",
            )
            return False
        return True

    async def _each(self, keys: Sequence[str], act: Callable[[str], Awaitable[bool]]) -> list[str]:
        """Those of `keys` for which `act` returned True, some at a time."""
        slots = asyncio.Semaphore(self._options.at_once)

        async def one(key: str) -> bool:
            async with slots:
                return await act(key)

        answers = await asyncio.gather(*(one(key) for key in keys))
        return [key for key, answer in zip(keys, answers, strict=True) if answer]
