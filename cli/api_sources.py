"""Where the answers of the API come from: the ledger, and what reports, limits and watchers say of it."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from activities.database import Pool
    from activities.policy import Policy
    from web.api.reads import Sources
    from workers.settings import Settings

__all__ = ["sources_of"]


def sources_of(settings: "Settings", pool: "Pool", policy: "Callable[[], Policy]") -> "Sources":
    """What the API reads. `policy` is the one in force at each look."""
    from activities.orders.limits import closed_today
    from web.api.reads import Sources
    from workers.readiness import leases_of, unwatched

    account = settings.account

    async def alone(symbols: Collection[str]) -> Collection[str]:
        return await unwatched(pool, account, symbols, settings.watcher.shards)

    async def groups(by: str, since: "datetime | None", until: "datetime | None") -> list[dict[str, Any]]:
        return await _groups(pool, account, by, since, until)

    async def today() -> dict[str, Any]:
        now = policy()
        results = await closed_today(pool, now)
        return {
            "currency": now.currency,
            "pnl": None if results.unpriced else results.day_pnl,
            "unpriced": results.unpriced,
            "loss_limit": now.daily_loss_limit,
            "losses_in_a_row": results.losing_streak,
            "losses_in_a_row_limit": now.losing_streak,
        }

    roles = ("streams", "watchers", "strategy")
    return Sources(pool, account, alone, groups, today, [name for role in roles for name in leases_of(settings, role)])


async def _groups(
    pool: "Pool", account: str, by: str, since: "datetime | None", until: "datetime | None"
) -> list[dict[str, Any]]:
    import asyncio

    from research import analysis
    from research.trades import read_trades

    async with pool.acquire() as connection:
        table = await read_trades(connection, account, since, until)
    grouped: Callable[[Any], list[analysis.GroupResult]] = {
        "all": analysis.summaries,
        "day": analysis.by_day,
        "hour": analysis.by_hour,
        "symbol": analysis.by_symbol,
        "trigger": analysis.by_trigger,
        "exit": analysis.by_exit,
        "score": analysis.by_score,
    }[by]
    # In a thread: of many trades it takes long enough to hold up a page that only looks.
    return [found.as_dict() for found in await asyncio.to_thread(grouped, table)]
