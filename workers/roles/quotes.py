"""Market making from the settings: the options of a round, the entry for a bid, the schedule."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)

from activities.database import Pool
from activities.interfaces.quotes import QuoteRoundInput, WithdrawQuotes
from activities.policy import Policy
from activities.quotes.rounds import QuotingOptions
from activities.quotes.withdrawal import resting_quotes, withdraw
from domain.limit_groups import groups_of
from domain.quoting import QUOTES, QuoteRules
from workers.settings import Settings
from workflows.quoting import QuoteRoundWorkflow, quotes_id

__all__ = ["last_quotes_leave", "quotes_schedule", "quoting_options"]

_log = structlog.get_logger(__name__)
_LONGEST_ROUND = timedelta(seconds=60)
_POLLED_SECONDS = 65.0
"""A running worker has polled its queue within the last minute, the maximum duration of a poll."""
_LEAVE_SECONDS = 5.0


def quoting_options(settings: Settings, policy: Policy) -> QuotingOptions:
    """The settings for a round; `policy` is built from them."""
    given, trigger = settings.quoting, policy.triggers[QUOTES]
    return QuotingOptions(
        account=settings.account,
        enabled=given.enabled,
        symbols=given.symbols or settings.symbols.allow,
        blocked=frozenset(settings.symbols.block),
        hodl=frozenset(settings.symbols.hodl),
        leaderboard_places=given.leaderboard_places if given.leaderboard_only else None,
        use_unowned=given.use_unowned,
        trigger=trigger,
        groups=groups_of(policy.groups, QUOTES),
        speed=Decimal(str(settings.speed)),
        keep_days=given.keep_rounds_days,
        rules=QuoteRules(
            min_profit=given.min_profit_pct / 100,
            min_quote_volume=given.min_quote_volume,
            max_inventory=given.max_inventory_quote,
            replace_after=given.replace_after_pct / 100,
            # What would expire before the look after the next one is renewed now, so that there is no gap.
            renew_seconds=min(given.interval_s, trigger.expiry) / 2,
            skew=given.lean_pct / 100,
            size_quote=trigger.size_quote,
            size_base=trigger.size_base,
        ),
    )


def quotes_schedule(settings: Settings) -> Schedule:
    """A round each `quoting.interval_s` of market time; missed ones are not made up."""
    account = settings.account
    # Temporal's schedules count in seconds.
    every = max(timedelta(seconds=float(settings.quoting.interval_s) / settings.speed), timedelta(seconds=1))
    return Schedule(
        action=ScheduleActionStartWorkflow(
            QuoteRoundWorkflow.run,
            QuoteRoundInput(account=account, orders_queue=settings.temporal.orders_queue),
            id=quotes_id(account),
            task_queue=settings.temporal.strategy_queue,
            execution_timeout=max(every - timedelta(seconds=1), _LONGEST_ROUND),
            static_summary=f"Quotes of {account}",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=10)),
    )


async def last_quotes_leave(client: Client, pool: Pool, settings: Settings) -> None:
    """Withdraw all quotes before this process ends if no other one manages them. Never fails, takes seconds.

    What can't be cancelled now expires at the exchange.
    """
    account = settings.account
    try:
        async with asyncio.timeout(_LEAVE_SECONDS + 1):
            if not await resting_quotes(pool, account) or await _others(client, settings.temporal.strategy_queue):
                return
            request = WithdrawQuotes(account=account, seconds=_LEAVE_SECONDS, by="the last worker that quotes")
            report = await withdraw(pool, client, request)
        _log.info("quotes_left", cancelled=len(report.ended), still_resting=report.left)
    except Exception as problem:  # noqa: BLE001 - a worker ends whatever there is
        _log.warning("quotes_not_withdrawn", problem=repr(problem))


async def _others(client: Client, queue: str) -> bool:
    """Whether other processes have recently polled this queue for workflow tasks."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    since = datetime.now(UTC) - timedelta(seconds=_POLLED_SECONDS)
    return any(
        item.identity != client.identity and item.last_access_time.ToDatetime(UTC) > since for item in answer.pollers
    )
