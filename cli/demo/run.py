"""The demonstration itself: places entries, waits, closes trades, waits until nothing changes, and compares both sides'
books.

It goes the ways that everybody goes: entries are decided through Temporal as a strategy's are, a person's close is the
update that `bottrader trade close` sends, and what has happened is read from the ledger.
"""

import asyncio
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from temporalio.client import Client
from temporalio.service import RPCError

from activities.commands import note_order
from activities.interfaces.starting import decide_order
from cli.asking import commanded, end, until
from cli.demo.audit import AuditedAccount, Duplicates, LinkageCount, account, books_agree, duplicates, linkage
from cli.demo.plan import ACCOUNT, KINDS, SYMBOLS, Run, StepKind, intent_of, run_of
from cli.output import UnreachableError, UserError
from domain.exits import ExitReason
from domain.money import ZERO
from exchange.paper import PaperControl

__all__ = ["DemoTerms", "Demonstration", "Result"]

_RUN_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_ENTRIES_A_RUN = 5
_PATIENCE_SECONDS = 10.0
_WAITING_OF_A_KIND = 6
_ANSWER_SECONDS = 10.0
_CLOSING_SECONDS = 45.0
_SETTLING_SECONDS = 15.0
_BY = "the demonstration"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoTerms:
    """The extent of the demonstration: minimum closed trades and maximum wall seconds of trading."""

    trades: int = 20
    seconds: float = 75.0
    speed: Decimal = Decimal(120)


@dataclass(slots=True)
class _Slot:
    """A place for one trade of a kind on a symbol; `key` is the entry that fills it now, `since` when it was made.

    If prices go the other way for long, the slot goes to a newer trade, and the old one is kept beside it.
    """

    kind: StepKind
    symbol: str
    key: str | None = None
    since: float = 0.0


@dataclass(slots=True)
class Result:
    """The demonstration's results and problems."""

    trades: list[dict[str, Any]] = field(default_factory=list)
    entries: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    snapshots: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    linkage: LinkageCount = field(default_factory=lambda: LinkageCount(0, 0))
    duplicates: Duplicates = field(default_factory=lambda: Duplicates(0, 0, 0, 0, 0))
    account: AuditedAccount | None = None
    fees: Decimal = ZERO
    placement_to_fill_ms: float | None = None
    problems: list[str] = field(default_factory=list)


class Demonstration:
    """One demonstration on a running stack. `say` is called with each line of progress."""

    def __init__(self, ledger: Any, client: Client, control: PaperControl, terms: DemoTerms, say: Say) -> None:
        self._ledger = ledger
        self._client = client
        self._control = control
        self._terms = terms
        self._say = say
        self._id = f"demo-{uuid.uuid4().hex[:8]}"
        self._began = time.monotonic()
        self._slots = [_Slot(kind, symbol) for kind in KINDS for symbol in SYMBOLS]
        self._entries = 0
        self._waiting: list[_Slot] = []
        self._reported: set[str] = set()
        self._runs: list[Run] = []
        self._refused: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    async def run(self) -> Result:
        """Trade, close, wait until nothing changes, compare. Raises UnreachableError when nothing can be placed at
        all."""
        await self._trade()
        await self._close_up()
        await self._control.pause()
        settled = await until(self._settled, _SETTLING_SECONDS)
        return await self._judge(settled=settled is not None)

    # --- trading -----------------------------------------------------------------------------------------------------

    async def _trade(self) -> None:
        deadline = self._began + self._terms.seconds
        next_run = time.monotonic()
        while time.monotonic() < deadline and not self._enough():
            if time.monotonic() >= next_run:
                next_run += _RUN_SECONDS
                await self._strategy_run()
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()
            if (await self._control.state())["exhausted"]:
                self._say("The price file has ended: prices no longer change.")
                return

    def _wanted(self, kind: StepKind) -> int:
        """How many closed trades of a kind are enough; the last ones are closed by a person."""
        by_rules = [other for other in KINDS if other.reason not in (None, ExitReason.MANUAL)]
        if kind not in by_rules:
            return 0
        return math.ceil((self._terms.trades - len(SYMBOLS)) / len(by_rules))

    def _enough(self) -> bool:
        wanted = {kind.reason: self._wanted(kind) for kind in KINDS if kind.reason is not None}
        standing = all(slot.key is not None for slot in self._slots if self._wanted(slot.kind) == 0)
        return standing and all(self._reasons[reason] >= number for reason, number in wanted.items())

    async def _strategy_run(self) -> None:
        """Evaluate every symbol, store the whole matrix, and enter where a slot is free."""
        run = run_of(len(self._runs), self._id)
        quotes = (await self._control.state())["quotes"]
        selling = {slot.symbol for slot in self._held if slot.kind.reason is ExitReason.SIGNAL_EXIT}
        free = [slot for slot in self._slots if slot.key is None and self._room(slot)][:_ENTRIES_A_RUN]
        buying = {slot.symbol for slot in free}
        self._runs.append(run)
        await self._write_matrix(run, quotes, selling - buying if len(self._runs) % 2 else selling, buying)
        await asyncio.gather(*(self._enter(slot, run, quotes[slot.symbol]) for slot in free))

    def _room(self, slot: _Slot) -> bool:
        wanted = self._wanted(slot.kind)
        if wanted == 0:
            return True
        under_way = sum(1 for other in self._slots if other.kind is slot.kind and other.key is not None)
        return self._reasons[slot.kind.reason or ""] + under_way < wanted + 1

    async def _write_matrix(
        self, run: Run, quotes: Mapping[str, Mapping[str, str]], selling: Iterable[str], buying: Iterable[str]
    ) -> None:
        selling, buying = set(selling), set(buying)
        rows = []
        for symbol in SYMBOLS:
            action = "sell" if symbol in selling else "buy" if symbol in buying else "hold"
            score = run.buy_score(symbol)
            rows.append(
                (
                    ACCOUNT,
                    run.snapshot_id,
                    symbol,
                    datetime.now(UTC),
                    Decimal(quotes[symbol]["price"]),
                    score,
                    Decimal("0.9") if action == "sell" else Decimal("0.1"),
                    action,
                    "multi_signal",
                    {name: part.model_dump(mode="json") for name, part in run.breakdowns[symbol].items()},
                    list(run.fired(symbol)),
                )
            )
        await self._ledger.executemany(
            """INSERT INTO market_snapshots (account, snapshot_id, symbol, at, price, buy_score, sell_score, action,
                      trigger, indicator_breakdown, indicators_fired)
               VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)""",
            rows,
        )
        await self._ledger.execute("SELECT pg_notify('matrix', $1)", run.snapshot_id)

    async def _enter(self, slot: _Slot, run: Run, quote: Mapping[str, str]) -> None:
        number, self._entries = self._entries, self._entries + 1
        intent = intent_of(
            slot.kind,
            slot.symbol,
            number,
            run,
            demo_id=self._id,
            speed=self._terms.speed,
            bid=Decimal(quote["best_bid"]),
            ask=Decimal(quote["best_ask"]),
        )
        await note_order(self._ledger, intent)
        decision = await decide_order(self._client, intent)
        if decision.accepted:
            slot.key, slot.since = intent.order_key, time.monotonic()
        else:
            self._refused[decision.gate or "?"] += 1

    async def _look(self) -> None:
        """Find trades that have ended, report them, and free their slots."""
        keys = [slot.key for slot in self._held]
        rows = await self._ledger.fetch(
            """SELECT o.order_key, o.finished, o.filled_size, t.state, t.exit_reason FROM orders o
               LEFT JOIN trades t ON t.entry_key = o.order_key WHERE o.order_key = ANY($1)""",
            keys,
        )
        found = {row["order_key"]: row for row in rows}
        for slot in self._held:
            row = found.get(slot.key or "")
            if row is None:
                continue
            if row["state"] == "CLOSED":
                slot.key = None
                await self._tell(row["order_key"])
            elif row["finished"] and row["filled_size"] == 0:
                slot.key = None
            elif self._stuck(slot):
                self._waiting.append(replace(slot))
                slot.key = None
        self._waiting = [slot for slot in self._waiting if slot.key is not None]

    def _stuck(self, slot: _Slot) -> bool:
        if not self._wanted(slot.kind) or slot in self._waiting or time.monotonic() - slot.since < _PATIENCE_SECONDS:
            return False
        return sum(1 for other in self._waiting if other.kind is slot.kind) < _WAITING_OF_A_KIND

    @property
    def _held(self) -> list[_Slot]:
        """Every slot with an entry, replaced ones included."""
        return [slot for slot in (*self._slots, *self._waiting) if slot.key is not None]

    async def _tell(self, key: str) -> None:
        if key in self._reported:
            return
        self._reported.add(key)
        trade = (await self._trades([key]))[0]
        self._reasons[trade["reason"]] += 1
        came_to = f"{trade['gross']:.2f} less {trade['fees']:.2f} fees = {trade['pnl']:.2f}"
        self._say(
            f"{time.monotonic() - self._began:5.1f} s  {len(self._reported):2}. {trade['symbol']} "
            f"{trade['reason'] or 'no exit'}: {came_to} ({trade['trigger']})"
        )

    # --- closing up --------------------------------------------------------------------------------------------------

    async def _close_up(self) -> None:
        """Cancel unfilled entries, close trades by hand, and keep one trade for each symbol open."""
        self._say("Closing open trades by hand, except one for each symbol, which stays open and protected")
        kept = {slot.key for slot in self._slots if slot.kind.reason is None and slot.key is not None}
        asked: set[str] = set()

        async def look() -> bool | None:
            rows = await self._ledger.fetch(
                """SELECT o.order_key, o.account, o.finished, o.filled_size, t.state FROM orders o
                   LEFT JOIN trades t ON t.entry_key = o.order_key
                   WHERE o.role = 'ENTRY' AND (NOT o.finished OR (o.filled_size > 0 AND t.state <> 'CLOSED'))"""
            )
            await self._look()
            to_do = [row for row in rows if not row["finished"] or row["order_key"] not in kept]
            await asyncio.gather(*(self._end(row, asked, kept) for row in to_do))
            return None if to_do else True

        await until(look, _CLOSING_SECONDS)
        await self._look()

    async def _end(self, row: Any, asked: set[str], kept: set[str]) -> None:
        key = row["order_key"]
        update: Literal["cancel", "close"] = "cancel" if row["state"] is None or key in kept else "close"
        if f"{update} {key}" in asked:
            return
        asked.add(f"{update} {key}")
        # Refused or gone: it has ended by itself meanwhile, which the ledger shows.
        request = (await commanded(self._ledger, row["account"], update, [key], _BY))[key]
        with suppress(UserError, LookupError, RPCError):
            await end(self._client, update, key, request, _ANSWER_SECONDS)

    async def _settled(self) -> bool | None:
        """Both sides have the same fills, and no order is working."""
        return True if await books_agree(self._ledger, await self._control.fills()) else None

    # --- judging -----------------------------------------------------------------------------------------------------

    async def _trades(self, keys: list[str] | None = None) -> list[dict[str, Any]]:
        from web.views.trades import described_trade, every_trade

        found = []
        for row in await every_trade(self._ledger, keys):
            trade = described_trade(row)
            found.append(
                {
                    **{name: trade[name] for name in ("entry_key", "symbol", "state", "entry_size", "entry_price")},
                    "exit_price": trade["exit_price"],
                    "reason": trade["exit_reason"],
                    "gross": None if trade["pnl"] is None else trade["pnl"] + trade["fees"],
                    "fees": trade["fees"],
                    "pnl": trade["pnl"],
                    "trigger": trade["trigger"],
                    "source": trade["source"],
                    "seconds": None
                    if trade["closed_at"] is None
                    else round((trade["closed_at"] - trade["opened_at"]).total_seconds(), 1),
                }
            )
        return found

    async def _judge(self, *, settled: bool) -> Result:
        control, ledger = self._control, self._ledger
        result = Result(trades=await self._trades(), entries=self._entries, refused=self._refused)
        if not result.trades:
            raise UnreachableError(
                "NOTHING_TRADED", f"None of {self._entries} entries was filled ({dict(self._refused)}): see the logs."
            )
        result.snapshots = len(self._runs)
        closed = [trade for trade in result.trades if trade["state"] == "CLOSED"]
        result.reasons = Counter(trade["reason"] for trade in closed)
        result.linkage = await linkage(ledger)
        result.duplicates = await duplicates(ledger, await control.journal(), await control.orders())
        quotes = (await control.state())["quotes"]
        marks = {symbol: Decimal(quote["price"]) for symbol, quote in quotes.items()}
        result.account = await account(ledger, await control.balances(), marks)
        result.fees = await ledger.fetchval("SELECT coalesce(sum(quote_fees), 0) FROM fills")
        seconds = await ledger.fetchval(
            """SELECT avg(extract(epoch FROM o.first_fill_at - a.prepared_at)) FROM orders o
               JOIN attempts a ON a.order_key = o.order_key AND a.number = 1
               WHERE o.order_type = 'MARKET' AND o.first_fill_at IS NOT NULL"""
        )
        result.placement_to_fill_ms = None if seconds is None else round(float(seconds) * 1000, 1)
        result.problems = self._problems(result, closed, settled=settled)
        return result

    def _problems(self, result: Result, closed: list[dict[str, Any]], *, settled: bool) -> list[str]:
        problems = []
        if not settled:
            problems.append("our fills and the exchange's differ")
        if len(closed) < self._terms.trades:
            problems.append(f"{len(closed)} trades were closed, not {self._terms.trades}")
        missing = [reason.value for reason in ExitReason if not result.reasons[reason.value]]
        if missing:
            problems.append(f"no trade was exited by {', '.join(missing)}")
        untraded = sorted(set(SYMBOLS) - {trade["symbol"] for trade in closed})
        if untraded:
            problems.append(f"no trade was closed in {', '.join(untraded)}")
        if result.linkage.linked != result.linkage.filled:
            problems.append(
                f"{len(result.linkage.missing)} filled orders have no linkage: {result.linkage.missing[0]}, …"
            )
        if result.duplicates.total:
            problems.append(f"{result.duplicates.total} orders were sent twice or without a journal row")
        if result.account is not None and not result.account.equal:
            problems.append(
                f"the account differs: ours {result.account.ours}, the exchange's {result.account.exchange}"
            )
        return problems
