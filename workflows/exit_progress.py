"""The state of a monitored trade while its exit monitor runs, and how it is shown.

The parts of the monitor share one `ExitProgress`: the remaining position, the due exit, the work in progress. The
ledger's data is read each time and copied here.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from pydantic import BaseModel
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.orders import OrderActivities, RearmTrade, TradeKey
    from activities.interfaces.search_attributes import STATUS
    from domain.commands import Wish
    from domain.exits import ExitReason, outranks, replaces
    from domain.ids import order_workflow_id
    from domain.messages import CloseRequest, ExitDue, MonitorStart, PositionView, TradeOutcome
    from domain.wording import money, rules_sentence
    from workflows.changes import CodeChange, changed
    from workflows.durable import transact
    from workflows.protection import ExchangeProtection
    from workflows.timeline import Timeline

__all__ = ["PATIENCE", "TOLD_LATER_SECONDS", "ExitProgress", "MonitorViewState"]

PATIENCE = 0.5
"""Wall seconds that an exit waits for the end of each resting order of its trade (EXIT-10)."""
TOLD_LATER_SECONDS = 1.5
"""Wall seconds that follow, before people are told that an exit waits for such an end: while no read works, the user
stream's word for it counts after a second at most.
"""


class MonitorViewState(BaseModel):
    """The answer of the `state` query."""

    entry_key: str
    symbol: str
    state: str
    size: Decimal
    entry_price: Decimal | None
    entry_final: bool
    due: str | None
    exit_orders: int
    sentence: str


class ExitProgress:
    """The state of one monitored trade. Sizes are in the base currency."""

    def __init__(self, start: MonitorStart) -> None:
        self.start = start
        self.size = start.size
        """The size left to sell."""
        self.entry_price = start.entry_price
        self.entry_final = start.entry_final
        """Whether the entry has ended, so that the position only gets smaller."""
        self.legs = start.exit_legs
        """The number of the last exit order."""
        self.due: ExitDue | None = start.due
        self.close: CloseRequest | None = start.close
        self.look = start.size == 0 or start.resumed or start.short
        """The position must be read from the ledger."""
        self.take_over = start.resumed
        """An earlier monitor may have left an exit working."""
        self.claims = Decimal(0)
        """The size that open orders may still sell."""
        self.selling: ExitReason | None = None
        self.failures = start.failures
        """Exits in a row that sold nothing."""
        self.at_market = start.at_market
        """A stop's limits have not filled: what follows goes MARKET, too."""
        self.flat = False
        """All known fills of the entry are sold."""
        self.changed = False
        """The position, or a claim on it, has changed since the current exit was sent."""
        self.freed = False
        """The claim of an exit that was left behind has been released since the last try."""
        self.behind: list[asyncio.Task[None]] = []
        """Tasks that wait for the end of exits that were left behind."""
        self.tell_when_closed = start.tell_when_closed
        self.closed: TradeOutcome | None = None
        self.protection: ExchangeProtection | None = None
        self._sentence = ""
        self._timeline = Timeline()

    # --- what is due -------------------------------------------------------------------------------------------------

    @property
    def reason(self) -> ExitReason | None:
        """The highest reason that is due."""
        reasons = [self.due.reason] if self.due else []
        if self.close is not None:
            reasons.append(ExitReason.MANUAL)
        best: ExitReason | None = None
        for reason in reasons:
            if outranks(reason, best):
                best = reason
        return best

    def outranked(self, reason: ExitReason) -> bool:
        """Whether a reason is due in favour of which an exit for this one is cancelled."""
        best = self.reason
        return best is not None and replaces(best, reason)

    def gives_way(self, reason: ExitReason) -> bool:
        """Whether a higher reason has become due, so that no exit is started for this one.

        It would be cancelled just as it starts. An order that ends at that moment is admitted again and looks like an
        earlier monitor's: legs would follow each other endlessly, and the stop would never be sent.
        """
        return self.outranked(reason) and changed(CodeChange.HIGHER_GOES_FIRST)

    @property
    def all_sold(self) -> bool:
        """Whether all fills of a still open entry are sold."""
        return self.flat and not self.entry_final

    # --- the ledger --------------------------------------------------------------------------------------------------

    async def position(self, due: ExitReason | None = None) -> PositionView:
        """The ledger's current data on the trade; only the number of its last exit is copied."""
        request = TradeKey(entry_key=self.start.entry_key, reason=due)
        view = await transact(OrderActivities.position, request, "read the position")
        # Temporal forgets workflows, the ledger no order: an exit never gets the number of an earlier one.
        self.legs = max(self.legs, view.legs)
        return view

    def note(self, view: PositionView) -> None:
        """Take over the ledger's data."""
        self.entry_final, self.size, self.claims = view.entry_final, view.remaining, view.pending_claims

    async def tell_unsold(self, why: str) -> None:
        """Report it to people; the plan stays with the monitor, which retries."""
        await transact(
            OrderActivities.rearm,
            RearmTrade(entry_key=self.start.entry_key, why=why, critical=True, keep_exiting=True),
            "an exit did not go through",
        )

    async def rearm(self, why: str) -> None:
        """Return the plan to the price watcher."""
        self.tell(why)
        workflow.upsert_search_attributes([STATUS.value_set("PROTECTED")])
        view = await transact(OrderActivities.rearm, RearmTrade(entry_key=self.start.entry_key, why=why), "armed again")
        self.size = view.remaining
        if self.protection is not None:
            self.protection.look()

    # --- what people see of it ---------------------------------------------------------------------------------------

    def tell_wish(self, wish: Wish) -> None:
        """`tell` for a person's request."""
        self.tell(wish.in_words, wish)

    def tell(self, sentence: str, wish: Wish | None = None) -> None:
        """Add a line to the timeline and update the workflow's page; `wish` for a person's request."""
        self._sentence = sentence
        self._timeline.add(workflow.now().strftime("%H:%M:%S.%f")[:-3], sentence, wish)
        start = self.start
        phase = "closed" if self.closed else "selling" if self.selling else "protected"
        workflow.set_current_details(
            "\n".join(
                [
                    f"**Trade `{order_workflow_id(start.entry_key)}` · {start.trigger}**",
                    "",
                    f"{money(self.size)} {start.symbol} bought at {money(self.entry_price)}",
                    "",
                    f"It is **{phase}**: {sentence}",
                    "",
                    f"Exits: {rules_sentence(start.rules, self.entry_price)}",
                    "",
                    *self._timeline.markdown,
                ]
            )
        )

    @property
    def timeline(self) -> Timeline:
        """What happened, in order."""
        return self._timeline

    def view(self) -> MonitorViewState:
        """The trade's state."""
        phase = "CLOSED" if self.closed else "CLOSING" if self.selling else "PROTECTED"
        return MonitorViewState(
            entry_key=self.start.entry_key,
            symbol=self.start.symbol,
            state=phase,
            size=self.size,
            entry_price=self.entry_price,
            entry_final=self.entry_final,
            due=self.reason.value if self.reason else None,
            exit_orders=self.legs,
            sentence=self._sentence,
        )

    def next_start(self) -> MonitorStart:
        """The monitor's input for continue-as-new."""
        return self.start.model_copy(
            update={
                "size": self.size,
                "entry_price": self.entry_price,
                "entry_final": self.entry_final,
                "exit_legs": self.legs,
                "resumed": True,
                "tell_when_closed": self.tell_when_closed,
                "due": self.due,
                "close": self.close,
                "failures": self.failures,
                "at_market": self.at_market,
            }
        )
