"""Delivery of incidents to people through Apprise: from the table to each address, once, and repeated while they last.

One process at a time delivers for an account, by lease. What each address was sent is in the database, so a restart
sends nothing twice; only a crash between the service's answer and our record of it may repeat a message. A failing
address is retried with backoff and does not delay others, and trading never waits for notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from activities.database import Pool
from activities.leases import DATABASE_TROUBLE, Lease, LeaseLostError, LeaseTerms, hold
from activities.long_running import holder_name, together
from activities.notices.news import News, gather_news
from domain.errors import BotTraderError
from domain.news import How
from domain.notices import Incident, Notice, NoticeMessage, as_messages, due_notices, loud_and_quiet

__all__ = [
    "BadTargetError",
    "Notifier",
    "NotifierOptions",
    "Target",
    "notices_due",
    "notifier_lease",
    "record_target",
    "record_told",
]

log = structlog.get_logger(__name__)

_TYPES = {"INFO": "info", "WARNING": "warning", "CRITICAL": "failure", "SUCCESS": "success"}
"""How apprise calls a message's level."""
_SEVERITIES = ("INFO", "WARNING", "CRITICAL")

_CANDIDATES = """
SELECT i.id, i.kind, i.severity, coalesce(i.subject, '') AS subject, i.sentence, i.at, i.resolved_at, n.told_at
  FROM incidents i LEFT JOIN notices n ON n.incident_id = i.id AND n.target = $2
 WHERE i.account = $1 AND (i.severity = ANY($3) OR i.kind = ANY($7)) AND i.kind <> ALL($8)
   AND ((n.incident_id IS NULL AND (i.at > now() - make_interval(secs => $4)
                                    OR (i.severity = 'CRITICAL' AND i.resolved_at IS NULL)))
     OR (n.over_at IS NULL AND n.told_at IS NOT NULL
         AND (i.resolved_at IS NOT NULL
              OR n.told_at > now() - make_interval(secs => $5)
              OR (i.severity = 'CRITICAL' AND i.at > now() - make_interval(secs => $6)))))
 ORDER BY i.id LIMIT 2000
"""
_TOLD = """
INSERT INTO notices (incident_id, target, told_at, over_at)
SELECT id, $1, now(), CASE WHEN id = ANY($3::bigint[]) THEN now() END
  FROM unnest($2::bigint[] || $3::bigint[]) AS named (id) GROUP BY id
ON CONFLICT (incident_id, target) DO UPDATE
   SET told_at = CASE WHEN excluded.incident_id = ANY($2::bigint[]) THEN now() ELSE notices.told_at END,
       over_at = coalesce(notices.over_at, excluded.over_at), times = notices.times + 1
"""
_TARGET = """
INSERT INTO notice_targets (account, target, failures, last_error, last_failed_at, last_delivered_at)
VALUES ($1, $2, $3, $4, CASE WHEN $3 > 0 THEN now() END, CASE WHEN $3 = 0 THEN now() END)
ON CONFLICT (account, target) DO UPDATE
   SET failures = excluded.failures, last_error = coalesce(excluded.last_error, notice_targets.last_error),
       last_failed_at = coalesce(excluded.last_failed_at, notice_targets.last_failed_at),
       last_delivered_at = coalesce(excluded.last_delivered_at, notice_targets.last_delivered_at)
"""


async def notices_due(
    pool: Pool,
    account: str,
    target: str,
    *,
    severities: Sequence[str],
    also: Sequence[str],
    never: Sequence[str],
    now: datetime,
    look_back_seconds: float = 86_400.0,
    repeat_seconds: float = 600.0,
    repeat_for_seconds: float = 86_400.0,
) -> list[Notice]:
    """What a target is to be sent now. Raises the database's errors.

    Args:
        target: its name in the tables.
        severities: those that are sent.
        also: kinds that are sent at any severity.
        never: kinds that are not sent at any.
        now: UTC.
        look_back_seconds: incidents older than this when first seen are not sent (wall, as the following), but for
            CRITICAL ones that last.
        repeat_seconds: an open CRITICAL incident is sent again after this time.
        repeat_for_seconds: for so long.
    """
    rows = await pool.fetch(
        _CANDIDATES,
        account,
        target,
        severities,
        look_back_seconds,
        repeat_seconds,
        repeat_for_seconds,
        also,
        never,
    )
    return due_notices((Incident(**dict(row)) for row in rows), now, repeat=timedelta(seconds=repeat_seconds))


async def record_told(pool: Pool, target: str, told: Sequence[int], over: Sequence[int]) -> None:
    """Record that a target was sent these incidents, and the ends of those. Raises the database's errors."""
    await pool.execute(_TOLD, target, told, over)


async def record_target(pool: Pool, account: str, target: str, failures: int, problem: str | None) -> None:
    """Record a target's failures in a row and the last one's reason, for people. Raises the database's errors."""
    await pool.execute(_TARGET, account, target, failures, problem)


def notifier_lease(account: str) -> str:
    """The name of the lease for delivering an account's notices."""
    return f"notices/{account}"


class BadTargetError(BotTraderError, ValueError):
    """apprise knows no service for an address; the text doesn't show it, as addresses hold passwords."""

    code = "BAD_NOTICE_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierOptions:
    """Wall seconds."""

    severity: str = "WARNING"
    """The lowest severity that is sent."""
    live: bool = False
    """Real money: each title says so."""
    kinds: Mapping[str, How] = field(default_factory=dict)
    """Kinds of incidents that are sent at any severity, or quietly, or not at all."""
    news: Collection[str] | None = None
    """Kinds of news that are read for whoever delivers them; None: those of `kinds` that are sent."""
    quiet_seconds: float = 3600.0
    """Quiet notices are sent together, when the oldest is this old."""
    repeat_seconds: float = 600.0
    repeat_for_seconds: float = 86_400.0
    """An unresolved CRITICAL incident is repeated for this long."""
    look_back_seconds: float = 86_400.0
    """Incidents older than this when first seen are not sent, but for CRITICAL ones that last."""
    poll_seconds: float = 2.0
    send_timeout: float = 30.0
    retry_first_seconds: float = 2.0
    retry_longest_seconds: float = 600.0
    lease: LeaseTerms = field(default_factory=LeaseTerms)

    @property
    def severities(self) -> list[str]:
        """All severities that are sent."""
        return list(_SEVERITIES[_SEVERITIES.index(self.severity) :])

    def kinds_that_are(self, *how: How) -> list[str]:
        """The kinds of incidents that are sent in this way."""
        return [kind for kind, chosen in self.kinds.items() if chosen in how]


@contextlib.contextmanager
def _unheard(logger: logging.Logger) -> Iterator[None]:
    """Silence its log: it repeats parts of an address that it can't parse."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class Target:
    """An Apprise address. Its name is a digest, because addresses are secrets and must not appear in tables or logs.

    Raises BadTargetError for an address that Apprise does not know.
    """

    def __init__(self, url: str, *, position: int = 1) -> None:
        import apprise  # noqa: PLC0415 - slow to load; who has no address starts without it

        with _unheard(apprise.logger):
            service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        scheme = url.partition("://")[0].lower()[:20]
        if service is None:
            raise BadTargetError(
                f"notices.urls, number {position}, is not a valid Apprise URL; Apprise's documentation lists the "
                f"format for each service"
            )
        self.name = f"{scheme}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
        self._service = apprise.Apprise()
        self._service.add(service)

    async def send(self, message: NoticeMessage, *, timeout: float) -> str | None:
        """Send it; None if the service accepted it, else the reason."""
        try:
            async with asyncio.timeout(timeout):
                taken = await self._service.async_notify(
                    title=message.title, body=message.body, notify_type=_TYPES[message.level]
                )
        except TimeoutError:
            return f"no answer within {timeout:g} s"
        except Exception as problem:  # noqa: BLE001 - a plug-in may raise anything, and nothing may stop the others
            return type(problem).__name__
        return None if taken else "the service did not accept it"


class Notifier:
    """Delivers an account's incidents to its targets, for as long as `run` runs."""

    def __init__(self, pool: Pool, account: str, targets: Sequence[Target], options: NotifierOptions) -> None:
        self._pool = pool
        self._account = account
        self.name = f"LIVE {account}" if options.live else account
        """The account's name in titles."""
        self._targets = list(targets)
        self._options = options
        self.delivering = False
        """Whether this process holds the lease."""
        self._noted: dict[str, int] = {}
        self._unwritten: dict[str, tuple[list[int], list[int]]] = {}
        """Deliveries to a target that are not in the table yet: incidents sent, and resolutions sent."""

    async def run(self) -> None:
        """Run until cancelled: wait for the lease, deliver; wait while the database is unreachable."""
        if not self._targets:
            return
        while True:
            try:
                async with hold(self._pool, notifier_lease(self._account), holder_name(), self._options.lease) as lease:
                    self.delivering = True
                    await together(self._gather_news(), *(self._serve(target, lease) for target in self._targets))
            except (LeaseLostError, *DATABASE_TROUBLE) as problem:
                log.warning("notices wait", problem=repr(problem))
            finally:
                self.delivering = False
            await asyncio.sleep(self._options.poll_seconds)

    async def _gather_news(self) -> None:
        options = self._options
        news = News(
            self._pool,
            self._account,
            options.kinds_that_are("on", "quiet") if options.news is None else options.news,
            repeat_seconds=options.repeat_seconds,
            look_back_seconds=options.look_back_seconds,
        )
        await gather_news(news, self._pool, self._account, options.lease, options.poll_seconds)

    async def _serve(self, target: Target, lease: Lease) -> None:
        failures = 0
        while True:
            lease.require()
            try:
                problem = await self.deliver(target)
                await self._note(target, failures + 1 if problem else 0, problem)
            except DATABASE_TROUBLE as trouble:
                log.warning("notices not read", problem=repr(trouble))
                await asyncio.sleep(self._options.poll_seconds)
                continue
            failures = failures + 1 if problem else 0
            pause = self._options.poll_seconds
            if problem:
                log.warning("notice not delivered", target=target.name, failures=failures, problem=problem)
                pause = min(
                    self._options.retry_first_seconds * 2.0 ** min(failures - 1, 16),
                    self._options.retry_longest_seconds,
                )
            await asyncio.sleep(pause)

    async def deliver(self, target: Target) -> str | None:
        """Send one target its due notices; returns the reason if one was not accepted.

        Raises the database's errors. Earlier deliveries that could not be recorded are recorded first, and are not sent
        again.
        """
        options = self._options
        await self._write_down(target)
        now = datetime.now(UTC)
        due = await notices_due(
            self._pool,
            self._account,
            target.name,
            severities=options.severities,
            also=options.kinds_that_are("on", "quiet"),
            never=options.kinds_that_are("off"),
            now=now,
            look_back_seconds=options.look_back_seconds,
            repeat_seconds=options.repeat_seconds,
            repeat_for_seconds=options.repeat_for_seconds,
        )
        quiet = options.kinds_that_are("quiet")
        loud, hushed = loud_and_quiet(due, quiet, now, wait=timedelta(seconds=options.quiet_seconds))
        for message in as_messages(self.name, loud) + as_messages(self.name, hushed, together=True):
            if (problem := await target.send(message, timeout=options.send_timeout)) is not None:
                return problem
            told = [item for notice in message.notices for item in notice.reported]
            over = [item for notice in message.notices for item in notice.over]
            self._unwritten[target.name] = told, over
            await self._write_down(target)
        return None

    async def _write_down(self, target: Target) -> None:
        if target.name in self._unwritten:
            await record_told(self._pool, target.name, *self._unwritten[target.name])
            del self._unwritten[target.name]

    async def tell_all(self, message: NoticeMessage) -> dict[str, str | None]:
        """Send a message to every target at once, bypassing the table; returns the failures with reasons."""
        answers = await asyncio.gather(
            *(target.send(message, timeout=self._options.send_timeout) for target in self._targets)
        )
        return {target.name: answer for target, answer in zip(self._targets, answers, strict=True)}

    async def _note(self, target: Target, failures: int, problem: str | None) -> None:
        """Record a target's state for people; written when it changes."""
        if self._noted.get(target.name) != failures:
            await record_target(self._pool, self._account, target.name, failures, problem)
            self._noted[target.name] = failures
