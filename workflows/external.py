"""An external order as shown in the Web UI: it follows the ledger's record, and ends with the order.

Nothing depends on this workflow and it sends no commands; such an order is booked in the ledger. It exists so that
every order of the account can be listed and queried in one place.
"""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.search_attributes import STATUS
    from domain.messages import ExternalOrder
    from domain.wording import cash, external_summary, money

__all__ = ["ExternalOrderWorkflow"]


@workflow.defn(name="ExternalOrderWorkflow")
class ExternalOrderWorkflow:
    """One order that the system did not place, from when it is first seen until it ends at the exchange."""

    @workflow.init
    def __init__(self, order: ExternalOrder) -> None:
        self._order = order
        self._timeline: list[str] = []
        self._note(order)

    @workflow.run
    async def run(self, order: ExternalOrder) -> ExternalOrder:
        """Wait for its end; the result is its outcome. Cancelling this workflow does not cancel the order."""
        await workflow.wait_condition(lambda: self._order.status.final)
        workflow.upsert_search_attributes([STATUS.value_set(self._order.state.value)])
        self._show()
        return self._order

    @workflow.signal
    def order_update(self, order: ExternalOrder) -> None:
        """The ledger's current totals, which only grow, so an older message changes nothing."""
        if (order.status.final, order.filled_size) >= (self._order.status.final, self._order.filled_size):
            if (order.state, order.filled_size) != (self._order.state, self._order.filled_size):
                self._note(order)
            self._order = order
        self._show()

    @workflow.query
    def state(self) -> ExternalOrder:
        """The order's state."""
        return self._order

    @workflow.query
    def timeline(self) -> list[str]:
        """Its reports with times, oldest first."""
        return self._timeline

    def _note(self, order: ExternalOrder) -> None:
        filled = f", {money(order.filled_size)} filled" if order.filled_size else ""
        self._timeline.append(f"{order.at:%Y-%m-%d %H:%M:%S} {order.state.value}{filled} ({order.source.value})")

    def _show(self) -> None:
        order = self._order
        lines = [f"**{external_summary(order)}**", "", f"Order {order.exchange_order_id} at the exchange."]
        if order.filled_size:
            lines.append(
                f"{money(order.filled_size)} filled for {cash(order.filled_value)}, fees {cash(order.fees)}; "
                "it counts in the FIFO book."
            )
        workflow.set_current_details("\n".join([*lines, "", *(f"* {item}" for item in self._timeline)]))
