"""Routes stored facts: to the order's workflow, or directly to the ledger if there is none.

Orders are handled concurrently, each in order: while one signal is being sent, newer totals of the same attempt are
merged into one waiting report (they are cumulative, so nothing is lost). A fact is done only when it is delivered;
until then it is retried, for ever, and stays marked as not routed for the next reader of the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.leases import DATABASE_TROUBLE
from activities.measures import SILENT, Measures
from activities.obstacles import ObstacleNews
from activities.starting import Starter
from activities.streams.facts import Fact
from domain.ids import order_workflow_id
from domain.market import base_of
from domain.messages import OrderUpdate, RecordResult, StatusSource
from domain.obstacles import Obstacle
from domain.orders import AttemptStatus, OrderRole, Report, Side, TradeState, merge
from exchange.port import VenueOrder

__all__ = ["FactRouter", "ReportLedger"]

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 5.0
_LONGEST_PAUSE_DEFECT = 60.0


class ReportLedger(Protocol):
    """The ledger's record transaction."""

    async def record(self, order_key: str, update: OrderUpdate, *, symbol: str | None = None) -> RecordResult:
        """Record an attempt's totals in the ledger."""
        ...

    async def adopt(self, order: VenueOrder, source: StatusSource) -> RecordResult:
        """Record an order that the system didn't place."""
        ...


@dataclass(slots=True)
class _Waiting:
    """The newest undelivered report of one attempt, and the facts merged into it."""

    fact: Fact
    report: Report
    ids: list[int] = field(default_factory=list)
    failures: int = 0

    def take(self, fact: Fact) -> None:
        merged = merge(self.report, fact.observed.report)
        if merged != self.report:
            self.fact, self.report = fact, merged
        self.ids.append(fact.id)

    def take_all(self, other: _Waiting) -> None:
        merged = merge(self.report, other.report)
        if merged != self.report:
            self.fact, self.report = other.fact, merged
        self.ids.extend(other.ids)

    def update(self) -> OrderUpdate:
        order, totals = self.fact.observed.order, self.report.totals
        return OrderUpdate(
            attempt=self.fact.attempt,
            status=self.report.status,
            exchange_order_id=order.exchange_order_id,
            filled_size=totals.size,
            filled_value=totals.value,
            quote_fees=totals.quote_fees,
            base_fees=totals.base_fees,
            source=self.fact.observed.source,
            at=order.updated_at or self.fact.observed.at,
            reason=order.reason,
            on_request=order.on_request,
        )


class FactRouter:
    """Routes facts, `at_once` orders at a time.

    Args:
        spawn: runs a coroutine beside everything else.
        routed: called with the ids of delivered facts.
        defect: called with a fact and the error if a retry is unlikely to help.
        measures: is told of each fill that could not be delivered now.
    """

    def __init__(
        self,
        client: Client,
        ledger: ReportLedger,
        starter: Starter,
        obstacles: ObstacleNews,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        routed: Callable[[list[int]], None],
        defect: Callable[[Fact, str], Awaitable[None]],
        at_once: int = 64,
        signal_timeout: float = 5.0,
        measures: Measures = SILENT,
    ) -> None:
        self.signalled = 0
        self.recorded = 0
        self.adopted = 0
        self._client = client
        self._ledger = ledger
        self._starter = starter
        self._obstacles = obstacles
        self._spawn = spawn
        self._routed = routed
        self._defect = defect
        self._slots = asyncio.Semaphore(at_once)
        self._signal_timeout = timedelta(seconds=signal_timeout)
        self._measures = measures
        self._lanes: dict[str, dict[int, _Waiting]] = {}

    @property
    def waiting(self) -> int:
        """Orders with undelivered facts."""
        return len(self._lanes)

    def route(self, fact: Fact) -> None:
        """Deliver the fact, with retries."""
        name = fact.order_key or f"external {fact.observed.order.exchange_order_id}"
        lane = self._lanes.get(name)
        if lane is None:
            self._lanes[name] = {fact.attempt: _Waiting(fact, fact.observed.report, [fact.id])}
            self._spawn(self._serve(name))
        elif fact.attempt in lane:
            lane[fact.attempt].take(fact)
        else:
            lane[fact.attempt] = _Waiting(fact, fact.observed.report, [fact.id])

    async def _serve(self, name: str) -> None:
        lane = self._lanes[name]
        try:
            while lane:
                attempt, waiting = next(iter(lane.items()))
                pause, arrived = 0.0, False
                async with self._slots:
                    del lane[attempt]  # what comes from now on is a signal of its own
                    try:
                        await self._deliver(waiting)
                    except asyncio.CancelledError:
                        raise
                    except (RPCError, *DATABASE_TROUBLE) as problem:
                        pause = self._again(lane, attempt, waiting, problem, _LONGEST_PAUSE)
                    except Exception as problem:  # noqa: BLE001 - no defect may stop the other orders' facts
                        pause = self._again(lane, attempt, waiting, problem, _LONGEST_PAUSE_DEFECT)
                        if waiting.failures == 1:
                            await self._tell(waiting.fact, problem)
                    else:
                        self._routed(waiting.ids)
                        arrived = True
                if arrived:
                    await self._tell_of_coins(waiting)
                if pause:
                    await asyncio.sleep(pause)
        finally:
            # Without an await since the lane was found empty, so no fact can slip in between.
            self._lanes.pop(name, None)

    def _again(
        self, lane: dict[int, _Waiting], attempt: int, waiting: _Waiting, problem: Exception, longest: float
    ) -> float:
        waiting.failures += 1
        if waiting.report.totals.size > 0:
            self._measures.fill_failed(waiting.fact.observed.source.value, type(problem).__name__)
        if (newer := lane.pop(attempt, None)) is not None:
            waiting.take_all(newer)
        lane[attempt] = waiting
        log.warning("fact not routed yet", order=waiting.fact.order_key, attempt=attempt, problem=repr(problem))
        return min(longest, 0.05 * 2.0 ** min(waiting.failures, 16))

    async def _tell_of_coins(self, waiting: _Waiting) -> None:
        """A sell that ended with coins unsold holds them no more: exits that these were not there for try again."""
        order, report = waiting.fact.observed.order, waiting.report
        if order.side is Side.SELL and report.final and report.status is not AttemptStatus.FILLED:
            why = f"a sell of {order.symbol} has ended, and its coins are free"
            await self._obstacles.tell(Obstacle.COINS, why, base=base_of(order.symbol))

    async def _tell(self, fact: Fact, problem: Exception) -> None:
        try:
            await self._defect(fact, repr(problem))
        except DATABASE_TROUBLE as trouble:
            log.warning("incident not stored", problem=repr(trouble))

    async def _deliver(self, waiting: _Waiting) -> None:
        fact, order_key = waiting.fact, waiting.fact.order_key
        if order_key is None or fact.role is OrderRole.EXTERNAL:
            order = fact.observed.order
            await self._ledger.adopt(
                replace(order, updated_at=order.updated_at or fact.observed.at), fact.observed.source
            )
            self.adopted += 1
            return
        update = waiting.update()
        handle = self._client.get_workflow_handle(order_workflow_id(order_key))
        try:
            await handle.signal("order_update", update, rpc_timeout=self._signal_timeout)
            self.signalled += 1
            return
        except RPCError as problem:
            if problem.status is not RPCStatusCode.NOT_FOUND:
                raise
        # Its workflow has ended: what happened all the same is recorded here, and what it leaves open is protected.
        result = await self._ledger.record(order_key, update, symbol=fact.observed.order.symbol)
        self.recorded += 1
        if not result.attempt_status.final:
            # It lives at the exchange without anyone to end it: its workflow comes back for that.
            await self._starter.resume(order_key)
        entry_key = fact.entry_key or order_key
        if result.trade_remaining is not None and result.trade_state is not TradeState.CLOSED:
            # One that runs may pause because this was not known.
            await self._starter.monitor(entry_key, changed=result.new_fill)
