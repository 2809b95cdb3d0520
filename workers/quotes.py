"""Market making in the words of the settings: the options of a round, the entry that a bid is, its schedule."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)

from activities.quoting import QuotingOptions
from activities.quoting_interfaces import QuoteRoundInput
from domain.messages import Linkage, OrderIntent
from domain.quoting import QUOTES, QuoteRules
from workers.entries import entry_intent
from workers.settings import Settings
from workflows.quoting import QuoteRoundWorkflow, quotes_id

__all__ = ["quote_bid", "quotes_schedule", "quoting_options"]

_LONGEST_ROUND = timedelta(seconds=60)


def quoting_options(settings: Settings) -> QuotingOptions:
    """What a round needs of the settings."""
    given, trigger = settings.quoting, settings.triggers[QUOTES]
    return QuotingOptions(
        account=settings.account,
        enabled=given.enabled,
        symbols=given.symbols or settings.symbols.allow,
        blocked=frozenset(settings.symbols.block),
        hodl=frozenset(settings.symbols.hodl),
        leaderboard_places=given.leaderboard_places if given.leaderboard_only else None,
        use_unowned=given.use_unowned,
        expiry=trigger.expiry_s,
        speed=Decimal(str(settings.speed)),
        keep_days=given.keep_rounds_days,
        rules=QuoteRules(
            min_profit=given.min_profit_pct / 100,
            min_quote_volume=given.min_quote_volume,
            max_inventory=given.max_inventory_quote,
            replace_after=given.replace_after_pct / 100,
            # What would expire before the look after the next one is renewed now, so that there is no gap.
            renew_seconds=min(given.interval_s, trigger.expiry_s) / 2,
            skew=given.lean_pct / 100,
            size_quote=trigger.size_quote,
            size_base=trigger.size_base,
        ),
    )


def quote_bid(
    settings: Settings,
    *,
    symbol: str,
    price: Decimal,
    size: Decimal,
    linkage: Linkage,
    request_id: str,
    now: datetime,
) -> OrderIntent:
    """The entry that a bid is: post-only whatever the trigger table says. Raises UserError as `entry_intent` does."""
    return entry_intent(
        settings,
        entry_point=QUOTES,
        request_id=request_id,
        symbol=symbol,
        linkage=linkage,
        now=now,
        size_base=size,
        limit_price=price,
        order_type="LIMIT_POST_ONLY",
    )


def quotes_schedule(settings: Settings) -> Schedule:
    """A round each `quoting.interval_s` of the market's time; one that is late is not made up for."""
    account = settings.account
    every = timedelta(seconds=float(settings.quoting.interval_s) / settings.speed)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            QuoteRoundWorkflow.run,
            QuoteRoundInput(account=account, orders_queue=settings.temporal.orders_queue),
            id=quotes_id(account),
            task_queue=settings.temporal.orders_queue,
            execution_timeout=max(every - timedelta(seconds=1), _LONGEST_ROUND),
            static_summary=f"Quotes of {account}",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=10)),
    )
