"""Withdrawing the market maker's quotes: each quote's own workflow cancels it, and the ledger shows when it has ended.

A quote has ended when its order is finished: then its final size is known and its claim or reservation is released. If
its workflow is missing, it is restarted from the stored intent, so that it can cancel the quote.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool, Statements
from activities.interfaces.quotes import QuoteWithdrawalActivity, WithdrawQuotes, WithdrawReport
from domain.ids import order_workflow_id
from domain.messages import CloseRequest
from domain.orders import EntryPoint

__all__ = ["QuoteWithdrawal", "resting_quotes", "withdraw"]

_log = structlog.get_logger()
_LOOK_SECONDS = 0.05
_AGAIN_SECONDS = 2.0
_WAITING = 32
"""Concurrent withdrawals of one process: a third of its slots."""

_RESTING = f"""
SELECT order_key FROM orders
 WHERE account = $1 AND NOT finished AND entry_point = '{EntryPoint.MARKET_MAKER}'
   AND ($2::text IS NULL OR symbol = $2) AND ($3::text[] IS NULL OR order_key = ANY($3))
 ORDER BY received_at
"""


async def resting_quotes(
    ledger: Statements, account: str, *, symbol: str | None = None, keys: Collection[str] | None = None
) -> list[str]:
    """Order keys of the quotes that have not ended, oldest first. Raises the database's errors."""
    rows = await ledger.fetch(_RESTING, account, symbol, None if keys is None else list(keys))
    return [row["order_key"] for row in rows]


async def withdraw(
    ledger: Statements,
    client: Client,
    request: WithdrawQuotes,
    *,
    revive: Callable[[str], Awaitable[None]] | None = None,
    requests: Callable[[Sequence[str]], Awaitable[Mapping[str, CloseRequest]]] | None = None,
) -> WithdrawReport:
    """Ask each quote's workflow to cancel, every two seconds, until all have ended or the time is over.

    `revive` starts the workflow of an order that has none; `requests` creates the cancel requests, for callers that can
    prove the requester. Raises RPCError and the database's errors.
    """
    deadline = time.monotonic() + request.seconds
    asked: dict[str, float] = {}
    while True:
        left = await resting_quotes(ledger, request.account, symbol=request.symbol, keys=request.keys)
        now = time.monotonic()
        due = [key for key in left if now - asked.get(key, -_AGAIN_SECONDS) >= _AGAIN_SECONDS]
        if due:
            asked.update(dict.fromkeys(due, now))
            asked_so = await requests(due) if requests else dict.fromkeys(due, CloseRequest(by=request.by, own=True))
            await asyncio.gather(*(_ask(client, key, asked_so[key], revive) for key in due))
        if not left or time.monotonic() >= deadline:
            ended = tuple(key for key in asked if key not in left)
            return WithdrawReport(ended=ended, left=tuple(left))
        await asyncio.sleep(_LOOK_SECONDS)


async def _ask(
    client: Client, key: str, request: CloseRequest, revive: Callable[[str], Awaitable[None]] | None
) -> None:
    handle = client.get_workflow_handle(order_workflow_id(key))
    for attempt in range(2):
        try:
            await handle.signal("cancel", request)
        except RPCError as problem:
            if problem.status is not RPCStatusCode.NOT_FOUND:
                raise
            if attempt or revive is None:
                _log.warning("quote_without_workflow", order_key=key)
                return
            with contextlib.suppress(RPCError):
                await revive(key)
        else:
            return


class QuoteWithdrawal(QuoteWithdrawalActivity):
    """The activity; `revive` starts the workflow of an order of the journal that has none."""

    def __init__(self, pool: Pool, client: Client, revive: Callable[[str], Awaitable[None]]) -> None:
        self._pool = pool
        self._client = client
        self._revive = revive
        self._waiting = 0

    @activity.defn(name="withdraw_quotes")
    async def withdraw_quotes(self, request: WithdrawQuotes) -> WithdrawReport:
        """Raises RPCError and the database's errors.

        If very many exits need this at once, only the first ones request and wait; the others continue without, or they
        would take the slots that the quotes' own cancels need.
        """
        if self._waiting >= _WAITING:
            left = await resting_quotes(self._pool, request.account, symbol=request.symbol, keys=request.keys)
            return WithdrawReport(left=tuple(left))
        self._waiting += 1
        try:
            return await withdraw(self._pool, self._client, request, revive=self._revive)
        finally:
            self._waiting -= 1
