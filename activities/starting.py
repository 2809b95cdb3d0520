"""Starts the workflows of orders and trades from the ledger. Idempotent."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool
from activities.interfaces.starting import Start, external_start, monitor_start, order_start, start_workflow
from activities.ledger.closing import LEGS
from domain.exits import ExitReason, ExitRules, price_stop
from domain.ids import external_workflow_id
from domain.messages import ExitDue, ExternalOrder, MonitorStart, OrderIntent, StatusSource
from domain.money import divide
from domain.orders import EntryPoint

__all__ = ["Starter"]

_RPC_TIMEOUT = timedelta(seconds=10)

_STAYS_DUE = [reason.value for reason in ExitReason if price_stop(reason)]
"""Exit reasons that are retried with backoff until something is sold: the ledger has the number of failed tries."""
_TRADE = f"""
SELECT t.entry_key, t.account, t.symbol, t.rules, t.remaining, t.entry_final, {LEGS} AS exit_legs, t.bought_size,
       t.bought_value, o.source, o.trigger, o.snapshot_id,
       o.intent -> 'protection' AS protection,
       (SELECT jsonb_build_object('by', c.given_by, 'note', c.note, 'command', c.id) FROM commands c
         WHERE c.subject = t.entry_key AND c.account = t.account AND c.kind = 'close' AND c.accepted_at IS NOT NULL
         ORDER BY c.accepted_at LIMIT 1) AS close,
       (SELECT count(*) FROM orders e
         WHERE e.entry_key = t.entry_key AND e.role = 'EXIT' AND e.entry_point = '{EntryPoint.EXIT}' AND e.finished
           AND e.received_at > coalesce((
               SELECT max(s.received_at) FROM orders s
                WHERE s.entry_key = t.entry_key AND s.role = 'EXIT' AND s.entry_point = '{EntryPoint.EXIT}'
                  AND (s.filled_size > 0 OR NOT s.exit_reason = ANY($2::text[]))), '-infinity'))::int AS failures
  FROM trades t JOIN orders o ON o.order_key = t.entry_key
 WHERE t.entry_key = $1 AND t.state <> 'CLOSED'
"""


class Starter:
    """Starts order and exit workflows on the orders' task queue. `market_speed` is market seconds per wall second."""

    def __init__(self, pool: Pool, client: Client, *, task_queue: str, market_speed: Decimal = Decimal(1)) -> None:
        self._pool = pool
        self._client = client
        self._task_queue = task_queue
        self._market_speed = market_speed

    async def monitor(self, entry_key: str, due: ExitDue | None = None, *, changed: bool = False) -> bool:
        """Start the exit monitor of an open trade, or leave the running one; False if the trade is closed or unknown.

        With `due`, the monitor receives it as its signal `exit_due`, running or new; else with `changed` it is told to
        check its position. Raises RPCError and the database's errors.
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
        signal = ("exit_due", due) if due is not None else ("position_changed",) if changed else None
        await self._start(monitor_start(start), signal=signal)
        return True

    async def resume(self, order_key: str) -> None:
        """Restart the workflow of an order in the ledger, or leave the running one.

        Raises RPCError, the database's errors, and pydantic's ValidationError for an intent that can't be read.
        """
        intent = await self._pool.fetchval("SELECT intent FROM orders WHERE order_key = $1", order_key)
        await self._start(order_start(OrderIntent.model_validate(intent), known=True))

    async def order(self, intent: OrderIntent) -> None:
        """Start the workflow of a decided order, or leave the one that is running or has ended.

        Raises RPCError.
        """
        with suppress(WorkflowAlreadyStartedError):
            await self._start(order_start(intent))

    async def external(self, order: ExternalOrder) -> None:
        """Show an external order as a workflow, or update the running one; one that has ended stays ended.

        An order that had already ended when it was first found gets none: there is nothing to follow, and the first run
        may find thousands. Raises RPCError.
        """
        if order.status.final and order.source is not StatusSource.WEBSOCKET:
            handle = self._client.get_workflow_handle(external_workflow_id(order.order_key))
            try:
                await handle.signal("order_update", order, rpc_timeout=_RPC_TIMEOUT)
            except RPCError as problem:
                if problem.status is not RPCStatusCode.NOT_FOUND:
                    raise
            return
        with suppress(WorkflowAlreadyStartedError):
            await self._start(external_start(order), signal=("order_update", order))

    async def _start(self, wanted: Start, *, signal: tuple[object, ...] | None = None) -> None:
        await start_workflow(self._client, wanted, task_queue=self._task_queue, signal=signal, rpc_timeout=_RPC_TIMEOUT)
