"""A reconcile run: reads the exchange, compares with the journal, and carries out the remedies of `domain.reconcile`
(INGEST-3 to 5).

Missing reports are handled like stream updates: stored as facts in chunks of 50, then routed to their workflow or, if
none is running, to the ledger. One run at a time per account, by lease. A run is idempotent: it compares states, and
matching ones are not changed. P&L, remaining sizes and parents are never written here; the ledger derives them from
fills.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog
from temporalio import activity
from temporalio.client import Client

from activities.database import Pool
from activities.heartbeat import alive
from activities.incidents import Severity, report_once, resolve_incidents
from activities.interfaces.reconcile import (
    FindingRow,
    ReconcileActivity,
    ReconcileInput,
    ReconcileReport,
    TakenRow,
    TransferRow,
)
from activities.leases import Lease, LeaseTerms, hold
from activities.ledger.holdings import held_currencies
from activities.long_running import holder_name
from activities.measures import SILENT, Measures
from activities.reconcile.adoption import Adoption
from activities.reconcile.balances import BalanceReconciliation
from activities.reconcile.delivery import CHUNK, FactDelivery, lock_reconcile
from activities.reconcile.settlement import Settlement
from activities.reconcile.views import (
    ExchangeView,
    executions_of,
    look_up,
    read_exchange,
    read_journal,
    seen_of,
    with_products,
)
from activities.starting import Starter
from activities.streams.facts import FactStore
from activities.streams.positions import StreamPosition
from domain.balances import Taken
from domain.differences import Difference, Finding, Remedy
from domain.incidents import IncidentKind
from domain.messages import StatusSource
from domain.money import plain
from domain.reconcile import compare, resolve
from exchange.port import Exchange, ExchangeError, Unavailable

__all__ = ["ReconcileOptions", "Reconciler", "reconcile_lease"]

log = structlog.get_logger(__name__)

_MOST_SHOWN = 200
_FAILING = IncidentKind.RECONCILE_FAILING
_TELL_AFTER_ATTEMPTS = 3

_MARK = """
UPDATE trade_records r SET last_reconciled_at = now(), last_reconciled_via = seen.via
  FROM unnest($2::text[], $3::text[], $4::numeric[]) AS seen (order_id, via, size)
 WHERE r.account = $1 AND r.order_id = seen.order_id AND r.size = seen.size
"""
# A report that cuts moments to the second says too early a one.
_IMPORTED_UNTIL = """
SELECT max(at) + CASE WHEN date_trunc('second', max(at)) = max(at) THEN interval '1 second' ELSE interval '0' END
  FROM fills WHERE account = $1 AND ingest_via = 'import'
"""
_SOLD_OUT = """
SELECT entry_key FROM trades WHERE account = $1 AND state <> 'CLOSED' AND remaining <= 0 AND external_size > 0
"""


def reconcile_lease(account: str) -> str:
    """The name of the lease, and of the position, of an account's reconcile."""
    return f"reconcile/{account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileOptions:
    """Wall seconds."""

    lease: LeaseTerms = field(default_factory=lambda: LeaseTerms(seconds=30.0, renew_seconds=5.0))
    overlap_seconds: float = 300.0
    """A run reads this much from before the time up to which everything was reconciled."""
    first_look_back_seconds: float = 7 * 86_400.0
    arrive_seconds: float = 30.0
    """How long facts may take to reach workflows and ledger within a run."""
    confirm_seconds: float = 2.0
    """A balance difference is booked if it is the same after this time."""
    balance_lag_seconds: float = 60.0
    """How long a balance may lag behind a fill."""
    reads_at_once: int = 4


class Reconciler(ReconcileActivity):
    """The activity for one account, that of `exchange` and `adoption`."""

    def __init__(
        self,
        pool: Pool,
        exchange: Exchange,
        client: Client,
        adoption: Adoption,
        starter: Starter,
        options: ReconcileOptions | None = None,
    ) -> None:
        self.pool = pool
        self.exchange = exchange
        self.client = client
        self.adoption = adoption
        self.starter = starter
        self.options = options or ReconcileOptions()
        self.measures: Measures = SILENT

    @activity.defn(name="reconcile")
    async def reconcile(self, request: ReconcileInput) -> ReconcileReport:
        """Compare, and correct the differences."""
        async with alive():
            try:
                return await self.run(request)
            except (ExchangeError, TimeoutError) as problem:
                if activity.info().attempt >= _TELL_AFTER_ATTEMPTS:
                    await self._tell_failing(request.account, problem)
                raise

    async def run(self, request: ReconcileInput) -> ReconcileReport:
        """One run. Raises the exchange's and the database's errors, and LeaseLostError."""
        if request.dry_run:
            return await _Run(self, request, None).look_only()
        name = reconcile_lease(request.account)
        async with hold(self.pool, name, holder_name(), self.options.lease) as lease:
            report = await _Run(self, request, lease).reconcile()
        await resolve_incidents(self.pool, request.account, _FAILING, request.account)
        return report

    async def _tell_failing(self, account: str, problem: Exception) -> None:
        code = problem.code if isinstance(problem, ExchangeError) else "TIMEOUT"
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await report_once(
                self.pool,
                account,
                _FAILING,
                "CRITICAL",
                account,
                f"account {account} can't be reconciled with the exchange ({code}: {problem}); it is retried",
            )


class _Run:
    """One run: the comparison and its corrections."""

    def __init__(self, parts: Reconciler, request: ReconcileInput, lease: Lease | None) -> None:
        self._parts = parts
        self._options = parts.options
        self._pool = parts.pool
        self._exchange = parts.exchange
        self._request = request
        self._account = request.account
        self._lease = lease
        self._slots = asyncio.Semaphore(parts.options.reads_at_once)
        self._began = time.monotonic()

    # --- the two ways to run --------------------------------------------------------------------------------------

    async def look_only(self) -> ReconcileReport:
        """A dry run: the differences, and what would be done."""
        _, since = await self._since()
        view, findings = await self._look(since)
        differences, busy, _ = await self._balances(since).unexplained()
        report = self._report(view, since, findings)
        told = ", ".join(f"{plain(item.amount)} {item.currency}" for item in differences)
        rows = tuple(TransferRow(currency=i.currency, kind=i.kind, amount=i.amount) for i in differences)
        balances = f"no fill explains {told} of the balances" if told else "balances agree"
        balances += f"; not compared, because they just traded: {', '.join(sorted(busy))}" if busy else ""
        return report.model_copy(update={"transfers": rows, "balances": balances, "seconds": self._seconds})

    async def reconcile(self) -> ReconcileReport:
        """Compare both views and correct the differences."""
        asked, since = await self._since()
        view, findings = await self._look(since)
        await self._tell_people(view, findings)
        recorded, arrived = await self._delivery().deliver(view, findings)
        recent = timedelta(seconds=self._options.first_look_back_seconds)
        settled = await Settlement(self._pool, self._exchange, self._account, self._slots).settle(view, recent)
        await self._mark(view)
        if arrived:
            booked, sentence = await self._balances(since).reconcile()
        else:
            booked, sentence = [], "balances were not compared: not every fact has been recorded yet"
        taken = await self._cover()
        if arrived:
            await self._advance(asked)
        return self._report(view, since, findings).model_copy(
            update={
                "recorded": recorded,
                "settled": settled,
                "transfers": tuple(TransferRow(currency=i.currency, kind=i.kind, amount=i.amount) for i in booked),
                "taken": tuple(TakenRow(entry_key=i.entry_key, size=i.size, left=i.left) for i in taken),
                "balances": sentence,
                "seconds": self._seconds,
            }
        )

    # --- looking --------------------------------------------------------------------------------------------------

    async def _since(self) -> tuple[datetime, datetime]:
        """The exchange's time now, and the time from which orders and executions are read (the exchange's time)."""
        # Up to a time from the future nothing is known; from one of the past more is read again.
        asked = min(await self._exchange.server_time(), datetime.now(UTC))
        position = await StreamPosition.load(self._pool, reconcile_lease(self._account))
        unnamed = await self._pool.fetchval(
            """SELECT min(prepared_at) FROM attempts WHERE account = $1 AND exchange_order_id IS NULL AND sends > 0
               AND status NOT IN ('ABSENT','FILLED','CANCELLED','EXPIRED','FAILED')""",
            self._account,
        )
        earliest = asked - timedelta(seconds=self._options.first_look_back_seconds)
        overlap = timedelta(seconds=self._options.overlap_seconds)
        since = min(position.caught_up_to, asked) - overlap if position.caught_up_to is not None else earliest
        if unnamed is not None:
            since = min(since, max(unnamed - overlap, earliest))
        if self._request.look_back_seconds is not None:
            wanted = asked - timedelta(seconds=self._request.look_back_seconds)
            # Up to there the books have what was imported, under ids of a file: adopted it would count twice.
            imported = await self._pool.fetchval(_IMPORTED_UNTIL, self._account)
            since = min(since, wanted if imported is None else max(wanted, imported))
        return asked, since

    async def _look(self, since: datetime, *, executions: bool = True) -> tuple[ExchangeView, list[Finding]]:
        """Compare both views; orders that the lists leave open are looked up."""
        view = await read_exchange(self._exchange, since, executions=executions)
        journal = await read_journal(self._pool, self._account, view)
        ours = {item.symbol for item in journal.attempts}
        named = {item.symbol for item in view.records.orders} | {item.symbol for item in view.records.executions}
        view = await with_products(self._exchange, view, named - ours)
        findings = compare(journal, view.records)
        asked = await asyncio.gather(
            *(self._ask(view, item) if item.action is Remedy.LOOK_UP else _as_it_is(item) for item in findings)
        )
        return view, list(asked)

    async def _ask(self, view: ExchangeView, finding: Finding) -> Finding:
        try:
            order, fills = await look_up(self._exchange, finding.subject, self._slots)
        except Unavailable as problem:
            # One order that can't be read must not keep all others from being level.
            return replace(finding, action=Remedy.WAIT, sentence=f"{finding.sentence}; not readable now: {problem}")
        if order is not None:
            view.orders[order.exchange_order_id] = order
            view.fills[order.exchange_order_id] = list(fills)
        seen = None if order is None else seen_of(order, StatusSource.ORDER_HISTORY)
        return resolve(finding, seen, executions_of(fills), view.records.asked_at)

    # --- telling --------------------------------------------------------------------------------------------------

    async def _tell_people(self, view: ExchangeView, findings: Sequence[Finding]) -> None:
        for finding in findings:
            late = finding.difference is Difference.LATE_APPEARANCE
            if finding.action is not Remedy.INCIDENT and not finding.critical and not late:
                continue
            severity: Severity = "CRITICAL" if finding.critical else "WARNING"
            details = {"raw": self._raw(view, finding)}
            await report_once(
                self._pool, self._account, finding.difference, severity, finding.subject, finding.sentence, details
            )
        for message in view.unreadable:
            subject = hashlib.sha256(message.raw.encode("utf-8", "replace")).hexdigest()[:16]
            sentence = f"a row of the exchange's records is unreadable: {message.reason}"
            news = await report_once(
                self._pool,
                self._account,
                IncidentKind.UNREADABLE_ROW,
                "WARNING",
                subject,
                sentence,
                {"raw": message.raw},
            )
            if news:
                facts = FactStore(self._pool, self._account, self._held)
                await facts.malformed(message, StatusSource.ORDER_HISTORY)

    @staticmethod
    def _raw(view: ExchangeView, finding: Finding) -> object:
        """The exchange's raw data about a finding."""
        identity = finding.seen.exchange_order_id if finding.seen else finding.subject.partition("/")[0]
        wanted = set(finding.trade_ids)
        fills = [dict(item.raw) for item in view.fills.get(identity, []) if item.trade_id in wanted]
        order = view.orders.get(identity)
        return {"order": dict(order.raw) if order else None, "executions": fills}

    # --- doing ----------------------------------------------------------------------------------------------------

    @property
    def _held(self) -> Lease:
        if self._lease is None:
            raise RuntimeError("a dry run writes nothing")
        return self._lease

    def _delivery(self) -> FactDelivery:
        parts = self._parts
        return FactDelivery(
            self._pool,
            parts.client,
            parts.adoption,
            parts.starter,
            self._account,
            self._held,
            seconds=self._options.arrive_seconds,
            measures=parts.measures,
        )

    async def _mark(self, view: ExchangeView) -> None:
        """Mark trade records as confirmed by the exchange, with the source."""
        seen = [item for item in view.records.orders if item.report.totals.size > 0]
        for start in range(0, len(seen), CHUNK):
            chunk = seen[start : start + CHUNK]
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_reconcile(connection, self._account)
                await connection.execute(
                    _MARK,
                    self._account,
                    [item.exchange_order_id for item in chunk],
                    [item.source.value for item in chunk],
                    [item.report.totals.size for item in chunk],
                )

    # --- balances -------------------------------------------------------------------------------------------------

    def _balances(self, since: datetime) -> BalanceReconciliation:
        async def look() -> list[Finding]:
            _, findings = await self._look(since, executions=False)
            return findings

        return BalanceReconciliation(
            self._pool,
            self._exchange,
            self._account,
            look,
            confirm_seconds=self._options.confirm_seconds,
            lag_seconds=self._options.balance_lag_seconds,
        )

    async def _cover(self) -> list[Taken]:
        """Deduct the account's shortage from trades, and have their monitors check."""
        adoption = self._parts.adoption
        bases = await held_currencies(self._pool, self._account)
        taken = [item for base in bases for item in await adoption.cover(base)]
        # One that was sold out before a crash kept us from telling its monitor.
        told = {item.entry_key for item in taken}
        rows = await self._pool.fetch(_SOLD_OUT, self._account)
        await adoption.look_again([row["entry_key"] for row in rows if row["entry_key"] not in told])
        return taken

    # --- the end --------------------------------------------------------------------------------------------------

    async def _advance(self, asked: datetime) -> None:
        """Record that everything up to `asked` is reconciled."""
        lease = self._held
        position = await StreamPosition.load(self._pool, lease.name)
        position.caught_up_to = max(asked, position.caught_up_to or asked)
        await position.save(self._pool, lease)

    @property
    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def _report(self, view: ExchangeView, since: datetime, findings: Sequence[Finding]) -> ReconcileReport:
        counts = Counter(item.difference.value for item in findings)
        # What needs a hand first.
        ranked = sorted(findings, key=lambda item: item.action in (Remedy.NONE, Remedy.SETTLE))
        log.info("reconciled", account=self._account, dry_run=self._request.dry_run, **counts)
        return ReconcileReport(
            account=self._account,
            dry_run=self._request.dry_run,
            why=self._request.why,
            asked_at=view.records.asked_at,
            since=since,
            orders=len(view.records.orders),
            open_orders=view.open_orders,
            executions=view.executions,
            counts=dict(sorted(counts.items())),
            findings=tuple(_row(item) for item in ranked[:_MOST_SHOWN]),
            unreadable=len(view.unreadable),
        )


async def _as_it_is(finding: Finding) -> Finding:
    return finding


def _row(item: Finding) -> FindingRow:
    return FindingRow(
        difference=item.difference.value,
        action=item.action.value,
        subject=item.subject,
        symbol=item.symbol,
        sentence=item.sentence,
        order_key=item.known.order_key if item.known else None,
        status_source=item.seen.source.value if item.seen else None,
    )
