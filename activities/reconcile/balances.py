"""Compares balances with the books: a difference that no fill explains is booked with its kind, once it is certain
(LEDGER-1).

The balances are read between two reads of the books and before another read of the orders, so a currency that changed
in neither did not trade. A difference is booked when it is the same twice. Currencies that just traded are not
compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from activities.database import Pool
from activities.ledger.exchange_fills import SETTLED_WITHIN
from activities.ledger.holdings import book_transfers, books_are_open, earlier_balances, expected_balances
from domain.balances import Transfer, transfers
from domain.differences import Difference, Finding, Remedy
from domain.market import currencies
from domain.money import plain
from exchange.port import Exchange

__all__ = ["BalanceReconciliation"]

_OPENING_TRIES = 5
_UNSETTLED = """
SELECT DISTINCT symbol FROM fills WHERE account = $1 AND origin = 'derived' AND recorded_at > now() - $2::interval
"""


class BalanceReconciliation:
    """One account's balances. `look` compares the journal with the exchange's orders now.

    `confirm_seconds` (wall) separate the two reads that must agree. A balance equal to the books before a fill of the
    last `lag_seconds` counts as outdated, and is not compared.
    """

    def __init__(
        self,
        pool: Pool,
        exchange: Exchange,
        account: str,
        look: Callable[[], Awaitable[Sequence[Finding]]],
        *,
        confirm_seconds: float,
        lag_seconds: float,
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._account = account
        self._look = look
        self._confirm_seconds = confirm_seconds
        self._lag_seconds = lag_seconds

    async def reconcile(self) -> tuple[list[Transfer], str]:
        """Book differences that no fill explains; returns them, and a sentence. Raises ExchangeError and the database's
        errors.

        The books are opened for all currencies at once, so this is tried a few times while something trades.
        """
        opened = await books_are_open(self._pool, self._account)
        first, busy, aside = await self.unexplained()
        for _ in range(0 if opened else _OPENING_TRIES):
            if not busy:
                break
            await asyncio.sleep(self._confirm_seconds)
            first, busy, aside = await self.unexplained()
        if busy and not opened:
            return [], f"the books can't be opened while {', '.join(sorted(busy))} trade"
        if not first and aside:
            return [], f"balances agree but for {', '.join(sorted(aside))}, which just traded: compared again later"
        if not first:
            return [], "balances agree"
        await asyncio.sleep(self._confirm_seconds)
        again, busy, _ = await self.unexplained()
        if busy and not opened:
            return [], f"the books can't be opened while {', '.join(sorted(busy))} trade"
        same = [item for item in first if item in again]
        expected = {item.currency: item.expected for item in same}
        if not same or not await book_transfers(self._pool, self._account, same, expected):
            return [], "balances differ but were still changing: they are compared again"
        return same, ", ".join(f"{item.kind} of {plain(item.amount)} {item.currency}" for item in same)

    async def unexplained(self) -> tuple[list[Transfer], set[str], set[str]]:
        """Differences that fills and transfers do not explain, the currencies that can't be compared because they just
        traded, and those of them that differ.
        """
        before = await expected_balances(self._pool, self._account)
        balances = await self._exchange.balances()
        findings = await self._look()
        after = await expected_balances(self._pool, self._account)
        busy = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        symbols = {finding.symbol for finding in findings if _moving(finding)}
        # Totals may be off by a rounding until the exchange's own executions are in. Where those don't come, what was
        # withdrawn must be seen all the same.
        symbols |= {row["symbol"] for row in await self._pool.fetch(_UNSETTLED, self._account, SETTLED_WITHIN)}
        for symbol in symbols:
            busy.update(currencies(symbol) or ())
        opened = await books_are_open(self._pool, self._account)
        found: dict[str, Decimal] = {item.currency: item.total for item in balances.values()}
        differ = transfers(after, found, opened=opened)
        if differ and opened:
            # Booked as a withdrawal, the lag of a list would take from a trade what it has just bought.
            earlier = await earlier_balances(self._pool, self._account, self._lag_seconds)
            busy |= {item.currency for item in differ if item.found in earlier.get(item.currency, ())}
        aside = {item.currency for item in differ} & busy
        return [item for item in differ if item.currency not in busy], busy, aside


def _moving(finding: Finding) -> bool:
    """Whether an order may have fills that are not booked yet."""
    if finding.difference is Difference.IN_FLIGHT:
        return finding.known is not None and finding.known.sent
    return finding.action in (Remedy.RECORD, Remedy.ADOPT, Remedy.WAIT)
