"""External orders: recorded, and the affected trades are updated at once (INGEST-5).

They get a journal row with role EXTERNAL, a trade record, fills in the FIFO book, and a workflow that only shows them;
stream and reconcile follow them. A buy becomes one of our trades, with exits, only if the settings say so, and never if
it is from before the account's first start (SAFE-10) or was placed by another BotTrader, which manages it. A sell may
reduce open trades: then their exit monitors check their position again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool
from activities.incidents import report_once
from activities.leases import DATABASE_TROUBLE
from activities.ledger.holdings import OUTSIDE, Available, bear_sales, cover_shortage
from activities.ledger.record import LedgerWriter, external_key
from activities.long_running import BackgroundTasks
from activities.starting import Starter
from domain.adoption import bought_after, has_our_shape, is_news
from domain.balances import Taken
from domain.exits import ExitRules
from domain.ids import exit_workflow_id
from domain.incidents import IncidentKind
from domain.market import currencies
from domain.messages import ExternalOrder, OrderUpdate, RecordResult, StatusSource
from domain.orders import Report, Side, Totals, TradeState
from exchange.port import VenueOrder

__all__ = ["Adoption"]

log = structlog.get_logger(__name__)

_RPC_TIMEOUT = timedelta(seconds=5)
_NEWS = timedelta(hours=1)
"""An order that ended longer ago than this frees nothing that anybody waits for."""
_FIRST_START = "SELECT first_start_at FROM account_identities WHERE account = $1"
_BY_OTHERS = "were sold by another trade's exit, because an earlier one had sold more than was reported"
_COVER_PAUSES = (0.0, 5.0, 20.0)
"""Seconds before each check: a balance or an exit in progress may be late."""
# An exit at work, or what protects a trade, may have got less of the coin than its trade has.
_LACKING = """
SELECT t.entry_key FROM trades t JOIN exit_plans p USING (entry_key)
 WHERE t.account = $1 AND t.state <> 'CLOSED' AND split_part(translate(t.symbol, '_', '-'), '-', 1) = $2
   AND (p.state = 'EXITING'
        OR EXISTS (SELECT FROM orders o WHERE o.entry_key = t.entry_key AND o.role = 'EXIT' AND NOT o.finished
                      AND o.protection_role IS NOT NULL AND o.open_claim < t.remaining))
"""
_KNOWN_ID = "SELECT EXISTS (SELECT FROM attempts WHERE client_order_id = $1 AND order_key <> $2)"


class Adoption:
    """The ledger as the fact router uses it, with the consequences of external orders.

    `available` reads a currency's available balance from the exchange. `protect` returns the exit rules for adopted
    buys; None: they are not managed.
    """

    def __init__(
        self,
        pool: Pool,
        ledger: LedgerWriter,
        client: Client,
        starter: Starter,
        account: str,
        *,
        available: Available,
        protect: Callable[[], ExitRules | None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._available = available
        self._ledger = ledger
        self._client = client
        self._starter = starter
        self._account = account
        self._protect = protect
        self._started: datetime | None = None
        self._covering = BackgroundTasks()

    async def record(self, order_key: str, update: OrderUpdate, *, symbol: str | None = None) -> RecordResult:
        """Record an attempt's totals in the ledger."""
        return await self._ledger.record(order_key, update, symbol=symbol)

    async def adopt(self, order: VenueOrder, source: StatusSource) -> RecordResult:
        """Record an external order, and update what it affects.

        Idempotent: a repeat after a failure continues.
        """
        theirs = await self._is_another_instances(order)
        rules = None if theirs or order.side is Side.SELL else self._protect()
        if rules is not None and not bought_after(await self._first_start(), order.created_at, order.filled_size):
            rules = None
        result = await self._ledger.adopt(order, source, protect=rules)
        if theirs:
            await self._tell_of_another_instance(order)
        pair = currencies(order.symbol)
        if pair is not None and result.filled_size > 0:
            # A buy spends quote currency, which may be another trade's base.
            base = pair[0] if order.side is Side.SELL else pair[1]
            await self.cover(base)
        if result.trade_remaining and result.trade_state is not TradeState.CLOSED:
            await self._tell_monitor(external_key(self._account, order))
        ended_at = order.updated_at or datetime.now(UTC)
        if pair is not None and result.attempt_status.final and datetime.now(UTC) - ended_at < _NEWS:
            # What it had held is free.
            base = pair[0] if order.side is Side.SELL else pair[1]
            await self.look_again(await self._lacking(base))
        if result.booked:
            # Last: what protects money doesn't wait for what shows it.
            await self._starter.external(self._shown(order, source, result))
        return result

    async def _lacking(self, base: str) -> list[str]:
        """Open trades that may have wanted more of a coin than there was."""
        return [row["entry_key"] for row in await self._pool.fetch(_LACKING, self._account, base)]

    async def _first_start(self) -> datetime | None:
        """When this account was first started here; None if not recorded yet."""
        if self._started is None:
            self._started = await self._pool.fetchval(_FIRST_START, self._account)
        return self._started

    async def _is_another_instances(self, order: VenueOrder) -> bool:
        """Whether its id has our format but is in none of our journals."""
        if not has_our_shape(order.client_order_id):
            return False
        return not await self._pool.fetchval(_KNOWN_ID, order.client_order_id, external_key(self._account, order))

    async def _tell_of_another_instance(self, order: VenueOrder) -> None:
        """Report it once until a person resolves it; another instance's orders from before our first start are not
        reported."""
        lives = not Report.of_venue(order.status, Totals()).status.final
        if not is_news(await self._first_start(), order.created_at, open_still=lives):
            return
        await report_once(
            self._pool,
            self._account,
            IncidentKind.ANOTHER_INSTANCE,
            "CRITICAL",
            self._account,
            f"another BotTrader trades on account {self._account}: order {order.exchange_order_id} ({order.side} "
            f"{order.symbol}) has a client order ID in BotTrader's format but is not in this ledger. It is recorded "
            f"and left to the other instance. Stop one of the two; if this ledger is an older copy, use the newer one",
            {"exchange_order_id": order.exchange_order_id, "client_order_id": order.client_order_id},
        )

    def _shown(self, order: VenueOrder, source: StatusSource, result: RecordResult) -> ExternalOrder:
        return ExternalOrder(
            order_key=external_key(self._account, order),
            account=self._account,
            exchange_order_id=order.exchange_order_id,
            symbol=order.symbol,
            side=order.side,
            order_type=order.order_type or "UNKNOWN",
            base_size=order.base_size,
            limit_price=order.limit_price,
            source=source,
            status=result.attempt_status,
            state=result.state,
            filled_size=result.filled_size,
            filled_value=result.filled_value,
            fees=result.fees,
            at=order.updated_at or order.created_at or datetime.now(UTC),
        )

    async def cover(self, base: str, how: str = OUTSIDE) -> list[Taken]:
        """Deduct what was sold or is missing of `base` from open trades, and have their monitors check.

        `how` it left, in words. Raises RPCError and the database's errors.
        """
        taken = await bear_sales(self._pool, self._account, base)
        taken += await cover_shortage(self._pool, self._account, base, self._available, how)
        await self.look_again(item.entry_key for item in taken)
        return taken

    def cover_soon(self, symbol: str) -> None:
        """The same in the background, after a trade has sold more than it had, which may reduce others.

        What is not available now (the exchange's balance, an exit in progress) is handled by the next reconcile.
        """
        pair = currencies(symbol)
        if pair is not None:
            self._covering.start(self._cover_oversold(pair[0]))

    async def _cover_oversold(self, base: str) -> None:
        for pause in _COVER_PAUSES:
            await asyncio.sleep(pause)
            with suppress(RPCError, *DATABASE_TROUBLE):
                if await self.cover(base, _BY_OTHERS):
                    return

    async def look_again(self, entry_keys: Iterable[str]) -> None:
        """Have the exit monitors of these trades check their positions. Raises RPCError."""
        for entry_key in entry_keys:
            await self._tell_monitor(entry_key)

    async def _tell_monitor(self, entry_key: str) -> None:
        handle = self._client.get_workflow_handle(exit_workflow_id(entry_key))
        try:
            await handle.signal("position_changed", rpc_timeout=_RPC_TIMEOUT)
        except RPCError as problem:
            if problem.status is not RPCStatusCode.NOT_FOUND:
                raise
            await self._starter.monitor(entry_key)
            log.info("monitor started", entry_key=entry_key)
