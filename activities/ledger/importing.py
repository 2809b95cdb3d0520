"""Imports older records into the ledger: fills from a file, from before the ledger began, each once (LEDGER-3: via
import).

A fill is identified by its id: a repeat with the same content adds nothing, with other content it is refused. Other
formats of a report have other ids, or none: a row with the same time, assets, sides and sizes as an existing one of
another format, which is not in the file, is the same row (`fifo.alike`); these are counted and reported. Fills since
the ledger keeps its own records are left to reconcile, which gets them from the exchange and would book them a second
time. All fills are written in one transaction; then the FIFO books are recomputed, one symbol after the other. An
interrupted import has written all fills or none, and repeating it completes it.

Books that are already open stay balanced: an older fill was part of the opening balance, which "no fill explains", and
is taken out of it in the same transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from activities.database import Connection, Pool, Statements, lock_symbol
from activities.ledger.holdings import books_are_open, lock_transfers
from activities.ledger.impossible_lots import lots_beyond_holdings
from activities.ledger.old_fills import Fate, OldFill, OldFills
from activities.ledger.recompute import compare_book, read_book, repair_symbol
from domain.market import currencies
from domain.money import ZERO, plain
from domain.orders import Side
from fifo.alike import AlikeFills, SeenFill, asset_of, second_of, without_id
from fifo.parsing import shown

__all__ = ["ImportPlan", "ImportProgress", "SymbolImport", "SymbolPlan", "own_records_since", "plan_import"]

_MANY = 1_000
_BETWEEN_NOTES, _SECONDS_BETWEEN_NOTES = 50_000, 10.0
_SECONDS = 300.0

# The first look of reconcile goes so far back before the first thing that the ledger did.
_SINCE = """
SELECT least(least(now(), (SELECT min(at) FROM balance_transfers WHERE account = $1 AND kind = 'opening'),
                   (SELECT min(received_at) FROM orders WHERE account = $1)) - $2::interval,
             (SELECT min(at) FROM fills WHERE account = $1 AND ingest_via <> 'import'))
"""
_KNOWN = """
SELECT fill_key, symbol, side, size, value, quote_fees, base_fees, at FROM fills WHERE fill_key = ANY($1::text[])
"""
_SYMBOLS = "SELECT DISTINCT symbol FROM fills WHERE account = $1"
_OWN = """
SELECT DISTINCT exchange_order_id FROM fills
 WHERE account = $1 AND exchange_order_id = ANY($2::text[]) AND ingest_via <> 'import'
"""
# OFFSET 0 keeps it a look at the index for each second; joined, each second went through all fills of the symbol.
_AT_THAT_SECOND = """
SELECT f.*
  FROM unnest($2::text[]) AS product (symbol)
 CROSS JOIN unnest($3::timestamptz[]) AS moment (at)
 CROSS JOIN LATERAL (
       SELECT exchange_order_id, symbol, side = 'BUY', size,
              CASE WHEN side = 'BUY' THEN value + quote_fees ELSE value - quote_fees END, at
         FROM fills
        WHERE account = $1 AND symbol = product.symbol AND at >= moment.at AND at < moment.at + interval '1 second'
       OFFSET 0) AS f (id, symbol, buy, size, net, at)
"""
# Recorded when it happened: every balance that was read has it in it, so admission must not count it once more.
_WRITE_FILLS = """
INSERT INTO fills (fill_key, account, symbol, side, exchange_order_id, trade_id, origin, ingest_via, size, price, value,
                   quote_fees, base_fees, at, recorded_at, lot_remaining)
SELECT key, $1, $2, side, id, id, 'exchange', 'import', size, price, value, quote_fees, base_fees, at, at, lot
  FROM unnest($3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[], $8::numeric[], $9::numeric[],
              $10::numeric[], $11::timestamptz[], $12::numeric[])
       WITH ORDINALITY AS f (key, id, side, size, price, value, quote_fees, base_fees, at, lot, number)
 ORDER BY number
    ON CONFLICT (fill_key) DO NOTHING RETURNING fill_key
"""
_WRITE_RECORDS = """
INSERT INTO trade_records (order_id, account, symbol, side, order_time, price, size, total_fees_usd, trigger,
                           order_type, status, source, remaining_size, ingest_via)
SELECT exchange_order_id, account, symbol, side, at, price, size, quote_fees,
       '{"trigger": "manual", "snapshot_id": null}'::jsonb, 'UNKNOWN', 'FILLED', 'import', lot_remaining, 'import'
  FROM fills WHERE fill_key = ANY($1::text[])
    ON CONFLICT (order_id, account) DO NOTHING
"""
_EXPLAIN_OPENING = """
INSERT INTO balance_transfers AS b (account, currency, kind, amount, expected, found, at)
SELECT $1, moved.currency, 'opening', -moved.amount, moved.amount, 0, books.at
  FROM unnest($2::text[], $3::numeric[]) AS moved (currency, amount)
 CROSS JOIN (SELECT min(at) AS at FROM balance_transfers WHERE account = $1 AND kind = 'opening') books
 WHERE books.at IS NOT NULL
    ON CONFLICT (account, currency) WHERE kind = 'opening'
    DO UPDATE SET amount = b.amount + excluded.amount, expected = b.expected + excluded.expected
"""
_BOOK = """
SELECT (SELECT coalesce(sum(pnl), 0) FROM fifo_allocations WHERE account = $1 AND symbol = $2) AS pnl,
       (SELECT coalesce(sum(lot_remaining), 0) FROM fills WHERE account = $1 AND symbol = $2 AND side = 'BUY') AS open
"""


@dataclass(slots=True)
class SymbolPlan:
    """How many of a symbol's fills in a file are new, known, the ledger's own, or too late.

    `alike`: how many exist under another id.
    """

    symbol: str
    new: int = 0
    known: int = 0
    alike: int = 0
    own: int = 0
    later: int = 0


@dataclass(frozen=True, slots=True)
class SymbolImport:
    """An import's actual or planned effect on a symbol's FIFO book. Profit in quote currency, sizes in base."""

    symbol: str
    new: int
    known: int
    own: int
    later: int
    pnl_before: Decimal
    pnl_after: Decimal
    open_before: Decimal
    open_after: Decimal
    alike: int = 0
    """How many exist under another id."""

    @property
    def changed(self) -> bool:
        """Whether there was anything to write."""
        return bool(self.new) or (self.pnl_before, self.open_before) != (self.pnl_after, self.open_after)


@dataclass(slots=True)
class ImportPlan:
    """A file compared with the ledger; nothing is written yet. `changed`: line and sentence of known ids with other
    content.

    `own`: lines of orders that the ledger recorded itself. `alike`: by line, the id under which its fill exists.
    `unnamed`: lines identified by their content only, because the report has no ids. `doubted`: by line, an existing
    fill it may duplicate, with another id but the same time, asset, side, size and cost.
    """

    account: str
    until: datetime
    fills: OldFills
    symbols: dict[str, SymbolPlan] = field(default_factory=dict)
    changed: list[tuple[int, str]] = field(default_factory=list)
    own: set[int] = field(default_factory=set)
    alike: dict[int, str] = field(default_factory=dict)
    unnamed: set[int] = field(default_factory=set)
    doubted: dict[int, str] = field(default_factory=dict)

    async def write(self, pool: Pool, *, say: Callable[[str], None] | None = None) -> list[SymbolImport]:
        """Write the new fills, all or none, and recompute the FIFO books. Idempotent. Raises the database's errors.

        Symbols without new fills are recomputed too: an earlier import may have been interrupted. `say` is called with
        progress.
        """
        names = sorted(self.symbols)
        before = {name: await pool.fetchrow(_BOOK, self.account, name, timeout=_SECONDS) for name in names}
        progress = ImportProgress("written", sum(plan.new for plan in self.symbols.values()), say)
        written = await self._write_fills(pool, progress) if progress.total else dict.fromkeys(names, 0)
        if sum(written.values()) >= _MANY:
            # The planner must not go on thinking that these tables are small.
            await pool.execute("ANALYZE fills, trade_records", timeout=_SECONDS)
        done = []
        for name, plan in sorted(self.symbols.items()):
            if plan.new or plan.known:
                progress.begin(f"matching sells of {name} with lots")
                await repair_symbol(pool, self.account, name)
            after = await pool.fetchrow(_BOOK, self.account, name, timeout=_SECONDS)
            done.append(
                SymbolImport(
                    name, written[name], plan.known, plan.own, plan.later,
                    before[name]["pnl"], after["pnl"], before[name]["open"], after["open"],
                    plan.alike,
                )
            )  # fmt: skip
        return done

    async def _write_fills(self, pool: Pool, progress: ImportProgress) -> dict[str, int]:
        """Write the new fills in one transaction; returns how many, by symbol.

        No lock is held while the rows are written, which takes minutes for a million: nothing else writes them, and a
        matching of sells in the meantime doesn't see them yet. Locks are taken for the end only.
        """
        written: dict[str, int] = {}
        moved: dict[str, Decimal] = defaultdict(Decimal)
        async with pool.acquire() as connection, connection.transaction():
            for name in sorted(self.symbols):
                written[name] = 0
                for chunk in self.fills.chunks(name, Fate.NEW):
                    fresh = await _write(connection, self.account, name, chunk)
                    written[name] += len(fresh)
                    for currency, amount in _moved(fresh).items():
                        moved[currency] += amount
                    progress.add(len(chunk))
            for name, plan in sorted(self.symbols.items()):
                if plan.new:
                    await lock_symbol(connection, self.account, name, long=True)
            if moved:
                await lock_transfers(connection, self.account)
                await connection.execute(_EXPLAIN_OPENING, self.account, list(moved), list(moved.values()))
        return written

    async def beyond(self, pool: Pool, done: Sequence[SymbolImport], *, written: bool) -> dict[str, Decimal] | None:
        """How much more of each base currency the lots hold, or would hold, than the account can have had.

        After `write`, or with the result of `preview`. None while no opening balance is booked, because it is not known
        then. Raises the database's errors.
        """
        if not await books_are_open(pool, self.account):
            return None
        lots: dict[str, Decimal] = defaultdict(Decimal)
        moved: dict[str, Decimal] = defaultdict(Decimal)
        for item in done:
            base, _ = currencies(item.symbol) or ("", "")
            lots[base] += ZERO if written else item.open_after - item.open_before
        if not written:
            for name in self.symbols:
                for chunk in self.fills.chunks(name, Fate.NEW):
                    for currency, amount in _moved(chunk).items():
                        moved[currency] += amount
        found = await lots_beyond_holdings(pool, self.account, lots, moved)
        return {currency: size for currency, size in sorted(found.items()) if currency in lots}

    async def preview(self, pool: Pool, *, say: Callable[[str], None] | None = None) -> list[SymbolImport]:
        """The same without effect: written in a transaction that is rolled back. Raises the database's errors."""
        done = []
        progress = ImportProgress("tried", sum(plan.new for plan in self.symbols.values()), say)
        for name, plan in sorted(self.symbols.items()):
            async with pool.acquire() as connection:
                attempt = connection.transaction()
                await attempt.start()
                try:
                    before = await connection.fetchrow(_BOOK, self.account, name, timeout=_SECONDS)
                    for chunk in self.fills.chunks(name, Fate.NEW):
                        await _write(connection, self.account, name, chunk)
                        progress.add(len(chunk))
                    progress.begin(f"matching sells of {name} with lots")
                    book = await read_book(connection, self.account, name)
                finally:
                    await attempt.rollback()
            found = await asyncio.to_thread(compare_book, book)
            done.append(
                SymbolImport(
                    name, plan.new, plan.known, plan.own, plan.later,
                    before["pnl"], found.pnl_after, before["open"], found.open_after,
                    plan.alike,
                )
            )  # fmt: skip
        return done


@dataclass(slots=True)
class ImportProgress:
    """Progress of a long import; a short one prints nothing. `done` is the verb for the fills."""

    done: str
    total: int
    say: Callable[[str], None] | None
    _count: int = 0
    _noted_at: float = field(default_factory=time.monotonic)

    def add(self, count: int) -> None:
        """Count this many more; prints each 50,000, and each 10 s."""
        before, self._count, now = self._count, self._count + count, time.monotonic()
        due = before // _BETWEEN_NOTES < self._count // _BETWEEN_NOTES or now - self._noted_at >= _SECONDS_BETWEEN_NOTES
        if self.say and self.total >= _BETWEEN_NOTES and due:
            self._noted_at = now
            self.say(f"{self._count:,} of {self.total:,} fills are {self.done}")

    def begin(self, what: str) -> None:
        """Begin the next step, which prints nothing until it is done."""
        if self.say and self.total >= _BETWEEN_NOTES:
            self.say(f"{what} …")


async def own_records_since(pool: Statements, account: str, look_back: timedelta) -> datetime:
    """The time from which reconcile reads, or will read, the exchange's records; its first run goes `look_back` back.

    Raises the database's errors.
    """
    found: datetime = await pool.fetchval(_SINCE, account, look_back)
    return found


async def plan_import(
    connection: Statements,
    account: str,
    fills: OldFills,
    until: datetime,
    *,
    keep_alike: bool = False,
    other_rows: Mapping[str, str] = MappingProxyType({}),
    say: Callable[[str], None] | None = None,
) -> ImportPlan:
    """Compare sorted fills with the ledger; those from `until` on are left out.

    `other_rows`: as in `Reading`.

    If one fill of a row differs from an earlier import, is the ledger's own, or exists under another id, the row's
    other fill is not new either, so that no row is half booked. `keep_alike`: fills that exist under another id count
    as new. `say` is called with progress. Raises the database's errors.
    """
    plan = ImportPlan(account, until, fills)
    progress = ImportProgress("compared with the ledger", len(fills), say)
    for symbol in fills.symbols():
        here = plan.symbols[symbol] = SymbolPlan(symbol)
        for chunk in fills.chunks(symbol, None):
            await _sort_out(connection, plan, here, chunk)
            progress.add(len(chunk))
    if not keep_alike:
        await _find_alike(connection, plan, other_rows)
    fills.leave_out(plan.own | {line for line, _ in plan.changed} | plan.alike.keys())
    for symbol, here in plan.symbols.items():
        here.new = fills.count(symbol, Fate.NEW)
    return plan


async def _sort_out(connection: Statements, plan: ImportPlan, here: SymbolPlan, chunk: Sequence[OldFill]) -> None:
    rows = await connection.fetch(_KNOWN, [_key(plan.account, item) for item in chunk], timeout=_SECONDS)
    known = {row["fill_key"]: tuple(row)[1:] for row in rows}
    rows = await connection.fetch(_OWN, plan.account, [item.id for item in chunk], timeout=_SECONDS)
    own = {row["exchange_order_id"] for row in rows}
    fates: list[tuple[str, Fate]] = []
    for item in chunk:
        before, fate = known.get(_key(plan.account, item)), Fate.NEW
        if before == item.content:
            here.known, fate = here.known + 1, Fate.KNOWN
            if without_id(item.id):
                plan.unnamed.add(item.line)
        elif before is not None:
            fate = Fate.OUT
            plan.changed.append((item.line, _difference(item, before)))
        elif item.id in own:
            here.own, fate = here.own + 1, Fate.OWN
            plan.own.add(item.line)
        elif item.at >= (plan.until if item.at.microsecond else second_of(plan.until)):
            # A report that cuts moments to the second says too early a one.
            here.later, fate = here.later + 1, Fate.LATER
        fates.append((item.id, fate))
    plan.fills.decide(fates)


async def _find_alike(connection: Statements, plan: ImportPlan, other_rows: Mapping[str, str]) -> None:
    """Which of the new rows exist, or may exist, under ids that are not in the file."""
    rows = await connection.fetch(_SYMBOLS, plan.account, timeout=_SECONDS)
    symbols: dict[str, list[str]] = defaultdict(list)
    for (symbol,) in rows:
        symbols[asset_of(symbol)].append(symbol)
    twins = AlikeFills()
    possible: set[int] = set()
    for name in plan.symbols:
        # What was paid with a coin may be there as a fill of that coin beside the asset's.
        products = sorted({*symbols[asset_of(name)], *symbols[asset_of(name.partition("-")[2])]})
        for chunk in plan.fills.chunks(name, Fate.NEW) if products else ():
            seconds = sorted({second_of(item.at) for item in chunk})
            rows = await connection.fetch(_AT_THAT_SECOND, plan.account, products, seconds, timeout=_SECONDS)
            there = [SeenFill(*row) for row in rows if not plan.fills.has(row[0])]
            twins.put(there)
            moments = {second_of(seen.at) for seen in there}
            possible |= {item.line for item in chunk if second_of(item.at) in moments}
    lines = [items for items in plan.fills.of_lines(sorted(possible)) if items]
    seen = [[item.seen for item in items] for items in lines]
    found = twins.pair(seen, other_rows)
    for place, pairs in found.items():
        line = lines[place][0].line
        plan.alike[line] = pairs[0][1].id
        for item in lines[place]:
            plan.symbols[item.symbol].alike += 1
        # Two coins of the same sizes are one trade, whatever each report values them at.
        if len(pairs) == 1 and not pairs[0][0].costs_the_same(pairs[0][1]):
            plan.changed.append((line, _other_cost(*pairs[0])))
    taken = {other.id for pairs in found.values() for _, other in pairs}
    left = [place for place in range(len(lines)) if place not in found]
    for place, other in twins.doubted([seen[place] for place in left], taken).items():
        plan.doubted[lines[left[place]][0].line] = other.id


def _other_cost(seen: SeenFill, twin: SeenFill) -> str:
    return (
        f"a fill of the same time, side and size exists as {shown(twin.id)} for {_shown(twin.net)} with fees, and "
        f"this one is for {_shown(seen.net)}: if they are two trades, import with --keep-alike"
    )


def _difference(item: OldFill, before: tuple[Any, ...]) -> str:
    names = ("symbol", "side", "size", "value", "fee", "base fee", "time")
    name, then, now = next(
        (name, then, now) for name, then, now in zip(names, before, item.content, strict=True) if then != now
    )
    return (
        f"the fill id {item.id} was imported before with other content: its {name} was {_shown(then)} and is now "
        f"{_shown(now)}"
    )


def _shown(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)


def _key(account: str, item: OldFill) -> str:
    return f"{account}/import/{item.id}"


async def _write(connection: Connection, account: str, symbol: str, chunk: Sequence[OldFill]) -> Sequence[OldFill]:
    """Write the missing ones; returns which."""
    lots = [item.size - item.base_fees if item.side is Side.BUY else None for item in chunk]
    rows = await connection.fetch(
        _WRITE_FILLS,
        account,
        symbol,
        [_key(account, item) for item in chunk],
        [item.id for item in chunk],
        [item.side.value for item in chunk],
        [item.size for item in chunk],
        [item.price for item in chunk],
        [item.value for item in chunk],
        [item.quote_fees for item in chunk],
        [item.base_fees for item in chunk],
        [item.at for item in chunk],
        lots,
        timeout=_SECONDS,
    )
    written = {row["fill_key"] for row in rows}
    await connection.execute(_WRITE_RECORDS, sorted(written), timeout=_SECONDS)
    return [item for item in chunk if _key(account, item) in written]


def _moved(fills: Sequence[OldFill]) -> Mapping[str, Decimal]:
    """Their total changes, by currency."""
    moved: dict[str, Decimal] = defaultdict(Decimal)
    for item in fills:
        base, quote = currencies(item.symbol) or ("", "")
        if item.side is Side.BUY:
            moved[base] += item.size - item.base_fees
            moved[quote] -= item.value + item.quote_fees
        else:
            moved[base] -= item.size + item.base_fees
            moved[quote] += item.value - item.quote_fees
    return moved
