"""The strategy run: started by a schedule or by a person.

The snapshot id is derived from the account and the scheduled time, so a run that is retried, reset or started twice for
the same time is the same run.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.strategy import StrategyActivity, StrategyInput, StrategyReport, StrategyRun
    from domain.money import plain

__all__ = ["StrategyRunWorkflow", "snapshot_of", "strategy_schedule_id"]

_NAMESPACE = uuid.UUID("8d6f4a1e-52a3-5c0e-9b7d-0f6f1a2b3c4d")
_SCHEDULED = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    non_retryable_error_types=["BAD_STRATEGY"],
)


def strategy_schedule_id(account: str) -> str:
    """The id of the account's strategy schedule, and the prefix of its workflows' ids."""
    return f"strategy-{account}"


def snapshot_of(account: str, nominal_at: datetime) -> str:
    """The snapshot id of the run that is due at `nominal_at`."""
    return str(uuid.uuid5(_NAMESPACE, f"{account}/{nominal_at.astimezone(UTC).isoformat()}"))


@workflow.defn(name="StrategyRunWorkflow")
class StrategyRunWorkflow:
    """One run of the strategy: the matrix, and an order for each buy."""

    @workflow.run
    async def run(self, request: StrategyInput) -> StrategyReport:
        """Decide on the current candles. The result lists the decisions and their outcomes."""
        info = workflow.info()
        nominal = info.typed_search_attributes.get(_SCHEDULED) or info.workflow_start_time
        run = StrategyRun(
            account=request.account, snapshot_id=snapshot_of(request.account, nominal), nominal_at=nominal
        )
        report = await workflow.execute_activity_method(
            StrategyActivity.run_strategy,
            run,
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=_RETRY,
            summary=f"strategy of {request.account}",
        )
        workflow.set_current_details(_details(report))
        return report


def _details(report: StrategyReport) -> str:
    """The run in Markdown, for the Web UI."""
    head = (
        f"**{report.buys} buys, {report.sells} sells** of {report.symbols} symbols, {report.started} orders started, "
        f"in {report.seconds:.2f} s. {report.sentence}\n\nSnapshot `{report.snapshot_id}`"
    )
    if not report.rows:
        return head
    table = ["| symbol | action | trigger | buy | sell | fired | outcome |", "|---|---|---|---|---|---|---|"]
    for row in report.rows:
        order = f" `order-{row.order_key}`" if row.order_key else ""
        told = " ".join(part for part in (row.outcome, row.sentence) if part).replace("|", "/")
        table.append(
            f"| {row.symbol} | {row.action} | {row.trigger or ''} | {plain(row.buy_score)} | {plain(row.sell_score)} "
            f"| {', '.join(row.fired)} | {told}{order} |"
        )
    return "\n".join([head, "", *table])
