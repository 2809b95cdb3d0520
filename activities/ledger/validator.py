"""Checks the ledger's consistency and compares it with the exchange (LEDGER-4). It only reports and changes no book.

Checks, each with a name in the report: every sell is fully allocated or has a named uncovered remainder
(`SELL_NOT_ALLOCATED`), allocations never exceed a lot (`LOT_EXCEEDED`) and its remainder adds up (`LOT_REMAINING`),
each allocation is from an earlier buy of its symbol (`ALLOCATION_PLACE`), a recompute gives the same book
(`FIFO_DIFFERS`), both books agree with each other (`BOOKS_DIFFER`, `POOL_SHORT`) and with the exchange (`BALANCE`), and
each row agrees with its sources (`activities.ledger.checks`).

Lots beyond the account's holdings when its books were opened are a warning, not a violation: the books add up with a
negative opening balance (LEDGER-1), and coins withdrawn before the ledger began look the same as sells missing from an
import.

A balance that reconcile may still explain is also a warning: it books deposits and withdrawals at its next pass.

Nothing was bought while it was on the block list (`BOUGHT_WHILE_BLOCKED`, by `domain.block_list`). Breaches more than a
week old are a warning, because they can no longer be corrected; so are entries for which the list is not known.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import structlog
from temporalio import activity

from activities.database import Connection, Pool
from activities.incidents import report_once, resolve_incidents
from activities.interfaces.ledger import BalanceCheck, LedgerReport, ValidateActivity, ValidateInput, Violation
from activities.ledger.block_list_check import bought_while_blocked
from activities.ledger.checks import CHECKS as ROWS
from activities.ledger.holdings import books_are_open, expected_balances
from activities.ledger.impossible_lots import lots_beyond_holdings
from activities.ledger.recompute import BookDifference, compare_book, read_book, stale_records, symbols_of
from domain.incidents import IncidentKind
from domain.money import ZERO, plain
from exchange.port import Exchange, ExchangeError

__all__ = ["INCIDENT", "UNLINKED", "Validator", "check_ledger"]

log = structlog.get_logger(__name__)

INCIDENT = IncidentKind.LEDGER_VIOLATION
"""Kind of the incident for violations; one at a time per account."""

UNLINKED = IncidentKind.LINKAGE_ZERO
"""Kind of the incident when none of more than ten sighook orders has its linkage (LINK-3)."""

_SHOWN = 200
_LOOKS = 3
_ROUNDING = Decimal("0.000001")
_UNLINKED_FROM = 10

_BASE = "split_part(translate(symbol, '_', '-'), '-', 1)"

# Every statement gives subject, symbol and a sentence.
_CHECKS: Mapping[str, str] = {
    "SELL_NOT_ALLOCATED": """
        SELECT f.id::text AS subject, f.symbol, format('sell fill %s of order %s took %s, its allocations add up to %s',
               f.id, f.exchange_order_id, f.size + f.base_fees, coalesce(a.size, 0)) AS sentence
          FROM fills f LEFT JOIN (SELECT sell_fill, sum(size) AS size FROM fifo_allocations WHERE account = $1
                                   GROUP BY 1) a ON a.sell_fill = f.id
         WHERE f.account = $1 AND f.side = 'SELL' AND f.size > 0 AND coalesce(a.size, 0) <> f.size + f.base_fees""",
    "LOT_EXCEEDED": """
        SELECT f.id::text AS subject, f.symbol, format('lot %s of order %s brought %s, allocations take %s of it',
               f.id, f.exchange_order_id, f.size - f.base_fees, a.size) AS sentence
          FROM fills f JOIN (SELECT buy_fill, sum(size) AS size FROM fifo_allocations WHERE account = $1
                              GROUP BY 1) a ON a.buy_fill = f.id
         WHERE f.account = $1 AND a.size > f.size - f.base_fees""",
    "LOT_REMAINING": """
        SELECT f.id::text AS subject, f.symbol, format('lot %s of order %s has %s left, %s is right', f.id,
               f.exchange_order_id, f.lot_remaining,
               greatest(f.size - f.base_fees, 0) - coalesce(a.size, 0)) AS sentence
          FROM fills f LEFT JOIN (SELECT buy_fill, sum(size) AS size FROM fifo_allocations WHERE account = $1
                                   GROUP BY 1) a ON a.buy_fill = f.id
         WHERE f.account = $1 AND f.side = 'BUY'
           AND f.lot_remaining IS DISTINCT FROM greatest(f.size - f.base_fees, 0) - coalesce(a.size, 0)""",
    "ALLOCATION_PLACE": """
        SELECT a.id::text AS subject, a.symbol,
               format('allocation %s gives lot %s to sell fill %s, which can''t have it', a.id, a.buy_fill,
                      a.sell_fill) AS sentence
          FROM fifo_allocations a JOIN fills s ON s.id = a.sell_fill LEFT JOIN fills b ON b.id = a.buy_fill
         WHERE a.account = $1 AND (s.side <> 'SELL' OR s.symbol <> a.symbol OR s.account <> a.account
               OR (b.id IS NOT NULL AND (b.side <> 'BUY' OR b.symbol <> a.symbol OR b.account <> a.account
                                         OR (b.at, b.id) > (s.at, s.id))))""",
}

_STATEMENTS = [
    *_CHECKS.items(),
    *((check, statement) for check, statements in ROWS.items() for statement in statements),
]

_COUNTS = """
SELECT (SELECT count(*) FROM fills WHERE account = $1) AS fills,
       (SELECT count(*) FROM fifo_allocations WHERE account = $1) AS allocations,
       (SELECT count(*) FROM trades WHERE account = $1) AS trades,
       (SELECT count(*) FROM fifo_allocations WHERE account = $1 AND buy_fill IS NULL) AS uncovered
"""

# By base currency: lots that are open, what sells took without one, what open trades hold, and what is not a fill.
_HOLDINGS = f"""
WITH lots AS (SELECT {_BASE} AS currency, sum(lot_remaining) AS size FROM fills
               WHERE account = $1 AND side = 'BUY' GROUP BY 1),
     bare AS (SELECT {_BASE} AS currency, sum(size) AS size FROM fifo_allocations
               WHERE account = $1 AND buy_fill IS NULL GROUP BY 1),
     held AS (SELECT {_BASE} AS currency, sum(remaining) AS size FROM trades
               WHERE account = $1 AND state <> 'CLOSED' GROUP BY 1),
     came AS (SELECT currency, sum(amount) AS size FROM balance_transfers WHERE account = $1 GROUP BY 1)
SELECT currency, coalesce(lots.size, 0) AS in_lots, coalesce(bare.size, 0) AS uncovered,
       coalesce(held.size, 0) AS in_trades, coalesce(came.size, 0) AS transferred,
       lots.size IS NOT NULL OR bare.size IS NOT NULL AS traded
  FROM lots FULL JOIN bare USING (currency) FULL JOIN held USING (currency) FULL JOIN came USING (currency)
"""


# The latest check from before the last complete pass of reconcile began, or from longer ago than its passes may take.
_EARLIER = """
SELECT report -> 'balances' FROM ledger_checks
 WHERE account = $1 AND at < greatest($2, now() - make_interval(secs => $3))
   AND report -> 'balances' -> 0 ->> 'difference' IS NOT NULL
 ORDER BY at DESC LIMIT 1
"""

_LINKED = """
SELECT count(*) AS filled, count(l.order_key) AS linked
  FROM orders o LEFT JOIN trade_strategy_link l USING (order_key)
 WHERE o.account = $1 AND o.source = 'sighook' AND o.role <> 'EXTERNAL' AND o.filled_size > 0
   AND o.received_at > now() - interval '1 day'
"""


async def check_ledger(
    pool: Pool,
    exchange: Exchange | None,
    account: str,
    *,
    why: str = "asked",
    settle_seconds: float = 3.0,
    patience_seconds: float | None = None,
) -> LedgerReport:
    """Check everything and change nothing. Without `exchange`, the books are only compared with each other.

    A differing balance is checked again after `settle_seconds` (wall), so that fills in progress are not violations.
    With `patience_seconds` (wall) it is a warning until a stored check found it before a complete pass of reconcile
    began, or that long ago; without, a violation at once. Raises the database's errors; if the exchange doesn't answer,
    `compared` says so.
    """
    began = time.monotonic()
    found: list[Violation] = []
    symbols = await symbols_of(pool, account)
    for symbol in symbols:
        found += await _check_symbol(pool, account, symbol)
    # One snapshot for all statements: what is recorded meanwhile is in all of them or in none.
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        for check, statement in _STATEMENTS:
            wrong_rows = await connection.fetch(statement, account, timeout=120)
            found += [Violation(check=check, **dict(row.items())) for row in wrong_rows]
        counts = await connection.fetchrow(_COUNTS, account)
        rows, wrong = await _holdings(connection, account)
        beyond = await lots_beyond_holdings(connection, account)
        blocked, told = await bought_while_blocked(connection, account)
    left = await _left(pool, account, patience_seconds)
    balances, differing, compared = await _compare(pool, exchange, account, rows, settle_seconds)
    differing, waiting = _lasting(differing, balances, left)
    if waiting and not differing:
        compared = f"{compared}, in entries that reconcile has not checked yet"
    found += [*wrong, *differing, *blocked]
    return LedgerReport(
        account=account,
        at=datetime.now(UTC),
        why=why,
        ok=not found,
        seconds=round(time.monotonic() - began, 3),
        symbols=len(symbols),
        fills=counts["fills"],
        allocations=counts["allocations"],
        trades=counts["trades"],
        uncovered_sells=counts["uncovered"],
        counts=dict(Counter(item.check for item in found)),
        violations=tuple(found[:_SHOWN]),
        warnings=(*(_beyond(currency, size) for currency, size in sorted(beyond.items())), *waiting, *told),
        balances=tuple(balances),
        compared=compared,
    )


def _beyond(currency: str, size: Decimal) -> str:
    return (
        f"lots hold {plain(size)} {currency} more than the account, which did not have them when its books were "
        f"opened: sells are missing from the imported fills, or the coins were withdrawn before"
    )


async def _check_symbol(pool: Pool, account: str, symbol: str) -> list[Violation]:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        book = await read_book(connection, account, symbol)
        stale = await stale_records(connection, account, symbol)
    return _of_difference(await asyncio.to_thread(compare_book, book, stale))


def _of_difference(found: BookDifference) -> list[Violation]:
    rows = []
    if found.missing or found.surplus or found.lots:
        sentence = (
            f"a recompute of {found.symbol} gives {found.rows_after} allocations, {found.rows_before} are stored: "
            f"{len(found.missing)} to write, {len(found.surplus)} to delete, {len(found.lots)} lots to correct"
        )
        rows.append(Violation(check="FIFO_DIFFERS", subject=found.symbol, symbol=found.symbol, sentence=sentence))
    rows += [
        Violation(
            check="TRADE_RECORD",
            subject=order,
            symbol=found.symbol,
            sentence=f"the trade record of order {order} contradicts its fills and allocations",
        )
        for order in found.stale
    ]
    return rows


async def _holdings(connection: Connection, account: str) -> tuple[list[BalanceCheck], list[Violation]]:
    """Each currency's holdings by the books, and differences between the two books."""
    books = await expected_balances(connection, account)
    is_open = await books_are_open(connection, account)
    rows = {row["currency"]: row for row in await connection.fetch(_HOLDINGS, account)}
    checks, wrong = [], []
    for currency in sorted({*books, *rows}):
        row: Any = rows.get(currency) or {}
        sums = {name: row.get(name, ZERO) for name in ("in_lots", "uncovered", "in_trades", "transferred")}
        held = books.get(currency, ZERO)
        check = BalanceCheck(currency=currency, books=held, unowned=held - sums["in_trades"], **sums)
        checks.append(check)
        if row.get("traded"):
            quoted = await _quoted(connection, account, currency)
            fifo = check.in_lots - check.uncovered + check.transferred + quoted
            if fifo != held:
                sentence = f"lots, uncovered sells and transfers of {currency} add up to {plain(fifo)}, fills and "
                wrong.append(_of_currency("BOOKS_DIFFER", currency, f"{sentence}transfers to {plain(held)}"))
        if is_open and check.in_trades > held:
            sentence = f"open trades hold {plain(check.in_trades)} {currency}, the account {plain(held)}"
            wrong.append(_of_currency("POOL_SHORT", currency, sentence))
    return checks, wrong


async def _quoted(connection: Connection, account: str, currency: str) -> Decimal:
    """A currency's changes from trades priced in it."""
    moved: Decimal = await connection.fetchval(
        """SELECT coalesce(sum(CASE side WHEN 'BUY' THEN -(value + quote_fees) ELSE value - quote_fees END), 0)
           FROM fills WHERE account = $1 AND split_part(translate(symbol, '_', '-'), '-', 2) = $2""",
        account,
        currency,
    )
    return moved


def _of_currency(check: str, currency: str, sentence: str) -> Violation:
    return Violation(check=check, subject=currency, sentence=sentence)


async def _compare(
    pool: Pool, exchange: Exchange | None, account: str, rows: Sequence[BalanceCheck], settle_seconds: float
) -> tuple[Sequence[BalanceCheck], list[Violation], str]:
    """Compare the books with the exchange's balances; only a difference found twice is a violation."""
    if exchange is None:
        return rows, [], "the exchange was not asked"
    if not await books_are_open(pool, account):
        return (
            rows,
            [],
            "not compared with the exchange: no opening balances are booked yet (run `bottrader reconcile`)",
        )
    last: dict[str, Decimal] | None = None
    for look in range(_LOOKS):
        if look:
            await asyncio.sleep(settle_seconds)
        # Lots, trades and books of one moment: rows of one before and one after a fill would contradict each other.
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            now, _ = await _holdings(connection, account)
        before = {row.currency: row.books for row in now}
        try:
            balances = await exchange.balances()
        except (ExchangeError, OSError, TimeoutError) as problem:
            return rows, [], f"not compared with the exchange: {problem!r}"
        after = await expected_balances(pool, account)
        if any(after.get(currency, ZERO) != before.get(currency, ZERO) for currency in {*before, *after}):
            continue  # something was just recorded: the two would not be of one moment
        found = {item.currency: item.total for item in balances.values()}
        differs = {
            currency: found.get(currency, ZERO) - before.get(currency, ZERO)
            for currency in {*before, *found}
            if abs(found.get(currency, ZERO) - before.get(currency, ZERO)) >= _ROUNDING
        }
        if not differs or differs == last:
            return _compared(now, before, found, differs)
        last = differs
    return rows, [], "not compared with the exchange: the account was trading all the time"


async def _left(pool: Pool, account: str, patience_seconds: float | None) -> Mapping[str, Decimal] | None:
    """By currency: the total of transfers when an earlier check found a difference that reconcile has had time to book
    since.

    None: no waiting. Must be read before the balances, because a pass that ends later may have booked the difference.
    """
    if patience_seconds is None:
        return None
    passed = await pool.fetchval(
        "SELECT caught_up_to FROM stream_positions WHERE name = 'reconcile/' || $1::text", account
    )
    rows = await pool.fetchval(_EARLIER, account, passed, patience_seconds) or []
    return {row["currency"]: Decimal(row["transferred"]) for row in rows if Decimal(row["difference"] or 0)}


def _lasting(
    differing: Sequence[Violation], balances: Sequence[BalanceCheck], left: Mapping[str, Decimal] | None
) -> tuple[list[Violation], list[str]]:
    """Balance differences that reconcile did not explain, and those it may still explain, one sentence each.

    If a transfer was booked since, the earlier difference was explained, and this is a new one.
    """
    if left is None:
        return list(differing), []
    transferred = {row.currency: row.transferred for row in balances}
    lasting = [item for item in differing if left.get(item.subject) == transferred[item.subject]]
    waiting = [f"{item.sentence}, which reconcile may still explain" for item in differing if item not in lasting]
    return lasting, waiting


def _compared(
    rows: Sequence[BalanceCheck],
    books: Mapping[str, Decimal],
    found: Mapping[str, Decimal],
    differs: Mapping[str, Decimal],
) -> tuple[Sequence[BalanceCheck], list[Violation], str]:
    # A currency that the books have never seen is one of theirs, too: the next check is to know that it differed.
    unseen = dict.fromkeys(("books", "transferred", "in_lots", "uncovered", "in_trades", "unowned"), ZERO)
    new = sorted({*differs} - {row.currency for row in rows})
    shown = [
        row.model_copy(
            update={
                "exchange": found.get(row.currency, ZERO),
                "difference": differs.get(row.currency, ZERO),
            }
        )
        for row in (*rows, *(BalanceCheck(currency=name, **unseen) for name in new))
    ]
    wrong = [
        _of_currency(
            "BALANCE",
            currency,
            f"the exchange holds {plain(found.get(currency, ZERO))} {currency}, the books say "
            f"{plain(books.get(currency, ZERO))}",
        )
        for currency in sorted(differs)
    ]
    said = "the books equal the exchange's balances" if not wrong else "the books differ from the exchange's balances"
    return shown, wrong, said


class Validator(ValidateActivity):
    """The scheduled check: its result is stored, a violation is an incident until a check finds none.

    A balance that differs is a violation once reconcile has had a pass for it, or `patience_seconds` (wall).
    """

    def __init__(self, pool: Pool, exchange: Exchange, *, patience_seconds: float = 900.0) -> None:
        self._pool = pool
        self._exchange = exchange
        self._patience_seconds = patience_seconds

    @activity.defn(name="validate_ledger")
    async def validate_ledger(self, request: ValidateInput) -> LedgerReport:
        """Check, store the result, raise or resolve its incident. Raises the database's errors."""
        report = await check_ledger(
            self._pool, self._exchange, request.account, why=request.why, patience_seconds=self._patience_seconds
        )
        await self.store(report)
        await self._tell(report)
        await self._watch_linkage(request.account)
        log.info("ledger_checked", account=report.account, ok=report.ok, counts=report.counts, seconds=report.seconds)
        return report

    async def store(self, report: LedgerReport) -> None:
        """Store a report for later queries. Raises the database's errors."""
        await self._pool.execute(
            """INSERT INTO ledger_checks (account, at, why, ok, violations, seconds, report)
               VALUES ($1,$2,$3,$4,$5,$6,$7)""",
            report.account,
            report.at,
            report.why,
            report.ok,
            sum(report.counts.values()),
            Decimal(str(report.seconds)),
            report.model_dump(mode="json"),
        )

    async def _tell(self, report: LedgerReport) -> None:
        if report.ok:
            await resolve_incidents(self._pool, report.account, INCIDENT, report.account)
            return
        listed = ", ".join(f"{count} {check}" for check, count in sorted(report.counts.items()))
        await report_once(
            self._pool,
            report.account,
            INCIDENT,
            "CRITICAL",
            report.account,
            f"the check of the ledger of {report.account} found violations ({listed}): `bottrader ledger verify` "
            f"shows them",
            {"counts": report.counts, "first": [item.sentence for item in report.violations[:5]]},
        )

    async def _watch_linkage(self, account: str) -> None:
        row = await self._pool.fetchrow(_LINKED, account)
        if row["filled"] > _UNLINKED_FROM and row["linked"] == 0:
            sentence = f"none of the {row['filled']} filled sighook orders of the last day has its linkage"
            await report_once(self._pool, account, UNLINKED, "CRITICAL", account, sentence)
        else:
            await resolve_incidents(self._pool, account, UNLINKED, account)
