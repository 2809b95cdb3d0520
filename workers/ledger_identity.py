"""Compares the settings with the ledger's stamps: every process that opens a ledger uses this (SAFE-1).

Errors are sentences for people: another account's ledger is a UserError; if only the venue could tell whose it is and
it does not answer, an UnreachableError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import asdict, replace

import asyncpg

from activities.database import Pool, Statements
from activities.identity import Brought, establish, read_ledger, require_known, stamp_empty
from activities.leases import DATABASE_TROUBLE
from domain.identity import IdentityError, LedgerIdentity, Names, check_mode, names_in_force
from exchange.port import Exchange, ExchangeError
from workers.errors import UnreachableError, UserError
from workers.settings import Settings, build
from workers.settings.sources import SettingSources

__all__ = [
    "begin_on_ledger",
    "brought_by",
    "found_on_ledger",
    "in_sentences",
    "on_ledger",
    "refuse_other_account",
    "refuse_other_mode",
    "require_own",
    "stamp_before_start",
    "with_names",
]

_LOOK_SECONDS = 3.0


@contextlib.contextmanager
def in_sentences() -> Iterator[None]:
    """Turns IdentityError, and a venue that does not answer, into errors for the command line."""
    try:
        yield
    except IdentityError as refused:
        raise UserError(refused.code, refused.sentence) from None
    except ExchangeError as away:
        raise UnreachableError(
            "NO_EXCHANGE",
            f"Only the exchange can tell which account this ledger belongs to, and it can't be reached ({away}): "
            f"check its address, the API key and the network, then start again.",
        ) from None


def brought_by(settings: Settings, sources: SettingSources | None = None) -> Brought:
    """The identity in these settings; with `sources`, values added by the ledger itself are not included."""
    given = {
        name: getattr(settings.temporal, name)
        for name in asdict(Names())
        if name in settings.temporal.model_fields_set
        and (sources is None or sources.origin(f"temporal.{name}") != "default")
    }
    return Brought(settings.mode, settings.account, settings.exchange.venue, given)


def with_names(sources: SettingSources, names: Names) -> SettingSources:
    """The sources, with the ledger's names where they have none."""
    return replace(sources, from_ledger={"temporal": asdict(names)})


def on_ledger(sources: SettingSources) -> SettingSources:
    """`found_on_ledger` for a command that runs no event loop yet."""
    return asyncio.run(found_on_ledger(sources))


async def found_on_ledger(sources: SettingSources) -> SettingSources:
    """The sources with the ledger's stamp: one read of the database, no request to the venue.

    Without a database, or if it does not answer, nothing changes: code that needs it will report that, and checks again
    when it opens it (`require_own`). Raises UserError for another ledger or account, and ConfigError.
    """
    settings = build(sources)
    if settings.database.url is None:
        return sources
    stamped = await _look(settings.database.dsn, settings.account)
    if stamped is None:
        return sources
    with in_sentences():
        check_mode(stamped, settings.mode)
        return with_names(sources, names_in_force(stamped, brought_by(settings, sources).names))


async def stamp_before_start(dsn: str, brought: Brought) -> LedgerIdentity | None:
    """The stamp of a ledger before its use; an empty one is stamped. None: the first worker asks the venue. Raises
    UserError for another account's ledger, and asyncpg's errors.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        with in_sentences():
            return await stamp_empty(connection, brought)
    finally:
        await connection.close(timeout=5)


async def require_own(connection: Statements, settings: Settings) -> None:
    """Check the stamp on an open connection: the database may have been unreachable or too slow for `on_ledger`.

    Raises UserError for another ledger or account, UnreachableError if its names arrived too late, and the database's
    errors.
    """
    stamped = await read_ledger(connection)
    if stamped is None:
        return
    with in_sentences():
        check_mode(stamped, settings.mode)
        await require_known(connection, settings.account)
    if any(getattr(settings.temporal, name) != kept for name, kept in asdict(stamped.names).items()):
        raise UnreachableError(
            "NO_DATABASE",
            "The database did not return this ledger's names in Temporal in time: nothing was done, try again.",
        )


async def refuse_other_mode(dsn: str, mode: str) -> None:
    """Called before anything is changed in a database. Raises UserError for a ledger of the other mode, and asyncpg's
    errors.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        stamped = await read_ledger(connection)
    finally:
        await connection.close(timeout=5)
    if stamped is not None:
        with in_sentences():
            check_mode(stamped, mode)


async def refuse_other_account(dsn: str, account: str) -> None:
    """Raises UserError for an account that a stamped ledger does not have, and asyncpg's errors."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        with in_sentences():
            await require_known(connection, account)
    finally:
        await connection.close(timeout=5)


async def begin_on_ledger(
    settings: Settings, sources: SettingSources | None, pool: Pool, exchange: Exchange
) -> tuple[Settings, SettingSources | None]:
    """Settings and sources with the names in force, after the ledger's identity is verified. It is stamped here at its
    first start. Raises UserError, UnreachableError and the database's errors.
    """
    with in_sentences():
        stamped, _ = await establish(pool, exchange, brought_by(settings, sources))
    if sources is not None:
        sources = with_names(sources, stamped.names)
        return build(sources), sources
    temporal = settings.temporal.model_copy(update=asdict(stamped.names))
    return settings.model_copy(update={"temporal": temporal}), None


async def _look(dsn: str, account: str) -> LedgerIdentity | None:
    """The stamp of a ledger; raises UserError for an account that it does not have. None: not available at once."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            connection = await asyncpg.connect(dsn)
            try:
                stamped = await read_ledger(connection)
                if stamped is not None:
                    with in_sentences():
                        await require_known(connection, account)
                return stamped
            finally:
                await connection.close()
    except DATABASE_TROUBLE:
        return None
