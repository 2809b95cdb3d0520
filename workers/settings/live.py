"""The settings in force while a process runs: call `current` each time, never store its result.

They follow what is set by command (`bottrader config set`: at once by a notification, else within a second) and the
settings file (within two seconds of its last change, so that a half-written one is not read). Keys that are not LIVE
keep the values that the process started with. Invalid settings change nothing, and are an incident until they are
corrected.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import structlog
from pydantic import BaseModel

from activities.database import Pool
from activities.incidents import report_once, resolve_incidents
from activities.leases import DATABASE_TROUBLE
from activities.notifications import listen
from activities.policy import Policy
from domain.incidents import IncidentKind
from workers.settings import Settings, build
from workers.settings.changes import CHANNEL, read_overrides, record_base
from workers.settings.keys import applies_live, leaves
from workers.settings.problems import ConfigError, shown_key
from workers.settings.sources import Override, SettingSources, file_stamp
from workers.settings.values import policy_of

__all__ = ["BAD_SETTINGS", "NEEDS_RESTART", "LiveSettings"]

BAD_SETTINGS = IncidentKind.SETTINGS_UNUSABLE
NEEDS_RESTART = IncidentKind.SETTINGS_NEED_RESTART
_LOOK_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class LiveSettings:
    """The settings of one process, with the changes since its start.

    Without `sources` they are the given ones, with settings set by command on top.
    """

    def __init__(self, settings: Settings, pool: Pool, sources: SettingSources | None = None) -> None:
        self._pool = pool
        self._account = settings.account
        self._started = settings
        self._base = (sources or SettingSources(from_file=settings.model_dump())).under({})
        self._overrides: dict[str, Override] = {}
        self._stamp = self._stamp_seen = self._base.stamp
        self._hint = asyncio.Event()
        self._told_restart: tuple[str, ...] = ()
        self._told_bad: dict[str, str] = {}
        self._subject = f"settings on {socket.gethostname()}"
        self._acts: list[Callable[[Settings], Awaitable[None]]] = []
        self._changed = asyncio.Event()
        self._take(settings)

    @property
    def current(self) -> Settings:
        """The settings in force now."""
        return self._current

    @property
    def policy(self) -> Policy:
        """The settings for the activities."""
        return self._policy

    def on_change(self, act: Callable[[Settings], Awaitable[None]]) -> None:
        """Call `act` after each change with the settings in force; retried each second until it succeeds."""
        self._acts.append(act)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow changes during the block; earlier changes are in force when it begins.

        Raises ConfigError if the settings contradict each other, and the database's errors.
        """
        await self._begin()
        tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(listen(self._pool, [CHANNEL], self._heard, self._hint.set)),
            asyncio.create_task(self._act_on_changes()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _heard(self, _channel: str, account: str) -> None:
        if account == self._account:
            self._hint.set()

    async def _begin(self) -> None:
        async with self._pool.acquire() as connection:
            self._overrides = await read_overrides(connection, self._account)
            self._take(self._only_live(build(self._base.under(self._overrides))))
            await record_base(connection, self._base, starting=True)
            for kind in (BAD_SETTINGS, NEEDS_RESTART):
                await resolve_incidents(connection, self._account, kind, self._subject)

    async def _follow(self) -> None:
        while True:
            self._hint.clear()
            try:
                await self._look_at_file()
                await self._look_at_overrides()
            except DATABASE_TROUBLE as trouble:
                _log.warning("settings not looked at, tried again", problem=repr(trouble))
            except Exception as defect:  # noqa: BLE001 - whatever it is, trading goes on with what is in force
                _log.error("settings can't be followed, tried again", problem=repr(defect), exc_info=defect)
            # Not wait_for: on Python 3.11 it forgets a cancel that comes together with what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._hint.wait()

    async def _act_on_changes(self) -> None:
        """Runs separately from watching for changes: a server that is unreachable must not delay the next change."""
        acted_on = self._current
        while True:
            await self._changed.wait()
            self._changed.clear()
            current = self._current
            if current == acted_on:
                continue
            try:
                for act in self._acts:
                    await act(current)
                acted_on = current
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is tried again
                _log.warning("a change of settings not acted on yet", problem=repr(problem))
                self._changed.set()
                await asyncio.sleep(_LOOK_SECONDS)

    # --- the file -----------------------------------------------------------------------------------------------------

    async def _look_at_file(self) -> None:
        if self._base.watched is None:
            return
        stamp = file_stamp(self._base.watched)
        if stamp != self._stamp_seen:
            # Being written: it is read when it has been the same for a round.
            self._stamp_seen = stamp
            return
        if stamp == self._stamp:
            return
        try:
            base = await asyncio.to_thread(self._base.again)
            build(base)
            settings = build(base.under(self._overrides))
        except ConfigError as problem:
            await self._cannot_be_used("file", problem)
        else:
            async with self._pool.acquire() as connection:
                await record_base(connection, self._applied(base), starting=False)
            self._base = base
            self._take(self._only_live(settings))
            await self._usable_again("file")
            await self._say_what_waits(settings)
        self._stamp = stamp

    def _applied(self, base: SettingSources) -> SettingSources:
        """`base` as it applies in this process: a new account in the file applies from the next start."""
        return replace(base, from_environment={**base.from_environment, "account": self._account})

    async def _say_what_waits(self, settings: Settings) -> None:
        waits = tuple(_waiting(self._current, settings))
        if waits == self._told_restart:
            return
        if waits:
            sentence = (
                f"{self._base.file}: {', '.join(waits)} {'was' if len(waits) == 1 else 'were'} changed; that needs a "
                "restart of the workers."
            )
            _log.warning("settings need a restart", keys=waits)
            await resolve_incidents(self._pool, self._account, NEEDS_RESTART, self._subject)
            await report_once(
                self._pool, self._account, NEEDS_RESTART, "WARNING", self._subject, sentence, {"keys": list(waits)}
            )
        else:
            await resolve_incidents(self._pool, self._account, NEEDS_RESTART, self._subject)
        self._told_restart = waits

    # --- what is set by command ---------------------------------------------------------------------------------------

    async def _look_at_overrides(self) -> None:
        found = await read_overrides(self._pool, self._account)
        if found == self._overrides:
            return
        try:
            settings = build(self._base.under(found))
        except ConfigError as problem:
            await self._cannot_be_used("overrides", problem)
            return
        self._overrides = found
        self._take(self._only_live(settings))
        await self._usable_again("overrides")
        if "file" in self._told_bad:
            # What it contradicted may be gone.
            self._stamp = (0, 0, 0)

    # --- both ---------------------------------------------------------------------------------------------------------

    def _take(self, settings: Settings) -> None:
        self._policy = policy_of(settings)
        self._current = settings
        self._changed.set()

    def _only_live(self, settings: Settings) -> Settings:
        """`settings` with every key that is not LIVE as at this process's start."""
        return Settings(**_graft(self._started, settings, live=False))

    async def _cannot_be_used(self, what: str, problem: ConfigError) -> None:
        sentence = " ".join(problem.problems)
        if self._told_bad.get(what) == sentence:
            return
        _log.error("changed settings can't be used", problems=problem.problems)
        await resolve_incidents(self._pool, self._account, BAD_SETTINGS, self._subject)
        await report_once(
            self._pool,
            self._account,
            BAD_SETTINGS,
            "WARNING",
            self._subject,
            f"The changed settings are not valid, so the previous ones stay in force: {sentence}",
            {"problems": list(problem.problems)},
        )
        self._told_bad[what] = sentence

    async def _usable_again(self, what: str) -> None:
        if self._told_bad.pop(what, None) is not None and not self._told_bad:
            await resolve_incidents(self._pool, self._account, BAD_SETTINGS, self._subject)


def _graft(started: BaseModel, new: BaseModel, *, live: bool) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, field in type(started).model_fields.items():
        old, fresh = getattr(started, name), getattr(new, name)
        applies = applies_live(field, above=live)
        if isinstance(old, BaseModel) and isinstance(fresh, BaseModel):
            merged[name] = _graft(old, fresh, live=applies)
        elif applies and isinstance(fresh, dict):
            merged[name] = {
                key: _graft(old[key], item, live=True)
                if isinstance(item, BaseModel) and isinstance(old.get(key), BaseModel)
                else item
                for key, item in fresh.items()
            }
        else:
            merged[name] = fresh if applies else old
    return merged


def _waiting(current: Settings, wanted: Settings) -> Iterator[str]:
    """Keys whose value in the sources differs from the one in force."""
    now = {leaf.key: leaf.value for leaf in leaves(current)}
    for leaf in leaves(wanted):
        if not leaf.live and now.get(leaf.key) != leaf.value:
            yield shown_key(leaf.key.split("."))
