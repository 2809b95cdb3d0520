"""Addresses of PostgreSQL: SQLAlchemy reads them, but is only loaded for one that needs it.

Loading it is an eighth of a worker's start, and the address of nearly everybody is a plain one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = ["asyncpg_address", "parsed", "plain_address"]

_WORD = r"[A-Za-z0-9_-]+"
_PLAIN = re.compile(
    rf"(?P<server>postgresql://(?:{_WORD}(?::{_WORD})?@)?(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*(?::[1-9][0-9]{{0,4}})?)?/{_WORD})"
    r"(?:\?host=(?P<host>/[A-Za-z0-9_./-]+)(?P<port>&port=[0-9]{1,5})?)?"
)


def parsed(address: str) -> URL:
    """The address as SQLAlchemy has it. Raises ValueError for what is no address of a database."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - see the module
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        return make_url(address)
    except ArgumentError as error:
        raise ValueError("no address of a database") from error


def plain_address(address: str) -> str | None:
    """How SQLAlchemy would write the address, if it has no escape or list that it would be needed for; else None."""
    found = _PLAIN.fullmatch(address)
    if found is None:
        return None
    host = found["host"]
    return found["server"] + (f"?host={quote_plus(host)}{found['port'] or ''}" if host else "")


def asyncpg_address(address: str) -> str:
    """The address for asyncpg and libpq. Raises ValueError for what is no address of a database."""
    return plain_address(address) or parsed(address).set(drivername="postgresql").render_as_string(hide_password=False)
