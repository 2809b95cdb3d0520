"""The account's orders and executions by REST.

An order is read in two places, ordinary and advanced, and its fees in a third; `KnownOrders` puts them together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from exchange.cryptocom.answers import NOT_FOUND
from exchange.cryptocom.history import past_rows
from exchange.cryptocom.known_orders import KnownOrders
from exchange.cryptocom.parse import Row, row_of, rows_of
from exchange.cryptocom.rest import CryptocomCaller
from exchange.port import MalformedMessage, Unavailable, VenueFill, VenueOrder
from exchange.reading import each_row, reading, text_of

__all__ = ["OrderReads"]

_FEES_SECONDS = 2.0
"""Longest wait of a look-up for the order's executions, which may be read once a second only."""
_CLOCK_MARGIN = timedelta(minutes=5)
"""An order is searched for from this long before it was sent, as the venue's clock may be behind ours."""
_A_SECOND = timedelta(seconds=1)
_A_WEEK = timedelta(days=7)
_ABSENT = frozenset({NOT_FOUND, "INVALID_ORDERID", "NO_ACTIVE_ORDER"})

_Lists = tuple[Sequence[object], Sequence[object]]
"""Rows of advanced orders, and of ordinary ones."""


class OrderReads:
    """Reads for one account; all of them raise Unavailable."""

    def __init__(self, rest: CryptocomCaller, known: KnownOrders) -> None:
        self._rest = rest
        self._known = known

    async def account(self) -> str:
        """The account's id by its open orders, or those of the last week; empty if there are none."""
        told = _account_in(await self._open_lists())
        return told or _account_in(await self._past(self._now() - _A_WEEK, None))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._rest.clock.now(), UTC)

    # --- one order -----------------------------------------------------------------------------------------------

    async def order(self, identity: str) -> VenueOrder | None:
        """One order by the venue's id; None if the venue does not know it."""
        return await self._looked_up({"order_id": identity}, advanced_first=self._known.is_advanced(identity))

    async def find(self, client_order_id: str, symbol: str, since: datetime) -> VenueOrder | None:
        """The order with our client order id, by its detail, else in the past of `symbol`."""
        found = await self._looked_up({"client_oid": client_order_id}, advanced_first=False)
        if found is not None:
            return found
        behind = timedelta(seconds=min(self._rest.clock.offset, 0.0))
        for rows, advanced in zip(await self._past(since + behind - _CLOCK_MARGIN, symbol), (True, False), strict=True):
            for row in rows:
                if isinstance(row, Mapping) and row.get("client_oid") == client_order_id:
                    with reading("the order"):
                        return self._known.order(row, advanced=advanced)
        return None

    async def _looked_up(self, params: Row, *, advanced_first: bool) -> VenueOrder | None:
        for advanced in (True, False) if advanced_first else (False, True):
            row = await self._detail(params, advanced=advanced)
            if row is not None:
                with reading("the order"):
                    order = self._known.order(row, advanced=advanced)
                return await self._with_fees(order)
        return None

    async def _detail(self, params: Row, *, advanced: bool) -> Row | None:
        method = "private/advanced/get-order-detail" if advanced else "private/get-order-detail"
        try:
            result = await self._rest.private(method, params)
        except Unavailable as problem:
            if problem.code in _ABSENT:
                return None
            raise
        if "order_id" in result:
            return result
        with reading("the order"):
            rows = rows_of(result, "the order")
            return row_of(rows[0], "the order") if rows else None

    async def _with_fees(self, order: VenueOrder) -> VenueOrder:
        """The order with the fees of its executions, read within a short bound where they are not known yet."""
        if self._known.complete(order):
            return order
        since = (order.created_at or order.updated_at or self._now()) - _A_SECOND
        with contextlib.suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(_FEES_SECONDS):
                await self._executions(since, order.symbol, [])
        with reading("the order"):
            return self._known.filled(order.exchange_order_id) or order

    # --- lists ---------------------------------------------------------------------------------------------------

    async def open(self, unreadable: list[MalformedMessage] | None) -> list[VenueOrder]:
        """All open orders, oldest first."""
        return self._read([await self._open_lists()], unreadable)

    async def since(
        self, since: datetime, symbols: Sequence[str] | None, unreadable: list[MalformedMessage] | None
    ) -> list[VenueOrder]:
        """All orders created since, oldest first."""
        # Open ones first: an order that ends between the two reads is in the second list, and later rows are newer.
        now_open = await self._open_lists()
        symbol = symbols[0] if symbols is not None and len(symbols) == 1 else None
        past, _ = await asyncio.gather(self._past(since, symbol), self._executions(since, symbol, []))
        return [
            item
            for item in self._read([now_open, past], unreadable)
            if (item.created_at is None or item.created_at >= since) and (not symbols or item.symbol in symbols)
        ]

    def _read(self, lists: Iterable[_Lists], unreadable: list[MalformedMessage] | None) -> list[VenueOrder]:
        found: dict[str, VenueOrder] = {}

        def triggers(row: Row) -> VenueOrder:
            return self._known.order(row, advanced=True)

        with reading("the list of orders"):
            for advanced, ordinary in lists:
                # Advanced ones first: they say which ids at the matching engine are theirs, and the engine's row has
                # the later word on what has traded.
                for rows, read in ((advanced, triggers), (ordinary, self._known.order)):
                    for _, item in each_row(rows, read, unreadable):
                        found[item.exchange_order_id] = item
        return sorted(found.values(), key=_age)

    async def _open_lists(self) -> _Lists:
        advanced, ordinary = await asyncio.gather(
            self._rest.private("private/advanced/get-open-orders", {}),
            self._rest.private("private/get-open-orders", {}),
        )
        with reading("the list of orders"):
            return rows_of(advanced, "advanced orders"), rows_of(ordinary, "orders")

    async def _past(self, since: datetime, symbol: str | None) -> _Lists:
        params = {"instrument_name": symbol} if symbol else {}
        advanced, ordinary = await asyncio.gather(
            past_rows(self._rest, "private/advanced/get-order-history", since, _order_id, params),
            past_rows(self._rest, "private/get-order-history", since, _order_id, params),
        )
        return advanced, ordinary

    # --- executions ----------------------------------------------------------------------------------------------

    async def fills(
        self, identity: str | None, since: datetime | None, unreadable: list[MalformedMessage] | None
    ) -> list[VenueFill]:
        """Executions of one order, or of all since (by default of the last week), oldest first."""
        symbol: str | None = None
        if identity is not None:
            order = await self.order(identity)
            if order is None or not order.filled_size:
                return []
            symbol = order.symbol
            created = order.created_at - _A_SECOND if order.created_at is not None else self._now() - _A_WEEK
            since = created if since is None else max(since, created)
        since = since or self._now() - _A_WEEK
        found = await self._executions(since, symbol, unreadable)
        return [item for item in found if item.at >= since and identity in (None, item.exchange_order_id)]

    async def _executions(
        self, since: datetime, symbol: str | None, unreadable: list[MalformedMessage] | None
    ) -> list[VenueFill]:
        """Executions since, noted for their orders, oldest first."""
        params = {"instrument_name": symbol} if symbol else {}
        rows = await past_rows(self._rest, "private/get-trades", since, _trade_id, params)
        with reading("the fills"):
            found = [item for _, item in each_row(rows, self._known.fill, unreadable)]
        return sorted(found, key=lambda item: (item.at, item.trade_id))


def _account_in(lists: _Lists) -> str:
    told = (row.get("account_id") for rows in lists for row in rows if isinstance(row, Mapping))
    return next((item for item in told if isinstance(item, str) and item), "")


def _age(item: VenueOrder) -> tuple[datetime, str]:
    return item.created_at or datetime.min.replace(tzinfo=UTC), item.exchange_order_id


def _order_id(row: Row) -> str:
    return text_of(row, "order_id")


def _trade_id(row: Row) -> str:
    return f"{text_of(row, 'order_id')}/{text_of(row, 'trade_id')}"
