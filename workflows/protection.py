"""A trade's protection at the exchange, managed by its exit monitor (EXIT-8): placed, replaced, cancelled before an
exit.

The protective order is an order like any other: its own workflow, its own journal rows, a claim on the trade's quantity
under the symbol's lock, so that nothing is sold twice. The resting order is read from the ledger each time, so that a
restarted monitor finds it. If anything fails here, the monitored exits stay armed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities, ProtectionRequest, ProtectionTrouble
    from domain.ids import order_workflow_id
    from domain.intents import protective_exit
    from domain.messages import CloseRequest, MonitorStart, OrderIntent, OrderOutcome, ProtectionView
    from domain.protection import Protection, ProtectionKind, as_moved
    from domain.wording import money
    from workflows.changes import CodeChange, changed
    from workflows.durable import OrderChild, start_order_child, transact, wait_until

__all__ = ["ExchangeProtection"]

_SETTLE = 2.0
"""Wall seconds to wait for an entry to fill completely before its protection is placed or replaced."""
_LOOK_AGAIN = 1.0
_ASKED = 2.0
"""Wall seconds after which an order's workflow that was asked to cancel is asked again."""
_LONGEST_PAUSE = 8.0
_BEYOND = frozenset({"PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE"})
"""A venue's refusal of a selling stop above its last trade: a stop resting there would have sold by now."""
_SIZE_AGAIN = 60.0
"""Wall seconds before an order replaced because of its size is replaced for that reason again."""


class ExchangeProtection:
    """A trade's protection at the exchange.

    `due`: an exit is due, which has priority over everything here; `entry_final`: the entry has its final size;
    `beyond` is called if the exchange refused a stop at this price because the market is beyond it: then it is due.
    """

    def __init__(
        self,
        start: MonitorStart,
        protection: Protection,
        *,
        tell: Callable[[str], None],
        due: Callable[[], bool],
        entry_final: Callable[[], bool],
        beyond: Callable[[Decimal], None],
    ) -> None:
        self._start = start
        self._protection = protection
        self._tell = tell
        self._due = due
        self._entry_final = entry_final
        self._beyond = beyond
        self._stop: Decimal | None = None
        self._order: OrderChild | None = None
        self._wanted = True
        self._news = False
        self._lowering = False
        self._number: int | None = None
        """The number among the trade's protective orders of the one that `_order` runs; None where that isn't known."""
        self._asked: tuple[str, datetime] | None = None
        """The order whose workflow was asked to cancel last, and when."""
        self._failures = 0
        self._reported = False
        self._replaced_for = Decimal(0)
        """The size (base) for which the resting order was replaced, although less rests: other orders hold the rest."""
        self._replaced_at = datetime.min.replace(tzinfo=UTC)

    @property
    def wanted(self) -> bool:
        """Whether the protection needs attention."""
        return self._wanted or self._ended

    @property
    def _ended(self) -> bool:
        return self._order is not None and self._order.done()

    def look(self, *, grew: bool = False) -> None:
        """Note that the position or its protection has changed."""
        self._wanted = self._news = True
        if grew:
            self._failures, self._replaced_for = 0, Decimal(0)

    async def tend(self) -> ProtectionView:
        """Make the resting order match the trade's remainder; returns the ledger's view."""
        self._wanted = False
        await self._hear()
        if not self._entry_final():
            await wait_until(lambda: self._entry_final() or self._due(), _SETTLE, "waiting for the entry's final size")
        view = await self._view(prices=True)
        other_size = self._other_size(view)
        if view.live is not None and (other_size or view.outdated) and view.sellable > 0 and not self._due():
            if other_size:
                self._replaced_for, self._replaced_at = view.sellable, workflow.now()
            await self.lower(
                f"it sells {money(view.live_size)} and the trade has {money(view.sellable)}"
                if other_size
                else "a person has moved the trade's stops",
                unless_due=True,
            )
            view = await self._view(prices=not self._due())
        if view.live is None and self._order is not None:
            # Its workflow is about to admit it, or about to end: how it ends must be heard before another follows.
            await wait_until(lambda: self._ended or self._due(), _LOOK_AGAIN, "waiting for the protection's workflow")
            self._wanted = True
        elif view.live is None and view.sellable > 0 and not self._due():
            await self._raise(view)
        return view

    def _other_size(self, view: ProtectionView) -> bool:
        """Whether to replace the resting order because of its size.

        Its end causes another check. So an order that turns out smaller than requested, because of a lagging balance,
        is not replaced again and again, unless the position grows.
        """
        if view.live is None:
            return False
        if view.live_size == view.sellable:
            self._replaced_for = Decimal(0)
            return False
        lately = workflow.now() - self._replaced_at < timedelta(seconds=_SIZE_AGAIN)
        in_vain = lately and view.live_size < view.sellable <= self._replaced_for
        return not (in_vain and changed(CodeChange.UNTAKEN_SIZE_NOT_AGAIN))

    async def lower(
        self,
        why: str,
        *,
        within: float | None = None,
        unless_due: bool = False,
        enough: Callable[[ProtectionView], bool] = lambda view: False,
    ) -> ProtectionView:
        """Cancel the resting order and wait for its final size (EXIT-4); returns the remaining view.

        The wait ends after `within` wall seconds, with `unless_due` when an exit is due, or when `enough` is met; an
        order still resting then is in the answer.
        """
        said, began = False, workflow.now()
        unless_due = unless_due and changed(CodeChange.DUE_BEFORE_REPLACEMENT)
        while True:
            view = await self._view()
            if view.live is None and not self._under_way(view):
                return view
            waited = (workflow.now() - began).total_seconds()
            late = within is not None and waited >= within
            if late and changed(CodeChange.HALF_A_SECOND_FOR_PROTECTION):
                return view
            if (unless_due and self._due()) or (enough(view) and changed(CodeChange.SMALLER_PROTECTION_IS_ENOUGH)):
                return view
            if not said:
                self._tell(f"cancelling the protection at the exchange first: {why}")
                said = True
            self._lowering, self._news = True, False
            had_ended = self._ended
            if not self._asked_just_now(view.live):
                await self._cancel(view.live)
            had_ended = self._ended and (had_ended or not changed(CodeChange.PROTECTION_END_HEARD))
            await wait_until(
                lambda had_ended=had_ended: (  # type: ignore[misc]
                    self._news or (self._ended and not had_ended) or (unless_due and self._due())
                ),
                _LOOK_AGAIN if within is None or late else max(min(_LOOK_AGAIN, within - waited), 0.0),
                "waiting for the end of the protection",
            )

    def _under_way(self, view: ProtectionView) -> bool:
        """Whether the order's workflow may still rest one, where nothing rests in the ledger: what that has recorded
        has ended, even if its workflow has yet to say so.
        """
        if self._order is None or self._order.done():
            return False
        recorded = self._number is not None and view.used >= self._number
        return not (recorded and changed(CodeChange.PROTECTION_END_HEARD))

    async def closed(self) -> None:
        """The trade is closed: no protection is needed any more."""
        if self._reported:
            await self._trouble(over=True)

    async def _view(self, *, prices: bool = False) -> ProtectionView:
        request = ProtectionRequest(entry_key=self._start.entry_key, protection=self._protection, prices=prices)
        return await transact(OrderActivities.protection, request, "read the protection")

    async def _raise(self, view: ProtectionView) -> None:
        if self._failures >= self._protection.tries:
            return
        if view.stop_price is None or view.limit_price is None:
            await self._failed(view.sentence)
            return
        self._lowering, self._stop = False, view.stop_price
        intent = self._intent(view)
        if not await self._start_order(intent, number=view.used + 1):
            # One with this number is on its way; the ledger will show it.
            await wait_until(self._due, _LOOK_AGAIN, "waiting until the protection is in the ledger")
            self._wanted = True
            return
        self._tell(
            f"protecting {_how_much(view)} at the exchange: stop {money(view.stop_price)}, "
            f"limit {money(view.limit_price)}"
        )
        if self._reported:
            await wait_until(lambda: self._ended or self._due(), 5 * _LOOK_AGAIN, "waiting for the exchange's answer")
            if not self._ended and (await self._view()).live is not None:
                self._failures, self._reported = 0, False
                await self._trouble(over=True)

    async def _start_order(self, intent: OrderIntent, *, number: int | None = None, again: bool = False) -> bool:
        order = await start_order_child(intent, again=again)
        if order is None:
            return False
        self._order, self._number = order, number
        return True

    def _asked_just_now(self, live: OrderIntent | None) -> bool:
        """Whether this order's workflow was asked to cancel a moment ago: it goes on by itself."""
        if live is None or self._asked is None or self._asked[0] != live.order_key:
            return False
        lately = (workflow.now() - self._asked[1]).total_seconds() < _ASKED
        return lately and changed(CodeChange.PROTECTION_ASKED_ONCE)

    async def _cancel(self, live: OrderIntent | None) -> None:
        """Ask the protective order's workflow to cancel; a missing one is restarted."""
        request = CloseRequest(by="its trade's exit monitor", own=True)
        try:
            if live is None and self._order is not None:
                await self._order.signal("cancel", request)
            elif live is not None:
                await workflow.get_external_workflow_handle(order_workflow_id(live.order_key)).signal("cancel", request)
                self._asked = live.order_key, workflow.now()
        except ApplicationError:
            if live is not None:
                await self._hear()
                self._lowering = True
                await self._start_order(live, again=True)

    async def _hear(self) -> None:
        """Handle the protective order's end, if it has ended: cancelled by us, filled, or ended otherwise."""
        order = self._order
        if order is None or not order.done():
            return
        self._order = None
        try:
            outcome: OrderOutcome = await order
        except ChildWorkflowError as error:
            why = str(error.cause or error)
        else:
            why = outcome.sentence or outcome.refusal or f"it ended {outcome.state}"
            if outcome.filled_size > 0:
                self._failures = 0
                self._tell(f"the exchange sold {money(outcome.filled_size)} at {money(outcome.average_price)}")
                return
            stop = self._stop
            if (
                outcome.refusal in _BEYOND
                and stop is not None
                and not self._lowering
                and changed(CodeChange.STOP_BEYOND_MARKET_IS_DUE)
            ):
                self._tell(f"the market is already beyond the stop of {money(stop)}: it is due ({why})")
                self._beyond(stop)
                return
        if not self._lowering:
            await self._failed(why)
        self._lowering = False

    async def _failed(self, why: str) -> None:
        self._failures += 1
        tries = self._protection.tries
        self._tell(f"no protection at the exchange ({why}), try {self._failures} of {tries}")
        if self._failures < tries:
            await wait_until(
                self._due, min(0.5 * 2.0 ** (self._failures - 1), _LONGEST_PAUSE), "pause before the next try"
            )
            self._wanted = True
        elif not self._reported:
            self._reported = True
            await self._trouble(why=why)

    async def _trouble(self, *, why: str = "", over: bool = False) -> None:
        request = ProtectionTrouble(
            entry_key=self._start.entry_key,
            symbol=self._start.symbol,
            why=why,
            over=over,
            tries=self._failures,
            failsafe=self._protection.failsafe,
        )
        await transact(OrderActivities.protection_trouble, request, "protected again" if over else "not protected")

    def _intent(self, view: ProtectionView) -> OrderIntent:
        protection = self._protection if view.rules is None else as_moved(self._protection, view.rules)
        return protective_exit(
            self._start,
            view.used + 1,
            bracket=protection.kind is ProtectionKind.BRACKET,
            stop_price=view.stop_price,
            limit_price=view.limit_price,
            rules=view.rules or self._start.rules,
        )


def _how_much(view: ProtectionView) -> str:
    """What a protective order sells, in words: its admission leaves out what is not available."""
    if view.available is None:
        return f"up to {money(view.sellable)}"
    if view.available < view.sellable:
        return f"{money(view.available)} of {money(view.sellable)}"
    return money(view.sellable)
