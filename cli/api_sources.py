"""Where the answers of the API come from: the ledger, and what reports, limits and watchers say of it."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from activities.database import Connection, Pool, Statements
    from activities.policy import Policy
    from web.api.reads import Sources
    from web.api.sources import TelegramView
    from web.views import Json
    from workers.settings import Settings

__all__ = ["sources_of", "standing_of", "streams_of", "today_of"]

_HEALTH_S = 15.0


def sources_of(
    settings: "Settings",
    pool: "Pool",
    policy: "Callable[[], Policy]",
    current: "Callable[[], Settings] | None" = None,
) -> "Sources":
    """What the API reads. `policy` and `current`, the settings, are those in force at each look."""
    from cli.groups import limits_now
    from research.linkage import read_linkage
    from web.api.reads import Sources
    from workers.readiness import unwatched

    account = settings.account

    async def alone(symbols: Collection[str]) -> Collection[str]:
        return await unwatched(pool, account, symbols, settings.watcher.shards)

    async def groups(by: str, since: "datetime | None", until: "datetime | None") -> list[dict[str, Any]]:
        return await _groups(pool, account, by, since, until)

    async def today() -> dict[str, Any]:
        return await today_of(pool, policy())

    async def limits() -> "Json":
        return await limits_now(pool, policy())

    async def why(symbol: str, last: int) -> "Json":
        return await _why(pool, account, symbol, last, policy())

    async def linkage() -> "Json":
        async with pool.acquire() as connection:
            found = await read_linkage(connection, account)
        sources: list[Json] = [
            {"source": each.source, "filled": each.filled, "linked": each.linked} for each in found.sources
        ]
        return {name: sum(each[name] for each in sources) for name in ("filled", "linked")} | {"sources": sources}

    return Sources(
        ledger=pool,
        account=account,
        unwatched=alone,
        groups=groups,
        today=today,
        limits=limits,
        why=why,
        linkage=linkage,
        health=_Health(settings).read,
        streams=streams_of(settings),
        telegram=_telegram(settings, current or (lambda: settings)),
    )


def _telegram(settings: "Settings", current: "Callable[[], Settings]") -> "TelegramView | None":
    from domain.telegram import Manner, manner_of
    from web.api.sources import TelegramView

    if not settings.telegram.chats:
        return None

    def manner(kind: str, severity: str) -> Manner:
        return manner_of(kind, severity, current().telegram.kinds.model_dump())

    return TelegramView(len(settings.telegram.chats), manner)


def streams_of(settings: "Settings") -> list[str]:
    """The names of the streams that should be held and heard."""
    from workers.readiness import leases_of

    return [name for role in ("streams", "watchers", "strategy") for name in leases_of(settings, role)]


async def standing_of(settings: "Settings", ledger: "Connection", policy: "Policy") -> dict[str, Any]:
    """How the account stands now, with its mode, for `bottrader status` and Telegram's /status. Raises the database's
    errors.
    """
    from datetime import UTC, datetime

    from activities.orders.controls import trading_control
    from cli.groups import limits_now
    from web.views.standing import read_standing
    from workers.readiness import unwatched

    account = settings.account

    async def alone(symbols: Collection[str]) -> Collection[str]:
        return await unwatched(ledger, account, symbols, settings.watcher.shards)

    control = await trading_control(ledger, account)
    standing = await read_standing(ledger, account, streams_of(settings), alone)
    return {
        "at": datetime.now(UTC),
        "account": account,
        "mode": control.mode or settings.mode,
        "armed": control.armed,
        "dry_run": settings.dry_run,
        "speed": settings.speed,
        **standing,
        "today": await today_of(ledger, policy),
        "limits": await limits_now(ledger, policy),
    }


async def today_of(ledger: "Statements", policy: "Policy") -> dict[str, Any]:
    """The UTC day's result and the losses in a row, each with its limit. Raises the database's errors."""
    from activities.orders.limits import closed_today

    results = await closed_today(ledger, policy)
    return {
        "currency": policy.currency,
        "pnl": None if results.unpriced else results.day_pnl,
        "unpriced": results.unpriced,
        "loss_limit": policy.daily_loss_limit,
        "losses_in_a_row": results.losing_streak,
        "losses_in_a_row_limit": policy.losing_streak,
    }


async def _why(pool: "Pool", account: str, symbol: str, last: int, policy: "Policy") -> "Json":
    from activities.orders.controls import trading_control
    from activities.orders.entry_facts import disabled_why
    from cli.groups import limits_now
    from web.views.why import read_why

    async with pool.acquire() as connection:
        switch = await trading_control(connection, account)
    limits = await limits_now(pool, policy)
    not_bought = disabled_why(symbol, policy)
    return await read_why(
        pool, account, symbol, last, lists=policy, switch=switch, not_bought=not_bought, limits=limits
    )


class _Health:
    """The findings of `bottrader doctor`. One look at a time, kept for some seconds, however many ask."""

    def __init__(self, settings: "Settings") -> None:
        import asyncio

        self._settings = settings
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._kept: Json = {}

    async def read(self) -> "Json":
        """`at` and `findings`: check, verdict (ok, warn, fail), finding, advice. Does not raise."""
        import time
        from datetime import UTC, datetime

        from cli.doctor import examine

        async with self._lock:
            if time.monotonic() >= self._until:
                findings = await examine(self._settings)
                parts = [
                    {"check": each.check, "verdict": each.verdict.value, "finding": each.finding, "advice": each.advice}
                    for each in findings
                ]
                self._kept = {"at": datetime.now(UTC), "findings": parts}
                self._until = time.monotonic() + _HEALTH_S
            return self._kept


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
