"""Callers of the API: users with passwords, programs with tokens, and their roles.

The role *view* can only read; *trade* can also act. There is no default user and no default password.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from web.api.sessions import Session

__all__ = ["Caller", "Program", "Role", "User", "program_before", "program_with"]

_USER = " (API)"
_PROGRAM = " (API token)"


class Role(StrEnum):
    """What a caller may do."""

    VIEW = "view"
    TRADE = "trade"


@dataclass(frozen=True, slots=True)
class User:
    """A person with a password. `digest` is that of `web.api.passwords`."""

    name: str
    role: Role
    digest: str


@dataclass(frozen=True, slots=True)
class Program:
    """A program with a bearer token."""

    name: str
    role: Role
    token: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, after authentication. `session` is None for a program."""

    name: str
    role: Role
    session: Session | None = None

    @property
    def by(self) -> str:
        """The name under which commands are stored. A program has another one than the user who is called the same."""
        return f"{self.name}{_USER}" if self.session is not None else f"{self.name}{_PROGRAM}"

    @property
    def may_trade(self) -> bool:
        """Whether it may act."""
        return self.role is Role.TRADE


def program_before(by: str) -> str | None:
    """The name under which earlier versions stored what this program did: that of a user called the same. None for
    others.
    """
    return f"{by.removesuffix(_PROGRAM)}{_USER}" if by.endswith(_PROGRAM) else None


def program_with(token: str, programs: Sequence[Program]) -> Program | None:
    """The program with this token; None if there is none. Every token is compared, in constant time."""
    given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
    found = None
    for program in programs:
        if hmac.compare_digest(hashlib.sha256(program.token).digest(), given):
            found = program
    return found
