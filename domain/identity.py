"""Whose ledger it is (SAFE-1): one mode, one set of names in Temporal, and for each account one account of the venue.

A ledger is stamped at its first start, one that holds something already by what it holds, never by the settings of the
process that comes first. Whoever comes with something else is refused with one sentence.
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
    """Where a ledger's workflows are: Temporal's namespace and our task queues."""

    namespace: str = "default"
    orders_queue: str = "orders"
    streams_queue: str = "streams"
    watchers_queue: str = "watchers"
    strategy_queue: str = "strategy"


_OF_BEFORE = Names()
"""Of paper, and of every ledger from before there were names by mode: its open workflows are there."""
_OF_LIVE = Names("bottrader-live", "live-orders", "live-streams", "live-watchers", "live-strategy")


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """What a ledger is stamped with; `stamped_at` in UTC."""

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
    """Whether new entries may be sent at all, whoever asks for them.

    `mode` is the ledger's stamp, None where it is gone. `trouble` is what the process itself knows, as a clause: the
    venue is away, its clock is off.
    """

    mode: str | None = "paper"
    armed: bool = False
    trouble: str = ""

    @property
    def refusal(self) -> str:
        """Why no entry is sent, as a clause; empty: they are."""
        if self.mode is None:
            return "whose ledger this is isn't known, as its stamp is gone: start the worker again; exits go on"
        if self.mode == "live" and not self.armed:
            return "this is live and not armed: look at it and arm it with `bottrader live arm`; exits go on"
        return f"{self.trouble}; exits go on" if self.trouble else ""


def names_of(mode: str) -> Names:
    """The names of a new ledger."""
    return _OF_LIVE if mode == "live" else _OF_BEFORE


def stamped_as(mode: str, given: Mapping[str, str], *, holds_something: bool) -> tuple[str, Names]:
    """What to stamp: by what, and the names. `given` are names that the settings say themselves.

    Workflows of a ledger that holds something are where they always were.
    """
    names = _OF_BEFORE if holds_something else names_of(mode)
    return WHAT_IT_HELD if holds_something else FIRST_START, replace(names, **dict(given))


def check_mode(stamped: LedgerIdentity, mode: str) -> None:
    """Raises IdentityError for a process of the other mode."""
    if stamped.mode != mode:
        raise IdentityError(
            "LEDGER_OF_OTHER_MODE",
            f"This ledger is {stamped.mode} since {stamped.stamped_at:%Y-%m-%d}, and the settings say mode = {mode}: "
            f"give {mode} a ledger of its own (another --data folder, or another database), or set mode = "
            f"{stamped.mode}.",
        )


def names_in_force(stamped: LedgerIdentity, given: Mapping[str, str]) -> Names:
    """The ledger's names. Raises IdentityError where the settings say others: its workflows would be left alone."""
    kept = asdict(stamped.names)
    for name, value in given.items():
        if value != kept[name]:
            raise IdentityError(
                "LEDGER_OF_OTHER_NAMES",
                f"temporal.{name} is not what this ledger's workflows run under ({kept[name]}): leave it out, or give "
                "the other name a ledger of its own (another --data folder, or another database).",
            )
    return stamped.names


def check_known(accounts: Collection[str], account: str) -> None:
    """Raises IdentityError where a ledger has accounts and this is none of them.

    Accounts of one ledger share its task queues, where one's worker would be in the way of another's: a new one has a
    ledger of its own.
    """
    if accounts and account not in accounts:
        one = len(accounts) == 1
        raise IdentityError(
            "NO_SUCH_ACCOUNT",
            f"This ledger has the account{'' if one else 's'} {', '.join(sorted(accounts))}, and the settings say "
            f"account = {account}: set account = {min(accounts) if one else 'one of them'}, or give {account} a ledger "
            "of its own (another --data folder, or another database).",
        )


def check_account(stamped: AccountIdentity, venue: str, venue_account_id: str) -> None:
    """Raises IdentityError for a key of another account; a new key of the same one has the same id."""
    if stamped.venue != venue or stamped.venue_account_id not in (None, venue_account_id):
        raise IdentityError(
            "LEDGER_OF_OTHER_ACCOUNT",
            f"Account {stamped.account} of this ledger is {stamped.venue}'s account {stamped.venue_account_id}, and "
            f"the key is of another ({venue_account_id}): use a key of the same account (a new one will do), or give "
            "the other a ledger of its own (another --data folder, or another database).",
        )
