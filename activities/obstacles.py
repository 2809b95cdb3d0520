"""When the cause of refused exits is gone, their monitors are signalled, and try again before their pause ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from activities.database import Pool
from activities.leases import DATABASE_TROUBLE
from domain.ids import exit_workflow_id
from domain.messages import ObstacleGone
from domain.obstacles import Obstacle
from domain.orders import EntryPoint

__all__ = ["ObstacleNews"]

log = structlog.get_logger(__name__)

_RPC_TIMEOUT = timedelta(seconds=5)
_AT_ONCE = 50
# Trades whose exit is due, without a working exit order of their own.
_PAUSING = f"""
SELECT p.entry_key FROM exit_plans p
 WHERE p.account = $1 AND p.state = 'EXITING'
   AND ($2::text IS NULL OR split_part(translate(p.symbol, '_', '-'), '-', 1) = $2)
   AND NOT EXISTS (SELECT FROM orders o WHERE o.entry_key = p.entry_key AND o.entry_point = '{EntryPoint.EXIT}'
                      AND NOT o.finished)
"""


class ObstacleNews:
    """Signals for one account. A failed signal is only logged: the pause ends by itself."""

    def __init__(self, pool: Pool, client: Client, account: str) -> None:
        self._pool = pool
        self._client = client
        self._account = account
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def tell(self, obstacle: Obstacle, why: str, *, base: str | None = None) -> None:
        """Signal the pausing monitors of trades of one coin, or (None) all."""
        try:
            rows = await self._pool.fetch(_PAUSING, self._account, base)
        except DATABASE_TROUBLE as problem:
            log.warning("pausing monitors not signalled", obstacle=obstacle, problem=repr(problem))
            return
        news = ObstacleGone(obstacle=obstacle, why=why)
        await asyncio.gather(*(self._send(row["entry_key"], news) for row in rows))

    async def _send(self, entry_key: str, news: ObstacleGone) -> None:
        handle = self._client.get_workflow_handle(exit_workflow_id(entry_key))
        async with self._slots:
            try:
                await handle.signal("obstacle_gone", news, rpc_timeout=_RPC_TIMEOUT)
            except RPCError as problem:
                log.info("pausing monitor not signalled", entry_key=entry_key, problem=repr(problem))
