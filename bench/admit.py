"""An entry's admission with all gates: one at a time, and fifty at once.

The real `Admissions` with its own PostgreSQL, on a ledger with closed trades of today, open trades and open orders;
products, fee rates and the market are in memory, as while workers run. The floor is an empty transaction with the
account's lock, measured alternately; fifty at once are serial in both.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from activities.database import account_transaction
from bench.rows import Row, percentile
from domain.limit_groups import GroupKind, GroupLimits, LimitGroup
from domain.messages import Admission
from schema import migrate
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy
from workers.memory import keep_what_is_loaded
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

__all__ = ["admit"]

_AIM = 3.0
_LIMITS_AIM = 2.0
_BURST = 50
_WARM = 30
_LIMITS = GroupLimits(budget=Decimal(10**9), open_trades=100_000, daily_loss=Decimal(10**9))
_GROUPS = (
    LimitGroup(GroupKind.STRATEGY, "dip", frozenset({"rsi_oversold", "manual"}), _LIMITS),
    LimitGroup(GroupKind.TRIGGER, "rsi_oversold", frozenset({"rsi_oversold"}), _LIMITS),
)
"""With the trigger of the ledger's trades and that of the entries: all of them count."""


async def admit(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Rows for one at a time and for fifty at once."""
    alone, bursts = (300, 6) if quick else (1500, 30)
    async with _desk() as desk:
        say("a ledger with 200 closed trades of today, 100 open trades and 20 open orders")
        await _fill(desk)
        say("every connection of the pool sees both first: a statement's first five runs are planned anew on each")
        for _ in range(_WARM):
            await _floor(desk, _BURST)
            await _burst(desk, _BURST)
        keep_what_is_loaded()  # as a worker does
        await desk.pool.execute("ANALYZE")  # as autovacuum does within a minute: plans depend on table sizes
        say(f"{alone} entries one after the other, each beside an empty transaction")
        await _burst(desk, 1)
        ours, floors = [], []
        for _ in range(alone):
            floors += await _floor(desk, 1)
            ours += await _burst(desk, 1)
        rows = [_row("an entry admitted with all gates, one at a time", ours, floors)]
        say(f"{bursts} bursts of {_BURST} at once")
        ours, floors = [], []
        for _ in range(bursts):
            floors += await _floor(desk, _BURST)
            ours += await _burst(desk, _BURST)
        rows.append(_row(f"an entry admitted with all gates, {_BURST} at once", ours, floors))
        say(f"{alone} entries with and without limits of strategy, trigger and open trades")
        free, limited = desk.policy, replace(desk.policy, max_open_trades=100_000, groups=_GROUPS)
        for policy in (limited, free) * _WARM:
            desk.policy = policy
            await _burst(desk, 1)
        without, ours = [], []
        for _ in range(alone):
            desk.policy = limited
            ours += await _burst(desk, 1)
            desk.policy = free
            without += await _burst(desk, 1)
        rows.append(_beside("an entry with limits of strategy, trigger and account, one at a time", ours, without))
    return rows


async def _fill(desk: Desk) -> None:
    """The ledger after a busy day, with fresh market data."""
    desk.policy = replace(desk.policy, max_open_buys=10_000, max_position=Decimal("0.99"), buy_on_red_day=False)
    await _fresh(desk)
    for number in range(200):
        await desk.trade("5" if number % 3 else "-5", ago=1.0)
    for _ in range(100):
        await desk.trade(symbol="ETH-USD", price="3000")
    for _ in range(20):
        await _one(desk, 0)


async def _fresh(desk: Desk) -> None:
    """The balance and the prices of traded and held coins, as while workers run."""
    await desk.balance("1000000000")
    await desk.market(bid="50000", ask="50001", price="50000", change_24h="0.01")
    await desk.market("ETH-USD", bid="3000", ask="3001", price="3000")


async def _one(desk: Desk, _number: int) -> float:
    intent = limit_buy(desk.account, "0.001", "49000")
    began = time.perf_counter()
    admission: Admission = await desk.admit(intent)
    took = time.perf_counter() - began
    assert admission.accepted, admission.sentence
    return took


async def _burst(desk: Desk, count: int) -> list[float]:
    """The time of each; the number of open orders is the same afterwards."""
    await _fresh(desk)
    took = await asyncio.gather(*(_one(desk, number) for number in range(count)))
    await desk.pool.execute(
        """WITH ended AS (
               UPDATE orders SET finished = true, state = 'CANCELLED', reserved_quote = 0 WHERE order_key IN (
                 SELECT order_key FROM orders WHERE NOT finished ORDER BY received_at OFFSET 20) RETURNING order_key)
           UPDATE attempts SET status = 'CANCELLED', live = false WHERE order_key IN (SELECT order_key FROM ended)"""
    )
    return list(took)


async def _floor(desk: Desk, count: int) -> list[float]:
    async def one() -> float:
        began = time.perf_counter()
        async with account_transaction(desk.pool, desk.account):
            pass
        return time.perf_counter() - began

    return list(await asyncio.gather(*(one() for _ in range(count))))


def _row(what: str, ours: list[float], floors: list[float]) -> Row:
    p99, floor99 = percentile(ours, 99), percentile(floors, 99)
    medians = statistics.median(ours) / statistics.median(floors)
    return Row(
        what=what,
        unit="ms",
        p50=statistics.median(ours) * 1e3,
        p99=p99 * 1e3,
        floor=statistics.median(floors) * 1e3,
        ratio=p99 / floor99,
        aim=f"p99 <= {_AIM:g} x",
        ok=p99 <= _AIM * floor99,
        note=f"{len(ours)} samples; floor p99 {floor99 * 1e3:.2f} ms; ratio of medians {medians:.1f}",
    )


def _beside(what: str, ours: list[float], without: list[float]) -> Row:
    more = statistics.median(ours) / statistics.median(without)
    return Row(
        what=what,
        unit="ms",
        p50=statistics.median(ours) * 1e3,
        p99=percentile(ours, 99) * 1e3,
        floor=statistics.median(without) * 1e3,
        ratio=more,
        aim=f"p50 <= {_LIMITS_AIM:g} x without them",
        ok=more <= _LIMITS_AIM,
        note=f"{len(ours)} samples; without limits p99 {percentile(without, 99) * 1e3:.2f} ms",
    )


@asynccontextmanager
async def _desk() -> AsyncIterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="bottrader-bench-") as folder:
        server = EmbeddedPostgres(PostgresConfig(Path(folder) / "postgres"))
        await server.start()
        try:
            await server.create_database("bench")
            dsn = server.dsn("bench")
            await migrate.upgrade(dsn)
            async with desk_at_a_paper_exchange(dsn) as desk:
                yield desk
        finally:
            await server.stop()
