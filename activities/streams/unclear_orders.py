"""Orders whose state is unclear from the stream: they are looked up by REST until it is known.

There are two kinds. An unreadable message makes its order unclear: nothing of it is booked until REST has answered. And
an end may be reported with the totals from before the last fill, so an end short of the order's size counts only after
a look-up of the order, which delays others only briefly.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, KeysView
from contextlib import nullcontext, suppress
from datetime import timedelta
from decimal import Decimal

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from activities.leases import DATABASE_TROUBLE
from activities.ledger.closing import free_what_is_unsold
from activities.ledger.holdings import others_have
from activities.streams.facts import FactStore
from activities.streams.tenure import Tenure
from domain.ids import exit_workflow_id
from domain.incidents import IncidentKind
from domain.money import ZERO
from domain.orders import Report, Totals, shows_end
from exchange.port import ExchangeError, MalformedMessage, Unavailable, VenueOrder

__all__ = ["UnclearOrders", "order_ended"]

log = structlog.get_logger(__name__)

_FREED = """
SELECT DISTINCT entry_key FROM orders
 WHERE account = $1 AND side = 'SELL' AND NOT finished AND entry_key IS NOT NULL AND claimed_base < base_size
"""

_UNCLEAR_AFTER = 3
_RPC_TIMEOUT = timedelta(seconds=5)
_FIRST_PAUSE = 0.05
"""Wall seconds between two look-ups of an end, doubled each time."""
_LOOK_AT_END = 0.3
"""Wall seconds to wait for the look-up of an order's end: a due stop may be waiting for it."""
_LOOK_WHERE_OTHERS_HAVE = 1.0
"""The same for a sell of a trade whose sold size could otherwise be sold again from other holdings."""
_ASKED_ON_SECONDS = 900.0
"""How long an end that could not be looked up is retried in the background; reconcile compares it too."""


def _order_named(message: MalformedMessage) -> tuple[str, str] | None:
    """The exchange's id of the order in a message, and ours, each empty if unreadable."""
    try:
        raw = json.loads(message.raw)
    except ValueError:
        return None
    found, ours = (raw.get("order_id"), raw.get("client_order_id")) if isinstance(raw, dict) else (None, None)
    return (found, ours if isinstance(ours, str) else "") if isinstance(found, str) and found else None


def order_ended(message: MalformedMessage) -> str | None:
    """The exchange's id of an order that a message certainly reports as ended, with its size."""
    named = _order_named(message)
    return named[0] if named is not None and message.ended and message.filled_size is not None else None


def _report(order: VenueOrder) -> Report:
    return Report.of_venue(order.status, Totals(order.filled_size, order.filled_value))


class UnclearOrders:
    """Those of one tenure.

    Args:
        facts: where unreadable messages are stored.
        slots: number of concurrent look-ups.
        timeout: wall seconds for one look-up.
        repeat_seconds: wall; an order that stays unclear is reported again.
        observe: receives an order from REST, to be stored and routed.
        all_stored: waits until everything given to `observe` is stored and being routed.
    """

    def __init__(
        self,
        tenure: Tenure,
        client: Client,
        facts: FactStore,
        slots: asyncio.Semaphore,
        *,
        timeout: float,
        repeat_seconds: float,
        observe: Callable[[VenueOrder], Awaitable[None]],
        all_stored: Callable[[], Awaitable[None]],
    ) -> None:
        self._tenure = tenure
        self._client = client
        self._facts = facts
        self._slots = slots
        self._timeout = timeout
        self._observe = observe
        self._all_stored = all_stored
        self._unclear = tenure.open_incident(IncidentKind.ORDER_UNCLEAR, "WARNING", repeat_seconds=repeat_seconds)
        self._doubted: dict[str, int] = {}
        """Orders with unreadable messages: how many."""
        self._sizes: dict[str, Decimal] = {}
        """For such orders, the largest reported base size."""
        self._ended: set[str] = set()
        """Those of them reported as ended."""
        self._ends: dict[str, asyncio.Task[VenueOrder | None]] = {}
        """By order, the look-up of its end; it continues when no caller waits any more."""

    async def begin(self) -> None:
        """Continue what an earlier tenure left. Raises the database's errors."""
        await self._unclear.inherit()
        for message in await self._facts.unclear():
            self.doubt(message)
        self._tenure.background.start(self._tell_of_freed())

    @property
    def doubted(self) -> KeysView[str]:
        """The exchange's ids of the orders being looked up."""
        return self._doubted.keys()

    def doubt(self, message: MalformedMessage) -> None:
        """Look up the order of an unreadable message, if it names one."""
        named = _order_named(message)
        if named is None:
            return
        identity, ours = named
        if message.filled_size is not None:
            filled = self._sizes[identity] = max(message.filled_size, self._sizes.get(identity, message.filled_size))
            if message.ended:
                self._ended.add(identity)
                self._tenure.background.start(self._free(identity, ours, filled))
        self.doubt_order(identity, message.reason)

    def doubt_order(self, identity: str, reason: str) -> None:
        """Look up the order by REST until it can be read; `reason` says what was wrong with the message."""
        times = self._doubted.get(identity, 0)
        self._doubted[identity] = times + 1
        if not times:
            self._tenure.background.start(self._clear_up(identity, reason))

    async def _free(self, identity: str, ours: str, filled: Decimal) -> None:
        """An order has ended with this size, but the rest of its report is unclear: that is enough for an exit to
        continue."""
        order = await self.look_at_end(identity, ours, filled)
        filled = max(filled, order.filled_size) if order is not None else filled
        await self._free_once_known(identity, ours, filled)
        # Behind the message itself, which the next reader takes up if this one dies before.
        await self._all_stored()
        with suppress(*DATABASE_TROUBLE):
            await self._facts.cleared(identity)

    async def _free_once_known(self, identity: str, ours: str, filled: Decimal) -> None:
        """The journal has an order's exchange id only once sending it has been answered."""
        began, pause = time.monotonic(), _FIRST_PAUSE
        while time.monotonic() - began < _ASKED_ON_SECONDS:
            with suppress(*DATABASE_TROUBLE):
                entry_key = await free_what_is_unsold(self._tenure.pool, self._tenure.account, identity, ours, filled)
                if entry_key:
                    await self._tell_monitor(entry_key)
                if entry_key is not None:
                    return
            await asyncio.sleep(pause)
            pause = min(60.0, 2 * pause)

    async def _tell_of_freed(self) -> None:
        """A reader may have stopped between releasing a claim and notifying the exit monitor that waits for it."""
        with suppress(*DATABASE_TROUBLE):
            for row in await self._tenure.pool.fetch(_FREED, self._tenure.account):
                await self._tell_monitor(row["entry_key"])

    async def _tell_monitor(self, entry_key: str) -> None:
        with suppress(RPCError):
            monitor = self._client.get_workflow_handle(exit_workflow_id(entry_key))
            await monitor.signal("position_changed", rpc_timeout=_RPC_TIMEOUT)

    async def look_at_end(self, identity: str, ours: str, told: Decimal) -> VenueOrder | None:
        """Look up an order's end by REST; None if it does not arrive in time; the look-up then continues in the
        background.

        The stream may report an end (mostly after a cancel) with the size before the last fill (`told`, base), and the
        next sell sells the rest. So a sell of a trade is waited for longer if the account has other holdings of the
        coin; without them the exchange refuses to sell too much. `identity` is the exchange's id, `ours` our own, empty
        if not known.
        """
        asking = self._ends.get(identity)
        if asking is None:
            asking = self._ends[identity] = self._tenure.background.start(self._ask_for_end(identity, told))
            asking.add_done_callback(lambda _: self._ends.pop(identity, None))
        await asyncio.wait({asking}, timeout=_LOOK_AT_END)
        if not asking.done() and await self._others_have(identity, ours):
            await asyncio.wait({asking}, timeout=_LOOK_WHERE_OTHERS_HAVE - _LOOK_AT_END)
        answered = asking.done() and not asking.cancelled() and asking.exception() is None
        return asking.result() if answered else None

    async def _others_have(self, identity: str, ours: str) -> bool:
        try:
            return await others_have(self._tenure.pool, self._tenure.account, identity, ours)
        except DATABASE_TROUBLE as problem:
            log.warning(
                "could not read whether others own coins that an order sells",
                exchange_order_id=identity,
                problem=repr(problem),
            )
            return True

    async def _ask_for_end(self, identity: str, told: Decimal) -> VenueOrder | None:
        """Look up an order reported as ended until an answer shows it; observed if it has filled more."""
        began, pause = time.monotonic(), _FIRST_PAUSE
        while (waited := time.monotonic() - began) < _ASKED_ON_SECONDS:
            with suppress(ExchangeError, OSError, TimeoutError):
                # Who waits is not behind what others ask; later there is time.
                async with self._slots if waited > _LOOK_WHERE_OTHERS_HAVE else nullcontext():
                    async with asyncio.timeout(self._timeout):
                        order = await self._tenure.exchange.order(identity)
                if order is not None and shows_end(_report(order), told):
                    if order.filled_size > told:
                        log.warning("an order has filled more than its reported end", exchange_order_id=identity)
                        await self._observe(order)
                        await self._all_stored()
                    return order
            await asyncio.sleep(pause)
            pause = min(60.0, 2 * pause)
        return None

    async def _clear_up(self, identity: str, reason: str) -> None:
        """Look the order up until REST gives a readable answer; an incident if it doesn't either."""
        failures = 0
        while True:
            times = self._doubted[identity]
            try:
                async with self._slots, asyncio.timeout(self._timeout):
                    order = await self._tenure.exchange.order(identity)
                if order is not None and self._lags(order):
                    raise Unavailable("the answer is older than the stream's report")
            except (ExchangeError, OSError, TimeoutError) as problem:
                failures += 1
                log.warning("an order is unclear", exchange_order_id=identity, reason=reason, problem=repr(problem))
                if failures >= _UNCLEAR_AFTER:
                    with suppress(*DATABASE_TROUBLE):
                        await self._unclear.tell(
                            identity,
                            f"The exchange's report of order {identity} is unreadable ({reason}), and so is a "
                            f"look-up by its id ({problem}): nothing of it is booked, everything else continues.",
                        )
                await asyncio.sleep(min(60.0, 0.25 * 2 ** min(failures, 8)))
                continue
            if order is not None:
                await self._observe(order)
            if times == self._doubted[identity]:
                break
        del self._doubted[identity]
        self._sizes.pop(identity, None)
        self._ended.discard(identity)
        await self._unclear.over(identity)

    def _lags(self, order: VenueOrder) -> bool:
        told = self._sizes.get(order.exchange_order_id, ZERO)
        if order.exchange_order_id in self._ended:
            return not shows_end(_report(order), told)
        return order.filled_size < told
