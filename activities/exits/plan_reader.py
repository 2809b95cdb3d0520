"""Armed exit plans, from the ledger into a watch: by notification, by revision, and all of them now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg
from pydantic import ValidationError

from activities.exits.alarms import Alarms
from activities.exits.plans import PlanTable, plan_of
from activities.exits.unprotected import UnprotectedTime
from activities.incidents import report_once
from activities.streams.tenure import Tenure
from domain.exits import signal_exit_unknown
from domain.incidents import IncidentKind
from domain.watch import SymbolState, Watch

__all__ = ["PlanReader"]


class PlanReader:
    """Keeps the plans of one tenure's watch as the ledger has them. `hint` is set when they are worth a look now.

    Args:
        ours: whether this tenure watches a symbol.
        watched: called with the symbol of a plan that is new or changed.
        poll_seconds: between two looks at revisions (wall).
        resync_seconds: between two reads of all plans, whatever the revisions say (wall).
        revision_overlap: revisions read again at each look, as they may commit out of order.
    """

    def __init__(
        self,
        tenure: Tenure,
        table: PlanTable,
        watch: Watch,
        alarms: Alarms,
        unprotected: UnprotectedTime,
        *,
        ours: Callable[[str], bool],
        watched: Callable[[SymbolState], None],
        poll_seconds: float,
        resync_seconds: float,
        revision_overlap: int,
    ) -> None:
        self.hint = asyncio.Event()
        self._tenure = tenure
        self._table = table
        self._watch = watch
        self._alarms = alarms
        self._unprotected = unprotected
        self._ours = ours
        self._watched = watched
        self._poll_seconds = poll_seconds
        self._resync_seconds = resync_seconds
        self._revision_overlap = revision_overlap
        self._first_look = True
        self._last_revision = 0
        self._resync_at = 0.0
        self._poll_at = 0.0
        self._named: set[str] = set()

    def name(self, entry_key: str) -> None:
        """A notification names this trade's plan."""
        self._named.add(entry_key)
        self.hint.set()

    def look_again(self) -> None:
        """Notifications may have been missed."""
        self._poll_at = 0.0
        self.hint.set()

    async def read(self) -> None:
        """Bring the watch up to date. Raises the database's errors."""
        now = time.monotonic()
        named, self._named = self._named, set()
        rows: list[asyncpg.Record] = []
        if now >= self._resync_at:
            rows = await self._table.armed()
            for entry_key in set(self._watch.plans) - {row["entry_key"] for row in rows}:
                self._forget(entry_key)
            self._resync_at = now + self._resync_seconds
            self._poll_at = now + self._poll_seconds
        elif named:
            rows = await self._table.named(list(named))
        if now >= self._poll_at:
            rows += await self._table.changed(self._last_revision - self._revision_overlap)
            self._poll_at = now + self._poll_seconds
        for row in rows:
            self._put(row)
        self._first_look = False

    def _forget(self, entry_key: str) -> None:
        self._watch.remove(entry_key)
        self._alarms.plan_gone(entry_key)

    def _put(self, row: asyncpg.Record) -> None:
        self._last_revision = max(self._last_revision, row["revision"])
        entry_key, symbol = row["entry_key"], row["symbol"]
        known = self._watch.plans.get(entry_key)
        if row["state"] == "DISARMED" or not self._ours(symbol):
            if known is not None:
                self._forget(entry_key)
            return
        if known is not None and row["revision"] <= known.revision:
            return
        try:
            plan = plan_of(row)
        except (ValidationError, ValueError) as problem:
            self._alarms.unreadable_plan(entry_key, symbol, problem)
            return
        if known is None:
            self._unprotected.held(entry_key, datetime.now(UTC), from_the_start=self._first_look)
            if signal_exit_unknown(plan.position):
                self._tenure.background.start(self._tell_no_signal_exit(entry_key, symbol))
        self._watch.put(plan)
        if self._watch.plans[entry_key].due is None:
            self._alarms.acknowledged(entry_key)
        self._watched(self._watch.symbols[symbol])

    async def _tell_no_signal_exit(self, entry_key: str, symbol: str) -> None:
        await report_once(
            self._tenure.pool,
            self._tenure.account,
            IncidentKind.SIGNAL_EXIT_UNKNOWN,
            "WARNING",
            entry_key,
            f"Trade {entry_key} ({symbol}) has no signal exit: the account's taker rate was not known when it was "
            "entered, so nobody can say what a sale would gain after fees. Its stops and targets hold as they are.",
        )
