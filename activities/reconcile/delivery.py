"""Delivers reconcile's findings like stream updates: stored as facts in chunks, then routed, then waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
from temporalio.client import Client

from activities.database import Connection, Pool
from activities.incidents import report_incident
from activities.leases import Lease
from activities.measures import SILENT, Measures
from activities.obstacles import ObstacleNews
from activities.reconcile.adoption import Adoption
from activities.reconcile.views import ExchangeView, read_journal
from activities.starting import Starter
from activities.streams.fact_router import FactRouter
from activities.streams.facts import Fact, FactStore, Observed
from domain.differences import Finding, Remedy
from domain.incidents import IncidentKind
from domain.orders import merge

__all__ = ["CHUNK", "FactDelivery", "lock_reconcile"]

CHUNK = 50
"""Rows that are written in one transaction (INGEST-4)."""

_RECONCILE_LOCK = 73


async def lock_reconcile(connection: Connection, account: str) -> None:
    """Serialise reconcile's writes for an account until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _RECONCILE_LOCK, account)


class FactDelivery:
    """Facts of one run, written under its lease. `seconds` (wall) limits the wait for their recording."""

    def __init__(
        self,
        pool: Pool,
        client: Client,
        adoption: Adoption,
        starter: Starter,
        account: str,
        lease: Lease,
        *,
        seconds: float,
        measures: Measures = SILENT,
    ) -> None:
        self._pool = pool
        self._client = client
        self._adoption = adoption
        self._starter = starter
        self._account = account
        self._lease = lease
        self._seconds = seconds
        self._measures = measures
        self._facts = FactStore(pool, account, lease, measures)

    async def deliver(self, view: ExchangeView, findings: Sequence[Finding]) -> tuple[int, bool]:
        """Store missing and unknown reports, by time, and route them; returns how many facts, and whether all are
        recorded.

        Raises LeaseLostError and the database's errors.
        """
        wanted = [item for item in findings if item.action in (Remedy.RECORD, Remedy.ADOPT) and item.seen is not None]
        if not wanted:
            return 0, True
        now = datetime.now(UTC)
        observed = [
            Observed(view.orders[item.seen.exchange_order_id], item.seen.source, now) for item in wanted if item.seen
        ]
        observed.sort(key=lambda item: item.order.updated_at or item.order.created_at or now)
        lanes: set[asyncio.Task[Any]] = set()
        done, failed = list[int](), asyncio.Event()

        async def defect(fact: Fact, problem: str) -> None:
            failed.set()
            await report_incident(
                self._pool,
                self._account,
                IncidentKind.FACT_NOT_RECORDED,
                "CRITICAL",
                fact.order_key or fact.observed.order.exchange_order_id,
                f"the exchange's record of order {fact.observed.order.exchange_order_id} is stored as fact {fact.id} "
                f"but can't be recorded: {problem}",
                {"fact": fact.id},
            )

        router = FactRouter(
            self._client,
            self._adoption,
            self._starter,
            ObstacleNews(self._pool, self._client, self._account),
            spawn=lambda work: lanes.add(asyncio.create_task(work)),
            routed=done.extend,
            defect=defect,
            at_once=16,
            measures=self._measures,
        )
        try:
            for start in range(0, len(observed), CHUNK):
                for fact in await self._store(observed[start : start + CHUNK]):
                    router.route(fact)
            if lanes:
                defective = asyncio.create_task(failed.wait())
                everything = asyncio.create_task(asyncio.wait(set(lanes)))
                lanes |= {defective, everything}
                await asyncio.wait({everything, defective}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            arrived = router.waiting == 0
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        if done:
            await self._facts.routed(done)
        return len(observed), arrived and await self._until_recorded(view, wanted)

    async def _store(self, chunk: Sequence[Observed]) -> list[Fact]:
        """One chunk in one transaction under the account's reconcile lock."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_reconcile(connection, self._account)
                return await FactStore(connection, self._account, self._lease, self._measures).commit(chunk)
        except asyncpg.PostgresError:
            # A row that can't be stored as an order spoils the transaction; singly, it is kept as malformed.
            return await self._facts.commit(chunk)

    async def _until_recorded(self, view: ExchangeView, findings: Sequence[Finding]) -> bool:
        """Wait until the journal has the routed facts: a workflow records them a moment after its signal."""
        wanted = {item.seen.exchange_order_id: item.seen.report for item in findings if item.seen is not None}
        deadline = time.monotonic() + self._seconds
        pause = 0.02
        while wanted:
            journal = await read_journal(self._pool, self._account, view)
            for known in journal.attempts:
                report = wanted.get(known.exchange_order_id or "")
                if report is not None and merge(known.report, report, settled=known.settled) == known.report:
                    del wanted[known.exchange_order_id or ""]
            if not wanted or time.monotonic() >= deadline:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)
        return not wanted
