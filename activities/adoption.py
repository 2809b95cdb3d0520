"""Orders that we did not place: recorded, and what they change is known to those it concerns at once (INGEST-5).

They get a journal row with role EXTERNAL, a trade record, a place in the FIFO book, and a workflow that shows them (it
commands nothing); stream and reconcile follow them. A buy becomes a trade of ours, with exits, only where that is asked
for. A sell may leave open trades with less than they had: then their exit monitors look at their position again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool
from activities.holdings import Available, cover_shortage
from activities.ledger import Ledger, external_key
from activities.monitors import Starter
from domain.exits import ExitRules
from domain.ids import exit_workflow_id
from domain.messages import ExternalOrder, OrderUpdate, RecordResult, StatusSource
from domain.orders import Side, TradeState
from domain.reconcile import Taken, currencies
from exchange.port import VenueOrder

__all__ = ["Adoption"]

log = structlog.get_logger(__name__)

_RPC_TIMEOUT = timedelta(seconds=5)


class Adoption:
    """The ledger as the fact router uses it, with what follows from an order of somebody else's.

    `available` asks the exchange for what of a currency can be sold. `protect` gives the exit rules that adopted
    buys get now; None leaves them to whoever placed them.
    """

    def __init__(
        self,
        pool: Pool,
        ledger: Ledger,
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

    async def record(self, order_key: str, update: OrderUpdate, *, symbol: str | None = None) -> RecordResult:
        """Fold an attempt's totals into the ledger."""
        return await self._ledger.record(order_key, update, symbol=symbol)

    async def adopt(self, order: VenueOrder, source: StatusSource) -> RecordResult:
        """Record an order that we did not place, and see to what it changes.

        Asked again after a failure in between, it goes on from there.
        """
        result = await self._ledger.adopt(order, source, protect=self._protect())
        pair = currencies(order.symbol)
        if pair is not None and result.filled_size > 0:
            # A buy spends quote currency, which may be another trade's base.
            base = pair[0] if order.side is Side.SELL else pair[1]
            await self.cover(base)
        if result.trade_remaining and result.trade_state is not TradeState.CLOSED:
            await self._tell_monitor(external_key(self._account, order))
        if result.booked:
            # Last: what protects money doesn't wait for what shows it.
            await self._starter.external(self._shown(order, source, result))
        return result

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

    async def cover(self, base: str) -> list[Taken]:
        """Let open trades bear what the account is short of in `base`, and have their monitors look.

        Raises RPCError and the database's errors.
        """
        taken = await cover_shortage(self._pool, self._account, base, self._available)
        await self.look_again(item.entry_key for item in taken)
        return taken

    async def look_again(self, entry_keys: Iterable[str]) -> None:
        """Have the exit monitors of these trades look at their positions. Raises RPCError."""
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
