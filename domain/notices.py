"""Which incidents are reported to people, and when: once, again while a CRITICAL one lasts, and when it is resolved.

Incidents of one kind about one subject form one story. If a story was reported within the repeat time, further
incidents wait for the next repeat: an event that occurs every second is reported every ten minutes, with its full
count. A story that was resolved before it was reported is reported once, with its end. News (INFO and over) is reported
once; quiet news is collected for up to an hour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

__all__ = ["Incident", "Notice", "NoticeMessage", "Phase", "as_messages", "due_notices", "loud_and_quiet"]

_RANK = {"INFO": 0, "WARNING": 1, "CRITICAL": 2}
_SINGLE_MESSAGES = 3
_LONGEST_DIGEST = 20


class Phase(StrEnum):
    """A story's phase when it is reported."""

    NEW = "new"
    LASTING = "still so"
    OVER = "over"
    PAST = "over already"
    """It began and was resolved before it was reported."""
    NEWS = "news"
    """An event, not a lasting state."""


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident, and what one target has been sent about it. Times are UTC."""

    id: int
    kind: str
    severity: str
    subject: str
    sentence: str
    at: datetime
    resolved_at: datetime | None = None
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A story to send to one target now. `reported` and `over` are the incidents that this settles."""

    phase: Phase
    kind: str
    severity: str
    subject: str
    sentence: str
    since: datetime
    until: datetime | None
    times: int
    reported: tuple[int, ...]
    over: tuple[int, ...]

    @property
    def line(self) -> str:
        """One sentence with times (UTC), and how often it happened."""
        often = f" ({self.times} times)" if self.times > 1 else ""
        if self.phase is Phase.NEWS:
            return f"{self.sentence}\n{self.since:%Y-%m-%d %H:%M:%S} UTC{often}"
        span = f"since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        if self.until is not None:
            seconds = max((self.until - self.since).total_seconds(), 0.0)
            span = f"from {self.since:%Y-%m-%d %H:%M:%S} UTC for {_duration(seconds)}"
        return f"{self.sentence}\n{self.phase.value}, {span}{often}"

    @property
    def title(self) -> str:
        """A short title; news names its subject in its sentence."""
        if self.phase is Phase.NEWS:
            return self.kind.replace("_", " ").lower()
        return f"{self.level} {self.kind} {self.subject}".strip()

    @property
    def level(self) -> str:
        """INFO, WARNING or CRITICAL; SUCCESS if resolved."""
        return "SUCCESS" if self.phase in (Phase.OVER, Phase.PAST) else self.severity


@dataclass(frozen=True, slots=True)
class NoticeMessage:
    """One message as sent. `level` is INFO, WARNING, CRITICAL or SUCCESS."""

    title: str
    body: str
    level: str
    notices: tuple[Notice, ...] = ()


def due_notices(incidents: Iterable[Incident], now: datetime, *, repeat: timedelta) -> list[Notice]:
    """The notices to send to a target now, the most severe first, then the oldest.

    `incidents` are those not sent yet and, of those sent, the ones not settled or sent within the repeat time.
    """
    stories: dict[tuple[str, str], list[Incident]] = {}
    for incident in incidents:
        stories.setdefault((incident.kind, incident.subject), []).append(incident)
    found = [_notice(sorted(story, key=lambda item: item.id), now, repeat) for story in stories.values()]
    due = [notice for notice in found if notice is not None]
    return sorted(due, key=lambda item: (-_RANK.get(item.severity, 0), item.since))


def _notice(story: Sequence[Incident], now: datetime, repeat: timedelta) -> Notice | None:
    news = [item for item in story if item.told_at is None]
    told = [item for item in story if item.told_at is not None]
    open_told = [item for item in told if item.resolved_at is None]
    lasting = any(item.resolved_at is None for item in story)
    recently = any(item.told_at is not None and now - item.told_at < repeat for item in open_told)
    if not lasting and all(item.severity == "INFO" for item in story):
        return _of(news, Phase.NEWS, settled=told) if news else None
    if not lasting:
        return _of(story, Phase.OVER if told else Phase.PAST)
    if open_told and recently:
        return None
    if open_told and (news or open_told[-1].severity == "CRITICAL"):
        return _of([*open_told, *news], Phase.LASTING)
    # What was told before and is over belongs to the story's last episode: it is settled by telling the next one.
    return _of(news, Phase.NEW, settled=told) if news else None


def _of(items: Sequence[Incident], phase: Phase, *, settled: Sequence[Incident] = ()) -> Notice:
    last = items[-1]
    ends = [item.resolved_at for item in items if item.resolved_at is not None]
    ended = [item.id for item in (*settled, *items) if item.resolved_at is not None]
    return Notice(
        phase=phase,
        kind=last.kind,
        severity=max((item.severity for item in items), key=lambda level: _RANK.get(level, 0)),
        subject=last.subject,
        sentence=last.sentence,
        since=items[0].at,
        until=max(ends) if ends and phase in (Phase.OVER, Phase.PAST) else None,
        times=len(items),
        reported=tuple(item.id for item in items),
        over=tuple(ended),
    )


def loud_and_quiet(
    notices: Sequence[Notice], quiet: Collection[str], now: datetime, *, wait: timedelta
) -> tuple[list[Notice], list[Notice]]:
    """Splits notices into those sent at once and those of the `quiet` kinds sent together, once the oldest has waited
    this long."""
    loud = [item for item in notices if item.kind not in quiet]
    waiting = [item for item in notices if item.kind in quiet]
    due = any(now - item.since >= wait for item in waiting)
    return loud, waiting if due else []


def as_messages(account: str, notices: Sequence[Notice], *, together: bool = False) -> list[NoticeMessage]:
    """One message for each notice while there are few; many at once, or all marked `together`, are combined, twenty to
    a message, to avoid a flood.
    """
    if len(notices) <= _SINGLE_MESSAGES and not together:
        return [NoticeMessage(f"BotTrader {account}: {item.title}", item.line, item.level, (item,)) for item in notices]
    found = []
    for start in range(0, len(notices), _LONGEST_DIGEST):
        part = tuple(notices[start : start + _LONGEST_DIGEST])
        worst = max((item.level for item in part), key=lambda level: _RANK.get(level, -1))
        body = "\n\n".join(f"{item.title}\n{item.line}" for item in part)
        many = f"{len(part)} notices, the worst {worst}" if len(part) > 1 else part[0].title
        found.append(NoticeMessage(f"BotTrader {account}: {many}", body, worst, part))
    return found


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
