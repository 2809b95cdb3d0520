"""Starting what protects a position, from what the ledger knows of it: any number of times, with one result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from temporalio.client import Client
from temporalio.common import TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool
from activities.ledger.closing import LEGS
from domain.exits import ExitReason, ExitRules, price_stop
from domain.ids import exit_workflow_id, external_workflow_id, order_workflow_id
from domain.messages import ExitDue, ExternalOrder, MonitorStart, OrderIntent, StatusSource
from domain.money import divide

__all__ = ["EXIT_MONITOR_WORKFLOW", "EXTERNAL_WORKFLOW", "ORDER_WORKFLOW", "Appearance", "Starter"]

EXIT_MONITOR_WORKFLOW = "ExitMonitorWorkflow"
ORDER_WORKFLOW = "OrderWorkflow"
EXTERNAL_WORKFLOW = "ExternalOrderWorkflow"
_RPC_TIMEOUT = timedelta(seconds=10)

_STAYS_DUE = [reason.value for reason in ExitReason if price_stop(reason)]
"""What is tried again until it has sold, ever more slowly: the ledger knows how often it was tried in vain."""
_TRADE = f"""
SELECT t.entry_key, t.account, t.symbol, t.rules, t.remaining, t.entry_final, {LEGS} AS exit_legs, t.bought_size,
       t.bought_value, o.source, o.trigger, o.snapshot_id,
       o.intent -> 'protection' AS protection,
       (SELECT jsonb_build_object('by', c.given_by, 'note', c.note, 'command', c.id) FROM commands c
         WHERE c.subject = t.entry_key AND c.account = t.account AND c.kind = 'close' AND c.accepted_at IS NOT NULL
         ORDER BY c.accepted_at LIMIT 1) AS close,
       (SELECT count(*) FROM orders e
         WHERE e.entry_key = t.entry_key AND e.role = 'EXIT' AND e.entry_point = 'exit' AND e.finished
           AND e.received_at > coalesce((
               SELECT max(s.received_at) FROM orders s
                WHERE s.entry_key = t.entry_key AND s.role = 'EXIT' AND s.entry_point = 'exit'
                  AND (s.filled_size > 0 OR NOT s.exit_reason = ANY($2::text[]))), '-infinity'))::int AS failures
  FROM trades t JOIN orders o ON o.order_key = t.entry_key
 WHERE t.entry_key = $1 AND t.state <> 'CLOSED'
"""


@dataclass(frozen=True, slots=True)
class Appearance:
    """How people find a workflow and what they read of it."""

    summary: str
    details: str = ""
    search_attributes: TypedSearchAttributes = TypedSearchAttributes.empty


def _plain_order(intent: OrderIntent) -> Appearance:
    return Appearance(f"{intent.side} {intent.symbol} ({intent.linkage.trigger})")


def _plain_monitor(start: MonitorStart) -> Appearance:
    return Appearance(f"guards {start.symbol} {start.entry_key[:8]}")


def _plain_external(order: ExternalOrder) -> Appearance:
    return Appearance(f"{order.side} {order.symbol} (external)")


class Starter:
    """Starts order and exit workflows on the orders' task queue.

    `market_speed` is market seconds per wall second. `order_look`, `monitor_look` and `external_look` say how a
    workflow appears; the workers pass those of workflows that start otherwise. `task_timeout` is when a workflow task
    of a dead worker is given to another.
    """

    def __init__(
        self,
        pool: Pool,
        client: Client,
        *,
        task_queue: str,
        market_speed: Decimal = Decimal(1),
        order_look: Callable[[OrderIntent], Appearance] = _plain_order,
        monitor_look: Callable[[MonitorStart], Appearance] = _plain_monitor,
        external_look: Callable[[ExternalOrder], Appearance] = _plain_external,
        task_timeout: timedelta | None = None,
    ) -> None:
        self._pool = pool
        self._client = client
        self._task_queue = task_queue
        self._market_speed = market_speed
        self._order_look = order_look
        self._monitor_look = monitor_look
        self._external_look = external_look
        self._task_timeout = task_timeout

    async def monitor(self, entry_key: str, due: ExitDue | None = None) -> bool:
        """Start the exit monitor of an open trade, or leave the running one; False if the trade is closed or unknown.

        With `due`, the monitor gets it as its signal `exit_due`, whether it ran already or not. Raises RPCError and
        the database's errors.
        """
        row = await self._pool.fetchrow(_TRADE, entry_key, _STAYS_DUE)
        if row is None:
            return False
        start = MonitorStart(
            entry_key=row["entry_key"],
            account=row["account"],
            symbol=row["symbol"],
            source=row["source"],
            trigger=row["trigger"],
            snapshot_id=row["snapshot_id"],
            rules=ExitRules.model_validate(row["rules"]),
            size=row["remaining"],
            entry_price=divide(row["bought_value"], row["bought_size"]) if row["bought_size"] else None,
            entry_final=row["entry_final"],
            market_speed=self._market_speed,
            exit_legs=row["exit_legs"],
            protection=row["protection"],
            close=row["close"],
            failures=row["failures"],
            resumed=True,
        )
        look = self._monitor_look(start)
        await self._client.start_workflow(
            EXIT_MONITOR_WORKFLOW,
            start,
            id=exit_workflow_id(entry_key),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal="exit_due" if due is not None else None,
            start_signal_args=[due] if due is not None else [],
            task_timeout=self._task_timeout,
            search_attributes=look.search_attributes,
            static_summary=look.summary,
            static_details=look.details,
            rpc_timeout=_RPC_TIMEOUT,
        )
        return True

    async def resume(self, order_key: str) -> None:
        """Start the workflow of an order of the journal again, or leave the running one.

        Raises RPCError, the database's errors, and pydantic's ValidationError for an intent that can't be read.
        """
        intent = await self._pool.fetchval("SELECT intent FROM orders WHERE order_key = $1", order_key)
        await self.order(OrderIntent.model_validate(intent))

    async def order(self, intent: OrderIntent) -> None:
        """Start an order's workflow from its stored intent, or leave the running one. Raises RPCError."""
        look = self._order_look(intent)
        await self._client.start_workflow(
            ORDER_WORKFLOW,
            intent,
            id=order_workflow_id(intent.order_key),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            task_timeout=self._task_timeout,
            search_attributes=look.search_attributes,
            static_summary=look.summary,
            static_details=look.details,
            rpc_timeout=_RPC_TIMEOUT,
        )

    async def external(self, order: ExternalOrder) -> None:
        """Show an order of somebody else's as a workflow, or tell the running one; one that has ended stays ended.

        An order that had ended when a look back first found it gets none: there is nothing left to follow, and a first
        look back may find thousands. Raises RPCError.
        """
        name = external_workflow_id(order.order_key)
        if order.status.final and order.source is not StatusSource.WEBSOCKET:
            try:
                handle = self._client.get_workflow_handle(name)
                await handle.signal("order_update", order, rpc_timeout=_RPC_TIMEOUT)
            except RPCError as problem:
                if problem.status is not RPCStatusCode.NOT_FOUND:
                    raise
            return
        look = self._external_look(order)
        with suppress(WorkflowAlreadyStartedError):
            await self._client.start_workflow(
                EXTERNAL_WORKFLOW,
                order,
                id=name,
                task_queue=self._task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                start_signal="order_update",
                start_signal_args=[order],
                task_timeout=self._task_timeout,
                search_attributes=look.search_attributes,
                static_summary=look.summary,
                static_details=look.details,
                rpc_timeout=_RPC_TIMEOUT,
            )
