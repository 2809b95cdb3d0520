"""Reconcile of 500 orders with a local exchange, compared with only reading the exchange's lists.

Three runs: 500 filled orders that we did not place, all of them open orders that end without a stream, and then the
same thousand again with nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from activities.interfaces.reconcile import ReconcileInput, ReconcileReport
from activities.reconcile.views import read_exchange
from bench.rig import CALM, CRASH, SYMBOLS, Rig, open_rig, through
from bench.rows import Row
from workers.runner import WorkerParts, worker_parts
from workers.settings import load_settings

__all__ = ["reconcile"]

_MOST_SECONDS = 5.0
_AT_ONCE = 20
_DAY = 86_400.0


async def reconcile(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """One row for each run; its floor is reading the same lists."""
    count = 100 if quick else 500
    async with open_rig() as rig, worker_parts(load_settings(None, rig.stack.environment)) as parts:
        await rig.prices(SYMBOLS, CALM)
        await _run(parts)
        say(f"{count} filled orders of somebody else")
        half = [_bought(rig, number) for number in range(count // 2)]
        await through(half, _AT_ONCE)
        await through([_sold(rig, number) for number in range(count - count // 2)], _AT_ONCE)
        rows = [await _row(parts, f"reconcile: {count} filled orders unknown to us", count)]
        say(f"{count} open orders that fill without a stream")
        await through([_resting(rig, number) for number in range(count)], _AT_ONCE)
        await _run(parts)
        await rig.prices(SYMBOLS, CRASH)
        rows.append(await _row(parts, f"reconcile: {count} orders ended unheard", count))
        rows.append(await _row(parts, f"reconcile: {2 * count} orders, all level", 0))
    return rows


async def _run(parts: WorkerParts) -> ReconcileReport:
    return await parts.reconciler.run(ReconcileInput(account=parts.settings.account, look_back_seconds=_DAY))


async def _row(parts: WorkerParts, what: str, recorded: int) -> Row:
    began = time.perf_counter()
    report = await _run(parts)
    took = time.perf_counter() - began
    assert report.recorded == recorded, report
    assert not any(row.action == "INCIDENT" for row in report.findings), report.findings
    began = time.perf_counter()
    await read_exchange(parts.exchange, datetime.now(UTC) - timedelta(seconds=_DAY))
    floor = time.perf_counter() - began
    return Row(
        what=what,
        unit="s",
        p50=took,
        floor=floor,
        ratio=took / floor,
        aim=f"<= {_MOST_SECONDS:g} s",
        ok=took <= _MOST_SECONDS,
        note=f"{report.orders} orders, {report.executions} executions listed; {report.settled} settled",
    )


async def _bought(rig: Rig, number: int) -> None:
    symbol = SYMBOLS[number % len(SYMBOLS)]
    await rig.control.order(symbol, "BUY", {"market_market_ioc": {"base_size": "0.1"}})


async def _sold(rig: Rig, number: int) -> None:
    symbol = SYMBOLS[number % len(SYMBOLS)]
    await rig.control.order(symbol, "SELL", {"market_market_ioc": {"base_size": "0.1"}})


async def _resting(rig: Rig, number: int) -> None:
    price = str(CRASH + 1)
    configuration = {"limit_limit_gtc": {"base_size": "0.1", "limit_price": price, "post_only": False}}
    await rig.control.order(SYMBOLS[number % len(SYMBOLS)], "BUY", configuration)
