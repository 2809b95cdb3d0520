"""The ledger's stamps, read and written (SAFE-1, SAFE-2): mode, names in Temporal, accounts of the venue, armed or not.

Decisions about them are made in `domain.identity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import asyncpg

from activities.database import Connection, Pool, Record, Statements, lock_account
from activities.incidents import report_incident, resolve_incidents
from domain.identity import (
    AccountIdentity,
    IdentityError,
    LedgerIdentity,
    Names,
    check_account,
    check_known,
    check_mode,
    names_in_force,
    stamped_as,
)
from domain.incidents import IncidentKind
from exchange.port import Exchange

__all__ = [
    "ARMED",
    "DISARMED",
    "Brought",
    "arm",
    "check_venue_account",
    "disarm",
    "establish",
    "holds_orders",
    "key_is_known",
    "read_account",
    "read_ledger",
    "require_known",
    "stamp_empty",
]

ARMED = IncidentKind.LIVE_ARMED
DISARMED = IncidentKind.LIVE_DISARMED
_ASKED_FOR = 3
"""How many of the newest orders are requested: the venue may no longer know one, but not all."""

_HOLDS = "SELECT EXISTS (SELECT 1 FROM attempts WHERE exchange_order_id IS NOT NULL)"
_HOLDS_OF = "SELECT EXISTS (SELECT 1 FROM attempts WHERE account = $1 AND exchange_order_id IS NOT NULL)"
_NEWEST = """
SELECT exchange_order_id FROM attempts WHERE account = $1 AND exchange_order_id IS NOT NULL
 ORDER BY prepared_at DESC LIMIT $2
"""
_STAMP = """
INSERT INTO ledger_identity (mode, stamped_by, namespace, orders_queue, streams_queue, watchers_queue, strategy_queue)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING
"""
# What an account has from before was first seen then; a new one begins now.
_ACCOUNT = """
INSERT INTO account_identities (account, venue, first_start_at)
SELECT $1, $2, least(now(), (SELECT min(received_at) FROM orders WHERE account = $1),
                            (SELECT min(received_at) FROM raw_facts WHERE account = $1))
ON CONFLICT (account) DO NOTHING
"""
_OTHERS = "SELECT EXISTS (SELECT 1 FROM account_identities WHERE account <> $1)"
# Migration 0026 leaves these to workers of the release before it, where a ledger has one account.
_KEYS_OF_ONE_ACCOUNT = "DROP INDEX IF EXISTS uq_candles_of_one_account, uq_market_prices_of_one_account"
_STAMP_ACCOUNT = """
UPDATE account_identities SET venue_account_id = $2 WHERE account = $1 AND venue_account_id IS NULL
"""
_KNOW_KEY = "INSERT INTO known_keys (account, key_mark) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_KEY_IS_KNOWN = """
SELECT EXISTS (SELECT 1 FROM known_keys JOIN account_identities USING (account)
                WHERE account = $1 AND key_mark = $2 AND venue = $3 AND venue_account_id IS NOT NULL)
"""
# An account that holds orders is somebody's already: refused, its trades would be watched by nobody.
_OTHER_NAME = """
SELECT other.account
  FROM account_identities mine
  JOIN account_identities other
    ON other.venue = mine.venue AND other.venue_account_id = $2 AND other.account <> mine.account
 WHERE mine.account = $1 AND mine.venue_account_id IS NULL
   AND NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.account = $1 AND exchange_order_id IS NOT NULL)
 ORDER BY other.first_start_at LIMIT 1
"""
_TURN = """
INSERT INTO admission_turns AS t (account, taken) VALUES ($1, 1) ON CONFLICT (account) DO UPDATE SET taken = t.taken + 1
"""


@dataclass(frozen=True, slots=True)
class Brought:
    """The identity a process claims for its ledger. `names` are those given in its settings."""

    mode: str
    account: str
    venue: str
    names: Mapping[str, str] = field(default_factory=dict)


async def read_ledger(connection: Statements) -> LedgerIdentity | None:
    """The ledger's stamp; None before its first start, and in a database older than stamps."""
    try:
        row = await connection.fetchrow("SELECT * FROM ledger_identity")
    except asyncpg.UndefinedTableError:
        return None
    return None if row is None else _ledger_of(row)


async def read_account(connection: Statements, account: str) -> AccountIdentity | None:
    """An account's stamp; None before its first start. Raises the database's errors."""
    row = await connection.fetchrow("SELECT * FROM account_identities WHERE account = $1", account)
    return None if row is None else AccountIdentity(**dict(row))


async def require_known(connection: Statements, account: str) -> None:
    """Raises IdentityError if a stamped ledger has accounts and this is not one of them; the database's errors.

    An account with orders older than stamps is one of them.
    """
    accounts = [row["account"] for row in await connection.fetch("SELECT account FROM account_identities")]
    if accounts and account not in accounts and not await connection.fetchval(_HOLDS_OF, account):
        check_known(accounts, account)


async def holds_orders(connection: Statements) -> bool:
    """Whether the ledger has orders that an exchange accepted: then it belongs to an account, stamped or not."""
    return bool(await connection.fetchval(_HOLDS))


async def stamp_empty(connection: Statements, brought: Brought) -> LedgerIdentity | None:
    """The ledger's stamp; an empty ledger is stamped with the process's identity. None: only the venue can tell whose
    it is.

    Raises IdentityError for another account's ledger, and the database's errors.
    """
    stamped = await read_ledger(connection)
    if stamped is None:
        if await holds_orders(connection):
            return None
        stamped = await _stamp(connection, brought, holds_something=False)
    check_mode(stamped, brought.mode)
    names_in_force(stamped, brought.names)
    return stamped


async def establish(pool: Pool, exchange: Exchange, brought: Brought) -> tuple[LedgerIdentity, AccountIdentity]:
    """The ledger's and account's identity, stamped at the first start. The account may still lack the venue's id.

    Raises IdentityError for another account's ledger; Unavailable if only the venue can tell whose it is and it does
    not answer; the database's errors.
    """
    stamped = await stamp_empty(pool, brought)
    if stamped is None:
        await _require_its_own(pool, exchange, brought)
        stamped = await _stamp(pool, brought, holds_something=True)
        check_mode(stamped, brought.mode)
        names_in_force(stamped, brought.names)
    known = await read_account(pool, brought.account)
    if known is None:
        await require_known(pool, brought.account)
        if await pool.fetchval(_HOLDS_OF, brought.account):
            await _require_its_own(pool, exchange, brought)
        if await pool.fetchval(_OTHERS, brought.account):
            await pool.execute(_KEYS_OF_ONE_ACCOUNT)
        await pool.execute(_ACCOUNT, brought.account, brought.venue)
        known = await _account_of(pool, brought.account)
    return stamped, known


async def check_venue_account(pool: Pool, exchange: Exchange, brought: Brought) -> AccountIdentity:
    """Ask the venue for the API key's account, and compare it with the stamp, or stamp it.

    Raises Unavailable, IdentityError for another account, and the database's errors.
    """
    answered = await exchange.account_id()
    if (named := await pool.fetchval(_OTHER_NAME, brought.account, answered)) is not None:
        raise IdentityError(
            "ACCOUNT_HAS_A_NAME",
            f"The key's account at {brought.venue} ({answered}) is account {named} of this ledger already: set account "
            f"= {named}, or use a key of another account for {brought.account}.",
        )
    await pool.execute(_STAMP_ACCOUNT, brought.account, answered)
    known = await _account_of(pool, brought.account)
    check_account(known, brought.venue, answered)
    if exchange.key_mark:
        await pool.execute(_KNOW_KEY, brought.account, exchange.key_mark)
    return known


async def key_is_known(pool: Pool, exchange: Exchange, brought: Brought) -> bool:
    """Whether the venue has ever confirmed that this API key belongs to this account. A key never changes its account.
    Raises the database's errors.
    """
    return bool(await pool.fetchval(_KEY_IS_KNOWN, brought.account, exchange.key_mark, brought.venue))


async def arm(connection: Connection, account: str, by: str) -> bool:
    """Allow entries of a live account; False if they were allowed already. Raises the database's errors."""
    return await _turn(connection, account, by, armed=True)


async def disarm(connection: Connection, account: str, by: str) -> bool:
    """Refuse entries of a live account until it is armed again; False if it was not armed. Raises the database's
    errors."""
    return await _turn(connection, account, by, armed=False)


async def _turn(connection: Connection, account: str, by: str, *, armed: bool) -> bool:
    """Takes a turn, like a halt, so that no entry passes that had read the earlier stamp."""
    change = (
        "armed_at = now(), armed_by = $2, disarmed_at = NULL WHERE account = $1 AND armed_at IS NULL"
        if armed
        else "armed_at = NULL, armed_by = $2, disarmed_at = now() WHERE account = $1 AND armed_at IS NOT NULL"
    )
    async with connection.transaction():
        await lock_account(connection, account)
        if await connection.fetchrow(f"UPDATE account_identities SET {change} RETURNING account", account, by) is None:
            return False
        await connection.execute(_TURN, account)
        kind, word = (ARMED, "armed") if armed else (DISARMED, "disarmed")
        sentence = f"live trading of account {account} was {word} by {by or 'an unknown person'}"
        await report_incident(connection, account, kind, "WARNING", account, sentence)
        await resolve_incidents(connection, account, kind, account)  # it is news, not a state that lasts
    return True


async def _account_of(pool: Pool, account: str) -> AccountIdentity:
    """The stamp of an account that was started."""
    known = await read_account(pool, account)
    if known is None:
        raise AssertionError(f"account {account} has no stamp after its start")
    return known


async def _require_its_own(pool: Pool, exchange: Exchange, brought: Brought) -> None:
    """Raises IdentityError if the configured venue knows none of the account's newest orders."""
    newest = [row["exchange_order_id"] for row in await pool.fetch(_NEWEST, brought.account, _ASKED_FOR)]
    for exchange_order_id in newest:
        if await exchange.order(exchange_order_id) is not None:
            return
    raise IdentityError(
        "LEDGER_OF_ANOTHER",
        f"This ledger holds orders, and the exchange of the settings (mode = {brought.mode}, account "
        f"{brought.account}) knows none of the newest: start it with the mode, account and API key it was created "
        f"with, or use a separate ledger (another --data folder or another database).",
    )


async def _stamp(connection: Statements, brought: Brought, *, holds_something: bool) -> LedgerIdentity:
    """The stamp, ours or that of another process that was faster."""
    by, names = stamped_as(brought.mode, brought.names, holds_something=holds_something)
    await connection.execute(_STAMP, brought.mode, by, *asdict(names).values())
    stamped = await read_ledger(connection)
    if stamped is None:
        raise AssertionError("the ledger's stamp has disappeared")
    return stamped


def _ledger_of(row: Record) -> LedgerIdentity:
    names = Names(
        row["namespace"], row["orders_queue"], row["streams_queue"], row["watchers_queue"], row["strategy_queue"]
    )
    return LedgerIdentity(row["mode"], names, row["stamped_by"], row["stamped_at"])
