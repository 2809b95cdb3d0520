"""A ledger's identity (SAFE-1): one mode, one set of names in Temporal, and for each account one account of the venue.

A ledger is stamped at its first start; if it already has content, by that content, never by the settings of the first
process. A process with different settings is refused with one sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from domain.errors import BotTraderError

__all__ = [
    "FIRST_START",
    "WHAT_IT_HELD",
    "AccountIdentity",
    "IdentityError",
    "LedgerIdentity",
    "Names",
    "Standing",
    "check_account",
    "check_known",
    "check_mode",
    "names_in_force",
    "names_of",
    "stamped_as",
]

FIRST_START = "first start"
WHAT_IT_HELD = "what it held"


class IdentityError(BotTraderError):
    """A process came to a ledger that isn't its own. `code` is for programs, `sentence` for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Names:
    """Where a ledger's workflows run: Temporal's namespace and our task queues."""

    namespace: str = "default"
    orders_queue: str = "orders"
    streams_queue: str = "streams"
    watchers_queue: str = "watchers"
    strategy_queue: str = "strategy"


_OF_BEFORE = Names()
"""For paper, and for every ledger created before names depended on the mode: its open workflows are there."""
_OF_LIVE = Names("bottrader-live", "live-orders", "live-streams", "live-watchers", "live-strategy")


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """A ledger's stamp; `stamped_at` in UTC."""

    mode: str
    names: Names
    stamped_by: str
    stamped_at: datetime


@dataclass(frozen=True, slots=True)
class AccountIdentity:
    """One account of a ledger. Times in UTC; `venue_account_id` is None until the venue has answered once."""

    account: str
    venue: str
    venue_account_id: str | None
    first_start_at: datetime
    armed_at: datetime | None = None
    armed_by: str | None = None
    disarmed_at: datetime | None = None

    @property
    def armed(self) -> bool:
        """Whether entries may spend real money."""
        return self.armed_at is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether new entries may be sent at all.

    `mode` is the ledger's stamp, None if it is missing. `trouble` is the process's own finding, as a clause: the
    exchange is unreachable, its clock is off.
    """

    mode: str | None = "paper"
    armed: bool = False
    trouble: str = ""

    @property
    def refusal(self) -> str:
        """Why no entries are sent, as a clause; empty: they are sent."""
        if self.mode is None:
            return "the ledger's stamp is missing, so its mode is not known: restart the worker; exits go on"
        if self.mode == "live" and not self.armed:
            return "the ledger is live and not armed: check it and arm it with `bottrader live arm`; exits go on"
        return f"{self.trouble}; exits go on" if self.trouble else ""


def names_of(mode: str) -> Names:
    """The names of a new ledger."""
    return _OF_LIVE if mode == "live" else _OF_BEFORE


def stamped_as(mode: str, given: Mapping[str, str], *, holds_something: bool) -> tuple[str, Names]:
    """The stamp: its origin and the names. `given` are names from the settings.

    Workflows of a ledger with content stay where they are.
    """
    names = _OF_BEFORE if holds_something else names_of(mode)
    return WHAT_IT_HELD if holds_something else FIRST_START, replace(names, **dict(given))


def check_mode(stamped: LedgerIdentity, mode: str) -> None:
    """Raises IdentityError for a process of the other mode."""
    if stamped.mode != mode:
        raise IdentityError(
            "LEDGER_OF_OTHER_MODE",
            f"This ledger is {stamped.mode} since {stamped.stamped_at:%Y-%m-%d}, and the settings say mode = {mode}: "
            f"use a separate ledger for {mode} (another --data folder or another database), or set mode = "
            f"{stamped.mode}.",
        )


def names_in_force(stamped: LedgerIdentity, given: Mapping[str, str]) -> Names:
    """The ledger's names. Raises IdentityError if the settings differ: its workflows would be orphaned."""
    kept = asdict(stamped.names)
    for name, value in given.items():
        if value != kept[name]:
            raise IdentityError(
                "LEDGER_OF_OTHER_NAMES",
                f"temporal.{name} is not what this ledger's workflows run under ({kept[name]}): remove the setting, "
                f"or use a separate ledger for the other name (another --data folder or another database).",
            )
    return stamped.names


def check_known(accounts: Collection[str], account: str) -> None:
    """Raises IdentityError if the ledger has accounts and this is not one of them.

    Accounts of one ledger share its task queues, so their workers would take each other's tasks: a new account needs
    its own ledger.
    """
    if accounts and account not in accounts:
        one = len(accounts) == 1
        raise IdentityError(
            "NO_SUCH_ACCOUNT",
            f"This ledger has the account{'' if one else 's'} {', '.join(sorted(accounts))}, and the settings say "
            f"account = {account}: set account = {min(accounts) if one else 'one of them'}, or use a separate ledger "
            f"for {account} (another --data folder or another database).",
        )


def check_account(stamped: AccountIdentity, venue: str, venue_account_id: str) -> None:
    """Raises IdentityError for an API key of another account; a new key of the same account has the same id."""
    if stamped.venue != venue or stamped.venue_account_id not in (None, venue_account_id):
        raise IdentityError(
            "LEDGER_OF_OTHER_ACCOUNT",
            f"Account {stamped.account} of this ledger is {stamped.venue}'s account {stamped.venue_account_id}, and "
            f"the key is of another ({venue_account_id}): use a key of the same account (it may be a new one), or a "
            f"separate ledger for the other account (another --data folder or another database).",
        )
