"""Time from a due stop to its order at the exchange while no read works: every GET fails, hangs, is late, or lags.

Orders (POST) and the user stream continue, as in an outage of the exchange's reads only. The same stops without an
outage are measured beside them. A quarter each: a hard stop, a soft stop, a hard stop of a trade with protection at the
exchange, and a hard stop while a soft stop's limit order is working. All of it twice: with an account that has only the
coins of its trades, and with one that has more of each coin, where the wait for an order's end is longer.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from bench.rig import CALM, CRASH, SYMBOLS, Rig, open_rig, through
from bench.rows import Row, percentile
from domain.protection import Protection, ProtectionKind

__all__ = ["failing_reads"]

Say = Callable[[str], None]

_MOST_SECONDS = 2.0
_PATIENCE = 35.0
"""Seconds; longer than a read hangs."""
_APART = 0.3
"""Seconds between two stops: half the rate of round-trip trades on 2 cores, so that no queue is measured."""
_SOFT = Decimal(97)
"""Best bid past the soft stop and above the hard one."""
_OTHERS = Decimal(1)
"""Ten times a trade's size."""
_KINDS = ("hard", "soft", "protected", "working")
_FAR = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.3"))


@dataclass(frozen=True, slots=True)
class _Trouble:
    """The failure of every read."""

    name: str
    fault: str
    settings: Mapping[str, float | None]


_TROUBLES = (
    _Trouble("every GET fails", "server_error", {"status": 503}),
    _Trouble("every GET hangs 30 s", "slow", {"delay": 30}),
    _Trouble("every GET tells of 60 s ago", "lagging", {"delay": 60}),
    _Trouble("every GET is 3 s late", "slow", {"delay": 3}),
)


@dataclass(frozen=True, slots=True)
class _Stop:
    symbol: str
    kind: str
    due: float
    """Wall time just before its price was set."""

    def is_its_order(self, entry: Mapping[str, Any]) -> bool:
        """Whether a request in the exchange's journal is the order that this stop must send."""
        if (entry["product_id"], entry["side"]) != (self.symbol, "SELL") or _time(entry) < self.due:
            return False
        (configuration,) = entry["order_configuration"]
        return configuration == "market_market_ioc" or (self.kind == "soft" and configuration.startswith("limit"))


async def failing_reads(say: Say, *, quick: bool) -> list[Row]:
    """A row without an outage and one for each failure, without and with coins that no trade owns."""
    return [row for coins in (Decimal(0), _OTHERS) for row in await _rows(say, coins, quick=quick)]


async def _rows(say: Say, coins: Decimal, *, quick: bool) -> list[Row]:
    rounds, symbols = (1, SYMBOLS[:12]) if quick else (4, SYMBOLS)
    rows = []
    async with open_rig(coins) as rig, rig.worker_process():
        for trouble in (None, *_TROUBLES):
            say(f"{rounds * len(symbols)} stops, {trouble.name if trouble else 'a calm day'}")
            waits: list[tuple[str, float]] = []
            for _ in range(rounds):
                waits += await _round(rig, symbols, trouble)
                if any(wait >= _PATIENCE for _, wait in waits):
                    break  # more rounds would take a minute each and change nothing
            rows.append(_row(trouble, waits, ", others have of the coin" if coins else ""))
            say(f"p99 {rows[-1].p99 or 0:,.0f} ms; {rows[-1].note}")
    return rows


def _row(trouble: _Trouble | None, waits: Sequence[tuple[str, float]], whose: str) -> Row:
    seconds = [wait for _, wait in waits]
    p99 = percentile(seconds, 99)
    late = sum(wait >= _PATIENCE for wait in seconds)
    slowest = ", ".join(f"{kind} {max(wait for each, wait in waits if each == kind):.2f}" for kind in _KINDS)
    return Row(
        what=f"{len(waits)} due stops, {trouble.name if trouble else 'a calm day'}{whose}: at the exchange",
        unit="ms",
        p50=statistics.median(seconds) * 1e3,
        p99=p99 * 1e3,
        aim=f"p99 <= {_MOST_SECONDS:g} s",
        ok=p99 <= _MOST_SECONDS,
        note=f"slowest (s): {slowest}" + (f"; {late} not there after {_PATIENCE:.0f} s" if late else ""),
    )


async def _round(rig: Rig, symbols: Sequence[str], trouble: _Trouble | None) -> list[tuple[str, float]]:
    """A trade on each symbol, stopped out one after the other. Returns the kinds, and seconds until each order's
    arrival."""
    kinds = {symbol: _KINDS[number % len(_KINDS)] for number, symbol in enumerate(symbols)}
    await rig.prices(symbols, CALM)
    await through([rig.open(symbol, _FAR if kinds[symbol] == "protected" else None) for symbol in symbols], 10)
    await _until_protected(rig, sum(kind == "protected" for kind in kinds.values()))
    working = [symbol for symbol in symbols if kinds[symbol] == "working"]
    since = await rig.prices(working, _SOFT)
    await _arrivals(rig, [_Stop(symbol, "soft", since) for symbol in working])
    if trouble is not None:
        await rig.control.fault(trouble.fault, "GET *", count=None, **trouble.settings)
    stops = []
    for symbol in symbols:
        due = await rig.price(symbol, _SOFT if kinds[symbol] == "soft" else CRASH)
        stops.append(_Stop(symbol, kinds[symbol], due))
        await asyncio.sleep(_APART)
    found = await _arrivals(rig, stops)
    await rig.control.clear_faults()
    await rig.prices(symbols, CRASH)
    await rig.all_closed(120)
    return [(stop.kind, found[stop.symbol] - stop.due) for stop in stops]


async def _until_protected(rig: Rig, count: int) -> None:
    """Wait until this many protective orders rest at the exchange."""
    async with asyncio.timeout(60):
        while True:
            orders = await rig.control.orders()
            if sum(order["side"] == "SELL" and order["status"] == "OPEN" for order in orders) >= count:
                return
            await asyncio.sleep(0.25)


async def _arrivals(rig: Rig, stops: Sequence[_Stop]) -> dict[str, float]:
    """When each stop's order arrived, by symbol; for one that didn't, when the wait ended."""
    until = time.monotonic() + _PATIENCE
    while True:
        late = time.monotonic() > until
        journal = await rig.control.journal()
        found = {}
        for stop in stops:
            arrived = [_time(entry) for entry in journal if stop.is_its_order(entry)]
            if arrived or late:
                found[stop.symbol] = min(arrived, default=stop.due + _PATIENCE)
        if len(found) == len(stops):
            return found
        await asyncio.sleep(0.25)


def _time(entry: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(entry["time"]).timestamp()
