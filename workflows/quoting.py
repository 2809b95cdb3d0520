"""A round of market making as a workflow: started by a schedule: decide, cancel, decide again, place.

Replaced quotes are cancelled first and their final sizes awaited; then everything is read again, so that fills in the
meantime count. A quote whose end isn't known in time stays until the next round. Each quote is an order like any other,
with its own workflow.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.quotes import (
        PlanQuotes,
        QuoteRoundInput,
        QuoteRoundPlan,
        QuoteRoundReport,
        QuoteWithdrawalActivity,
        QuotingActivities,
        SettleQuotes,
        WithdrawQuotes,
        WithdrawReport,
    )
    from domain.messages import OrderIntent
    from domain.wording import money
    from workflows.durable import start_order_child

__all__ = ["QuoteRoundWorkflow", "quote_round_id", "quotes_id"]

_NAMESPACE = uuid.UUID("0b2a6d0e-4c55-5a8e-8c0a-4f8f3f0c9d21")
_NOMINAL = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
_PATIENCE = 5.0
_AGAIN = RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_attempts=2)


def quotes_id(account: str) -> str:
    """The id of the account's quoting schedule, and the prefix of its workflows' ids."""
    return f"quotes-{account}"


def quote_round_id(account: str, at: datetime) -> str:
    """The snapshot id of the round of this nominal time: the same however often it is run."""
    return str(uuid.uuid5(_NAMESPACE, f"{account}|{at.isoformat()}"))


@workflow.defn(name="QuoteRoundWorkflow")
class QuoteRoundWorkflow:
    """One round of an account's quotes. The result shows what was placed and refused, and the reasons."""

    @workflow.run
    async def run(self, request: QuoteRoundInput) -> QuoteRoundReport:
        """Decide, cancel and await, decide again, place, and wait until the placed quotes are in the ledger."""
        at = workflow.info().typed_search_attributes.get(_NOMINAL) or workflow.info().start_time
        snapshot_id = quote_round_id(request.account, at)
        look = PlanQuotes(account=request.account, snapshot_id=snapshot_id, at=at)
        plan = await self._plan(look, "plan the quotes")
        withdrawn = WithdrawReport()
        if plan.cancel:
            withdrawn = await self._withdraw(request.account, plan.cancel)
            plan = await self._plan(look.model_copy(update={"again": True}), "plan the quotes again, after the cancels")
        # None: an earlier run of this round has started it.
        placed = [
            intent for intent in plan.place if await start_order_child(intent, queue=request.orders_queue) is not None
        ]
        report = QuoteRoundReport(snapshot_id=snapshot_id)
        if placed:
            report = await self._settle(request.account, snapshot_id, placed)
        report = report.model_copy(
            update={"cancelled": len(withdrawn.ended), "still_resting": withdrawn.left, "symbols": plan.symbols}
        )
        workflow.set_current_details(_details(report, plan))
        return report

    async def _plan(self, look: PlanQuotes, summary: str) -> QuoteRoundPlan:
        return await workflow.execute_activity_method(
            QuotingActivities.plan_quotes,
            look,
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=_AGAIN,
            summary=summary,
        )

    async def _settle(self, account: str, snapshot_id: str, placed: list[OrderIntent]) -> QuoteRoundReport:
        return await workflow.execute_activity_method(
            QuotingActivities.settle_quotes,
            SettleQuotes(account=account, snapshot_id=snapshot_id, keys=tuple(item.order_key for item in placed)),
            start_to_close_timeout=timedelta(seconds=15),
            retry_policy=_AGAIN,
            summary="outcome of the new quotes",
        )

    async def _withdraw(self, account: str, keys: tuple[str, ...]) -> WithdrawReport:
        return await workflow.execute_activity_method(
            QuoteWithdrawalActivity.withdraw_quotes,
            WithdrawQuotes(account=account, keys=keys, seconds=_PATIENCE, by="the market maker"),
            start_to_close_timeout=timedelta(seconds=_PATIENCE + 5),
            retry_policy=_AGAIN,
            summary=f"withdraw {len(keys)} quotes",
        )


def _details(report: QuoteRoundReport, plan: QuoteRoundPlan) -> str:
    """The round in Markdown, for the Web UI."""
    head = f"{len(report.admitted)} placed, {len(report.refused)} refused, {report.cancelled} cancelled"
    lines = [
        f"* **{item.symbol}** bid {item.bid}: {item.bid_sentence} ({money(item.bid_price)}); "
        f"ask {item.ask}: {item.ask_sentence} ({money(item.ask_price)})"
        for item in plan.symbols
    ]
    refused = [f"* order `{key}` was refused by {gate}" for key, gate in report.refused.items()]
    return "\n".join([head, "", *lines, *refused])
