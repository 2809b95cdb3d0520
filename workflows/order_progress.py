"""An order's state and how it is shown: the `state` query, the timeline, the page in the Web UI.

One plain object for each order, in its workflow's memory. The order's attempts, reports and trade read and update it;
it decides nothing, and after continue-as-new it is rebuilt from the journal.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from domain.commands import CommandKind, Wish
    from domain.exits import price_stop
    from domain.ids import exit_workflow_id
    from domain.messages import Admission, CloseRequest, OrderIntent, OrderOutcome, RecordResult, TradeOutcome
    from domain.money import average
    from domain.orders import OrderRole, OrderState, Totals, TradeState, public_state
    from domain.wording import gates_table, money, order_summary, rules_sentence
    from workflows.timeline import Timeline

__all__ = ["OrderProgress", "OrderView"]


class OrderView(BaseModel):
    """The answer of the `state` query."""

    order_key: str
    state: str
    public_state: str
    symbol: str
    side: str
    role: str
    trigger: str
    filled_size: Decimal
    average_price: Decimal | None
    fees: Decimal
    attempts: int
    gate: str | None
    sentence: str
    trade_state: str | None
    exit_monitor: str | None


class OrderProgress:
    """An order's state. Sizes are base, values and fees quote currency."""

    def __init__(self, intent: OrderIntent) -> None:
        self.intent = intent
        self.admission: Admission | None = None
        self.state = OrderState.RECEIVED
        self.number = 0
        """The current attempt, or the last one."""
        self.filled = Totals()
        self.average: Decimal | None = None
        self.finished = False
        """The ledger has the order's end."""
        self.refusal: str | None = None
        self.sentence = ""
        """The reason for its end."""
        self.cancel_wish: str | None = None
        """The request to cancel it, in words."""
        self.wish: CloseRequest | None = None
        """The message of that request, if any, and its kind: cancelled or closed."""
        self.wish_verb = "cancelled"
        self.at_market = False
        """A stop's limits have not filled, so that it goes MARKET."""
        self.withdrawn = False
        """The request ended it before it was sent."""
        self.trade: TradeOutcome | None = None
        """Once an entry's trade is closed."""
        self.trade_state: TradeState | None = None
        self.trade_remaining: Decimal | None = None
        self.entry_final: bool | None = None
        self.monitor_started = False
        self._timeline = Timeline()

    @property
    def is_entry(self) -> bool:
        """Whether it opens a trade."""
        return self.intent.role is OrderRole.ENTRY

    @property
    def stays_due(self) -> bool:
        """Whether it is a price stop's exit: once due, it is until the position is sold."""
        return self.intent.exit_reason is not None and price_stop(self.intent.exit_reason)

    @property
    def speed(self) -> Decimal:
        """Market seconds per wall second."""
        return self.admission.market_speed if self.admission else Decimal(1)

    # --- what happens to it --------------------------------------------------------------------------------------

    def move(self, state: OrderState) -> None:
        """Follow the ledger's state; the state machine in `domain` protects the ledger, not this copy."""
        if not (self.finished and not state.final):
            self.state = state

    def follow(self, result: RecordResult) -> None:
        """Take over the ledger's state after a report, or the end, was written."""
        self.move(result.state)
        self.filled = Totals(size=result.filled_size, value=result.filled_value, quote_fees=result.fees)
        self.average = result.average_price
        self.finished = self.finished or result.finished
        self.trade_state = result.trade_state or self.trade_state
        self.trade_remaining = result.trade_remaining
        self.entry_final = result.entry_final

    def resume_finished(self, admission: Admission) -> None:
        """Take over from the journal an order that had ended before this run began."""
        self.finished = True
        self.sentence = admission.sentence
        self.number = len(admission.attempts)
        self.filled = Totals(admission.filled_size, admission.filled_value, admission.fees)
        self.average = average(admission.filled_value, admission.filled_size)
        self.trade_state = admission.trade_state

    def wish_cancel(self, request: CloseRequest, kind: CommandKind = CommandKind.CANCEL) -> None:
        """A request to cancel it, or to close its trade; the first one counts, and none after its end."""
        verb = "closed" if kind is CommandKind.CLOSE else "cancelled"
        wish = Wish.of(kind, verb, request)
        self._wish_cancel(wish.in_words, request, wish)

    def cancelled_in_temporal(self) -> None:
        """The workflow itself was cancelled, which counts as a request to cancel."""
        self._wish_cancel("the workflow was cancelled")

    def _wish_cancel(self, why: str, request: CloseRequest | None = None, wish: Wish | None = None) -> None:
        if self.cancel_wish is None and not self.finished:
            self.cancel_wish, self.wish, self.wish_verb = why, request, wish.verb if wish else "cancelled"
            self.tell(why, wish)

    # --- what people see of it -----------------------------------------------------------------------------------

    def tell(self, sentence: str, wish: Wish | None = None) -> None:
        """Add a line to the timeline and update the workflow's page; `wish` for a person's request."""
        self._timeline.add(workflow.now().strftime("%H:%M:%S.%f")[:-3], sentence, wish)
        intent = self.intent
        lines = [f"**{order_summary(intent)}**", "", f"Order is **{self.state}**: {sentence}"]
        if self.filled.size > 0:
            lines.append(
                f"\nFilled {money(self.filled.size)} at {money(self.average)}, fees {money(self.filled.quote_fees)}"
            )
        if self.is_entry and self.filled.size > 0 and self.trade is None:
            lines.append(
                f"\nGuarded by `{exit_workflow_id(intent.order_key)}`: {rules_sentence(intent.rules, self.average)}"
            )
        if self.admission is not None and self.admission.gates:
            lines += ["", *gates_table(self.admission.gates)]
        lines += ["", *self._timeline.markdown]
        workflow.set_current_details("\n".join(lines))

    @property
    def timeline(self) -> Timeline:
        """What happened, in order."""
        return self._timeline

    def view(self) -> OrderView:
        """The order's state."""
        intent = self.intent
        return OrderView(
            order_key=intent.order_key,
            state=self.state.value,
            public_state=public_state(self.state, self.filled.size),
            symbol=intent.symbol,
            side=intent.side.value,
            role=intent.role.value,
            trigger=intent.linkage.trigger,
            filled_size=self.filled.size,
            average_price=self.average,
            fees=self.filled.quote_fees,
            attempts=self.number,
            gate=self.admission.gate if self.admission else None,
            sentence=self.sentence,
            trade_state=self.trade_state.value if self.trade_state else None,
            exit_monitor=exit_workflow_id(intent.order_key) if self.monitor_started else None,
        )

    @property
    def _had_ended(self) -> bool:
        """Whether it had ended before this run began. A task discarded by the server runs again, and finds what it
        stored itself.
        """
        admission = self.admission
        return admission is not None and admission.stored and admission.finished and not admission.own

    def outcome(self) -> OrderOutcome:
        """The workflow's result."""
        intent = self.intent
        return OrderOutcome(
            order_key=intent.order_key,
            symbol=intent.symbol,
            side=intent.side,
            role=intent.role,
            state=self.state,
            gate=self.admission.gate if self.admission else None,
            sentence=self.sentence,
            filled_size=self.filled.size,
            filled_value=self.filled.value,
            fees=self.filled.quote_fees,
            average_price=self.average,
            attempts=self.number,
            at_market=self.at_market,
            refusal=self.refusal,
            exit_reason=intent.exit_reason,
            # What the entry's last report left has been sold since, and its dust is the trade's own number.
            trade_remaining=self.trade_remaining if self.trade is None else Decimal(0),
            entry_final=self.entry_final,
            trade=self.trade,
            earlier=self._had_ended,
        )
