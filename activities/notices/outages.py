"""Outages of required services: the database, Temporal, the exchange.

Nothing is decided or stopped here: whatever needs a service waits and continues when it is back. This reports an
outage, and what a person has to do, as an incident that is repeated while it lasts and resolved afterwards. While the
database is unreachable or accepts no writes, incidents can't be stored, so notices are sent directly, and the incident
is stored with its times later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import asyncpg
import structlog

from activities.database import Pool
from activities.incidents import Severity
from activities.leases import DATABASE_TROUBLE
from activities.secret_values import without_secrets
from domain.incidents import IncidentKind
from domain.notices import NoticeMessage

__all__ = ["DATABASE", "OutageOptions", "Outages", "Probe", "Teller", "takes_writes"]

log = structlog.get_logger(__name__)

DATABASE = "database"


async def takes_writes(pool: Pool) -> None:
    """Raises the database's errors if it can't write: a read-only database counts as an outage."""
    await pool.fetchval("SELECT write_heartbeat()", timeout=4.0)


_BEGUN = """
INSERT INTO incidents (account, kind, severity, subject, sentence, at)
SELECT $1, $2, $3, $4, $5, $6
 WHERE NOT EXISTS (SELECT 1 FROM incidents WHERE account = $1 AND kind = $2 AND subject = $4 AND resolved_at IS NULL)
"""
_OVER = """
UPDATE incidents SET resolved_at = greatest($4, at)
 WHERE account = $1 AND kind = $2 AND subject = $3 AND resolved_at IS NULL
"""

Probe = Callable[[], Awaitable[object]]
"""A cheap request to the service; raises if it does not answer."""


class Teller(Protocol):
    """Who can tell people directly, past the tables."""

    @property
    def name(self) -> str:
        """The account's name in titles."""

    async def tell_all(self, message: NoticeMessage) -> dict[str, str | None]:
        """Send a message to every target; returns the reason by target, None for one that accepted it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageOptions:
    """Wall seconds."""

    every_seconds: float = 5.0
    probe_timeout: float = 5.0
    after_seconds: float = 15.0
    """Shorter outages are only logged, because everything waits for their end."""
    repeat_seconds: float = 600.0


@dataclass(slots=True)
class _Outage:
    began: datetime
    why: str
    needs: str = ""
    """What a person has to do; empty if it recovers without help."""
    reported_at: datetime | None = None
    stored: bool = False


class Outages:
    """Calls each of `probes` (by name) and reports lasting outages. `database` must be among them.

    Without `stores` an outage of the database is told, and the incident is left to others who look out.
    """

    def __init__(
        self,
        pool: Pool,
        account: str,
        probes: Mapping[str, Probe],
        notifier: Teller,
        options: OutageOptions | None = None,
        *,
        where: str = "",
        stores: bool = True,
    ) -> None:
        self._pool = pool
        self._stores = stores
        self._account = account
        self._probes = dict(probes)
        self._notifier = notifier
        self._options = options or OutageOptions()
        self._where = where
        self._outages: dict[str, _Outage] = {}
        self._ended: list[tuple[str, _Outage, datetime]] = []
        self._unsettled = set(probes)
        """Services for which an earlier process may have left an open incident."""

    @property
    def away(self) -> frozenset[str]:
        """The services that do not answer now."""
        return frozenset(self._outages)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._options.every_seconds)

    async def look(self) -> None:
        """Probe everything once, and report what is due."""
        await asyncio.gather(*(self._ask(name, probe) for name, probe in self._probes.items()))
        for name in sorted(self._outages):
            await self._tell(name, self._outages[name])
        if DATABASE not in self._outages and self._stores:
            await self._store()

    async def _ask(self, name: str, probe: Probe) -> None:
        now = datetime.now(UTC)
        try:
            async with asyncio.timeout(self._options.probe_timeout):
                await probe()
        except Exception as problem:  # noqa: BLE001 - whatever it is, it does not answer
            why = f"no answer within {self._options.probe_timeout:g} s" if isinstance(problem, TimeoutError) else ""
            outage = self._outages.setdefault(name, _Outage(now, ""))
            # A library's text, which may hold an address of the settings.
            outage.why = why or without_secrets(str(problem).partition("\n")[0]) or type(problem).__name__
            outage.needs = _needs(name, problem)
            log.warning("does not answer", what=name, problem=repr(problem))
            return
        outage_over = self._outages.pop(name, None)
        if outage_over is not None:
            log.warning("answers again", what=name, seconds=(datetime.now(UTC) - outage_over.began).total_seconds())
            if outage_over.reported_at is not None:
                self._ended.append((name, outage_over, datetime.now(UTC)))

    async def _tell(self, name: str, outage: _Outage) -> None:
        now = datetime.now(UTC)
        if now - outage.began < timedelta(seconds=self._options.after_seconds):
            return
        news = outage.reported_at is None or now - outage.reported_at >= timedelta(seconds=self._options.repeat_seconds)
        if news:
            outage.reported_at = now
            if DATABASE in self._outages:
                # Nobody reads the table now, so this is the only way to be heard.
                lasting = "" if now - outage.began < timedelta(seconds=self._options.repeat_seconds) else "still "
                text = f"{lasting}since {outage.began:%H:%M:%S} UTC: {_said(name, outage)}"
                if not await self._directly(name, "CRITICAL", text):
                    outage.reported_at = None  # the next look tries again

    async def _store(self) -> None:
        """Store lasting outages and ended ones, including those of the database itself."""
        try:
            for name, outage in self._outages.items():
                if outage.reported_at is not None and not outage.stored:
                    await self._begin(name, outage)
                    outage.stored = True
                    self._unsettled.discard(name)
            for name in sorted(self._unsettled - set(self._outages)):
                await self._pool.execute(_OVER, self._account, _kind(name), name, datetime.now(UTC))
                self._unsettled.discard(name)
            while self._ended:
                name, outage, ended = self._ended[0]
                await self._begin(name, outage)
                await self._pool.execute(_OVER, self._account, _kind(name), name, ended)
                self._ended.pop(0)
        except DATABASE_TROUBLE as problem:
            log.warning("outage not stored yet", problem=repr(problem))

    async def _begin(self, name: str, outage: _Outage) -> None:
        severity: Severity = "CRITICAL"
        await self._pool.execute(_BEGUN, self._account, _kind(name), severity, name, _said(name, outage), outage.began)

    async def _directly(self, name: str, level: str, text: str) -> bool:
        """Send a notice directly; returns whether one was delivered or none is configured."""
        place = f" (seen by {self._where})" if self._where else ""
        message = NoticeMessage(f"BotTrader {self._notifier.name}: {level} {_kind(name)}", text + place, level)
        answers = await self._notifier.tell_all(message)
        refused = {target: why for target, why in answers.items() if why}
        if refused:
            log.error("not every notice could be sent", what=name, targets=refused)
        return not answers or len(refused) < len(answers)


def _kind(name: str) -> IncidentKind:
    return IncidentKind(f"{name}_away")


_MEANING = {
    DATABASE: "nothing is decided, recorded or sent until it is back; orders and stops at the exchange stay in place",
    "temporal": "no orders or exits are started until it is back; events from the exchange are stored and processed "
    "later",
    "watchers": "stops of open positions are not acted on until another worker takes over; orders at the exchange "
    "stay in place",
    "exchange": "orders can't be sent or cancelled, and their outcomes are not known, until it is back",
}
_BY_HAND = {
    "watchers": "Any worker with the role restarts it; if none is running, start `bottrader worker --role watchers`",
}
_FULL = "Free space on the database's disk"
_READ_ONLY = "Make it accept writes again (default_transaction_read_only, or promote the standby)"
_REFUSED = "It will not recover without help: see the database's message"
_REFUSING = ("28", "3D", "42")
"""SQLSTATE classes: login refused, no such database, or insufficient resources."""


def _needs(name: str, problem: Exception) -> str:
    """What a person has to do before it recovers."""
    if isinstance(problem, asyncpg.DiskFullError):
        return _FULL
    if isinstance(problem, asyncpg.ReadOnlySQLTransactionError):
        return _READ_ONLY
    if isinstance(problem, asyncpg.PostgresError) and str(problem.sqlstate or "").startswith(_REFUSING):
        return _REFUSED
    return _BY_HAND.get(name, "")


def _said(name: str, outage: _Outage) -> str:
    meaning = _MEANING.get(name, "everything that needs it waits")
    verb = "do not answer" if name.endswith("s") else "does not answer"
    if outage.needs in (_FULL, _READ_ONLY):
        verb = "accepts no writes"
    ending = "Work continues automatically when it is back."
    if outage.needs:
        ending = f"{outage.needs}; then work continues automatically."
    return f"The {name} {verb} ({outage.why}): {meaning}. {ending}"
