"""What one process knows of its venue that stops entries: whose account the key is of, and whether the venue is there.

Exits never look at it: what is open is watched and sold all the same (SAFE-2).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from activities.database import Pool
from activities.identity import Brought, check_venue_account, key_is_known, read_account
from activities.incidents import report_once, resolve_incidents
from activities.leases import DATABASE_TROUBLE
from domain.incidents import IncidentKind
from exchange.port import Exchange, ExchangeError

__all__ = ["DRY_RUN_ARMED", "ENTRIES_REFUSED", "KEY_MAY_NOT_TRADE", "StandingOptions", "VenueStanding"]

DRY_RUN_ARMED = IncidentKind.DRY_RUN_IN_ARMED_LEDGER
KEY_MAY_NOT_TRADE = IncidentKind.KEY_MAY_NOT_TRADE
ENTRIES_REFUSED = IncidentKind.ENTRIES_REFUSED
"""Open while a process sends no entry for what it knows of the venue: whoever believes that it trades is told."""
_CANT_TRADE = "the key may not trade: nothing is bought, and no stop of an open trade is sold; give it the permission"
_UNCHECKED = "the exchange has not said yet which account the key is of"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingOptions:
    """Wall seconds."""

    every_seconds: float = 10.0
    ask_again_seconds: float = 2.0
    """While the venue has not said whose account it is."""
    patience_seconds: float = 5.0
    away_after_seconds: float = 20.0
    """A live venue that was not heard of for so long is away."""
    clock_seconds: float = 30.0
    """Clocks further apart than this refuse entries in live: tokens and decisions would be judged by the wrong time."""


class VenueStanding:
    """Ask `trouble` at each entry; `begin` once before the first, and `run` beside the work."""

    def __init__(
        self,
        pool: Pool,
        exchange: Exchange,
        brought: Brought,
        *,
        dry_run: Callable[[], bool] = lambda: False,
        options: StandingOptions | None = None,
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._brought = brought
        self._dry_run = dry_run
        self._options = options or StandingOptions()
        self._checked = False
        self._known = False
        """The ledger knows this key from before; paper waits for no answer then."""
        self._heard = time.monotonic()
        self._skew: float | None = None
        """Seconds that the venue's clock is ahead; None until it was asked."""
        self._reported: bool | None = None
        """Whether the trouble is told; None: nothing is known of what a process before this one told."""

    def trouble(self) -> str:
        """Why no entry is sent now, as a clause; empty: nothing is known that stops them."""
        if not (self._checked or self._known):
            return _UNCHECKED
        if self._brought.mode != "live":
            return ""
        silent = time.monotonic() - self._heard
        if silent > self._options.away_after_seconds:
            return f"the exchange has not answered for {silent:.0f} s"
        if self._skew is None:
            return "the exchange has not said yet what time it is"
        if abs(self._skew) > self._options.clock_seconds:
            where = "behind" if self._skew > 0 else "ahead of"
            return f"this machine's clock is {abs(self._skew):.0f} s {where} the exchange's: set it (NTP)"
        return ""

    async def begin(self) -> None:
        """Ask the venue once whose account the key is of. A venue that is away is asked again by `run`.

        On paper, a key that was asked about before is left to `run`: a process that starts again while nothing can be
        read begins at once, and sends entries. With real money entries wait for the answer.

        Raises IdentityError for another's account, and the database's errors.
        """
        if self._brought.mode != "live" and await key_is_known(self._pool, self._exchange, self._brought):
            self._known = True
            await self._tell()
            return
        try:
            async with asyncio.timeout(self._options.patience_seconds):
                await self._check()
        except (ExchangeError, TimeoutError) as away:
            _log.warning("entries wait: the exchange can't say yet whose account it is", problem=str(away))
        await self._tell()

    async def run(self) -> None:
        """Until cancelled. Raises IdentityError when the venue turns out to be another's account."""
        while True:
            await asyncio.sleep(self._options.every_seconds if self._checked else self._options.ask_again_seconds)
            try:
                async with asyncio.timeout(self._options.patience_seconds):
                    if not self._checked:
                        await self._check()
                    elif self._brought.mode == "live":
                        await self._look()
                        await self._tell_dry_run()
                        await self._tell_what_the_key_may()
            except (ExchangeError, *DATABASE_TROUBLE) as problem:
                _log.debug("the exchange's standing is asked again", problem=repr(problem))
            try:
                await self._tell()
            except DATABASE_TROUBLE as problem:
                _log.debug("whether entries are refused is told later", problem=repr(problem))

    async def _check(self) -> None:
        account = await check_venue_account(self._pool, self._exchange, self._brought)
        self._heard = time.monotonic()
        self._checked = True
        _log.info("venue account checked", account=account.account, venue_account_id=account.venue_account_id)
        if self._brought.mode == "live":
            await self._look()

    async def _tell_what_the_key_may(self) -> None:
        """A key that may not trade protects nothing: the stops of trades that are open would be refused, too."""
        account = self._brought.account
        if await self._exchange.may_trade():
            await resolve_incidents(self._pool, account, KEY_MAY_NOT_TRADE, account)
        else:
            await report_once(self._pool, account, KEY_MAY_NOT_TRADE, "CRITICAL", account, _CANT_TRADE)

    async def _look(self) -> None:
        """Is the venue there, and how far are the clocks apart?"""
        asked = datetime.now(UTC)
        theirs = await self._exchange.server_time()
        ours = asked + (datetime.now(UTC) - asked) / 2
        self._skew = (theirs - ours).total_seconds()
        self._heard = time.monotonic()

    async def _tell(self) -> None:
        """What refuses entries is an incident while it lasts. Raises the database's errors."""
        account, trouble = self._brought.account, self.trouble()
        if bool(trouble) == self._reported:
            return
        if trouble:
            sentence = (
                f"no entry of account {account} is sent: {trouble}; open trades are watched and sold all the same"
            )
            await report_once(self._pool, account, ENTRIES_REFUSED, "WARNING", account, sentence)
        else:
            await resolve_incidents(self._pool, account, ENTRIES_REFUSED, account)
        self._reported = bool(trouble)

    async def _tell_dry_run(self) -> None:
        """A dry run in an armed ledger is an incident: somebody may think that it trades, or that it doesn't."""
        account = await read_account(self._pool, self._brought.account)
        if self._dry_run() and account is not None and account.armed:
            sentence = "dry_run is set, but this ledger is armed: no entry is sent; exits of open trades are"
            await report_once(self._pool, account.account, DRY_RUN_ARMED, "WARNING", "dry_run", sentence)
        else:
            await resolve_incidents(self._pool, self._brought.account, DRY_RUN_ARMED, "dry_run")
