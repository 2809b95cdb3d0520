"""The PostgreSQL pool: JSON as Python values, Decimals exact, every statement with a time limit."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

import asyncpg
import orjson

__all__ = [
    "STALLED_MS",
    "SYMBOL_LOCK",
    "Connection",
    "Pool",
    "Record",
    "Statements",
    "account_transaction",
    "bounded_transaction",
    "coin_transaction",
    "create_pool",
    "decisions_transaction",
    "lock_account",
    "lock_order",
    "lock_symbol",
    "lock_trade",
    "symbol_transaction",
    "trade_transaction",
    "write_many",
]


class Record(Protocol):
    """A row by the names of its columns, as asyncpg returns it; a mapping serves, too.

    Its values have the types of the statement's columns, which only PostgreSQL knows: hence `Any`.
    """

    def __getitem__(self, column: str, /) -> Any:
        """The column's value. Raises KeyError."""

    def keys(self) -> Iterable[str]:
        """The columns' names."""


class Statements(Protocol):
    """The methods common to a pool and a connection, as in asyncpg, which ships no types.

    Rows are not typed: their columns, and whether there is one, are known where the statement is written.

    `timeout` is in wall seconds; the default is the pool's limit. All raise asyncpg's errors, OSError or TimeoutError.
    """

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Execute a statement; returns the server's status, such as "UPDATE 1"."""

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Execute a statement for each row."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """All rows."""

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """The first row; None if there is none."""

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """A column of the first row; None if there is none."""

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[Any]],
        columns: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> str:
        """Write many rows at once; returns the server's status."""


class Transaction(Protocol):
    """A transaction around a body (committed, or rolled back on an error), or begun and ended explicitly."""

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, *_error: object) -> Any: ...

    async def start(self) -> None:
        """Begin it."""

    async def commit(self) -> None:
        """Keep what was done."""

    async def rollback(self) -> None:
        """Undo what was done."""


class Connection(Statements, Protocol):
    """One session of the database."""

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """A transaction around the body, or a savepoint within one."""

    def query_logger(self, callback: Callable[..., Any]) -> AbstractContextManager[Any]:
        """Call `callback` with each statement of the body."""

    def is_closed(self) -> bool:
        """Whether the session has ended."""

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""

    async def set_type_codec(
        self, typename: str, *, schema: str = "public", encoder: Callable[[Any], Any], decoder: Callable[[Any], Any]
    ) -> None:
        """Set how values of a type are read and written."""

    async def add_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """Call `callback` with each notification of a channel."""

    async def remove_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """End that."""

    def add_termination_listener(self, callback: Callable[..., Any]) -> None:
        """Call `callback` when the session ends."""

    def remove_termination_listener(self, callback: Callable[..., Any]) -> None:
        """End that."""

    def terminate(self) -> None:
        """End the session at once."""

    async def close(self, *, timeout: float | None = None) -> None:
        """End the session."""


class Pool(Statements, Protocol):
    """A pool of database sessions; each statement uses a free one, or waits for one."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """A session for the body alone."""

    async def close(self) -> None:
        """Wait until all sessions are free, then end them."""

    async def expire_connections(self) -> None:
        """Replace each session by a new one when it is next free."""

    def terminate(self) -> None:
        """End all sessions at once."""


_ACCOUNT_LOCK = 71
SYMBOL_LOCK = 72
_COIN_LOCK = 76
_DECISIONS_LOCK = 75
STALLED_MS = 4_000
"""A process that stalls inside a transaction loses it after this time, together with its locks; one that waits for a
lock gives up after this time, so that a stalled process does not get the lock again and again. Milliseconds of wall
time.
"""


def _dump(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=_dump, decoder=orjson.loads, schema="pg_catalog")
    await connection.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog")
    await connection.set_type_codec("json", encoder=_dump, decoder=orjson.loads, schema="pg_catalog")


async def _keep_session(_connection: Connection) -> None:
    """Nothing we set outlives its transaction (locks, SET LOCAL), so a connection returns to the pool unchanged.

    asyncpg's own reset would cost each transaction another round trip. It still ends open transactions and listeners
    before this is called.
    """


async def create_pool(dsn: str, *, size: int = 10, statement_seconds: float = 20.0) -> Pool:
    """Open a pool of `size` connections (created as needed). Raises asyncpg's and OS errors if it can't connect."""
    pool: Pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        init=_prepare,
        reset=_keep_session,
        command_timeout=statement_seconds,
        server_settings={"application_name": "bottrader", "timezone": "UTC"},
    )
    return pool


@contextlib.asynccontextmanager
async def account_transaction(pool: Pool, account: str) -> AsyncIterator[Connection]:
    """A transaction that holds the account's lock: begun and locked in one round trip."""
    async with _locked(pool, _ACCOUNT_LOCK, account) as connection:
        yield connection


@contextlib.asynccontextmanager
async def symbol_transaction(pool: Pool, account: str, symbol: str) -> AsyncIterator[Connection]:
    """A transaction that holds the symbol's lock: begun and locked in one round trip."""
    async with _locked(pool, SYMBOL_LOCK, f"{account}/{symbol}") as connection:
        yield connection


@contextlib.asynccontextmanager
async def coin_transaction(pool: Pool, account: str, base: str) -> AsyncIterator[Connection]:
    """A transaction that holds a coin's lock: claims on the coin's pool are serialised, for all its products.

    No other lock but the account's turn is taken while it is held.
    """
    async with _locked(pool, _COIN_LOCK, f"{account}/{base}") as connection:
        yield connection


@contextlib.asynccontextmanager
async def decisions_transaction(pool: Pool, account: str) -> AsyncIterator[Connection]:
    """A transaction that excludes other strategy runs of the account from storing their decisions."""
    async with _locked(pool, _DECISIONS_LOCK, account) as connection:
        yield connection


@contextlib.asynccontextmanager
async def trade_transaction(pool: Pool, entry_key: str) -> AsyncIterator[Connection]:
    """A transaction that locks a trade, begun and locked in one round trip, so that its claim is exact.

    Exits take this lock and not the symbol's, so that a stalled holder of the latter can't delay a due stop.
    """
    literal = _literal(entry_key)
    rows = "".join(
        f"; SELECT FROM {table} WHERE entry_key = {literal} FOR NO KEY UPDATE" for table in ("exit_plans", "trades")
    )
    async with _begun(pool, rows) as connection:
        yield connection


@contextlib.asynccontextmanager
async def bounded_transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction that ends soon if its process stalls, with the same limit on waiting for a row."""
    async with _begun(pool, "") as connection:
        yield connection


@contextlib.asynccontextmanager
async def _locked(pool: Pool, lock: int, name: str) -> AsyncIterator[Connection]:
    async with _begun(pool, f"; SELECT pg_advisory_xact_lock({lock}, hashtext({_literal(name)}))") as connection:
        yield connection


def _literal(text: str) -> str:
    # Only a statement without parameters may be two in one, so a name becomes a literal.
    return "'" + text.replace("'", "''") + "'"


@contextlib.asynccontextmanager
async def _begun(pool: Pool, lock: str) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection:
        try:
            await connection.execute(
                f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {STALLED_MS}; "
                f"SET LOCAL lock_timeout = {STALLED_MS}{lock}"
            )
            yield connection
            await connection.execute("COMMIT")
        except BaseException:
            if not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            raise


async def write_many(connection: Connection, query: str, rows: Iterable[Sequence[Any]]) -> None:
    """`executemany` within a transaction, in complete batches.

    asyncpg sends many rows in chunks before it signals their end, and PostgreSQL does not count the session as idle in
    between: a process that stalls there would keep its locks for ever. Between our batches the session is idle in its
    transaction, so the time limit applies.
    """
    piece: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        length = sum(_length(value) for value in row)
        if piece and size + length > _PIECE:
            await connection.executemany(query, piece)
            piece, size = [], 0
        piece.append(row)
        size += length
    if piece:
        await connection.executemany(query, piece)


_PIECE = 64 * 1024
"""Bytes; asyncpg sends 128 KiB at once."""


def _length(value: object) -> int:
    """About how many bytes a parameter is."""
    if isinstance(value, str):
        return len(value.encode(errors="replace")) + 8
    return len(_dump(value)) + 8 if isinstance(value, (dict, list, tuple)) else 24


async def lock_account(connection: Connection, account: str) -> None:
    """Serialise entries of one account until the transaction ends. Always before a symbol's lock."""
    await connection.execute(_LOCK, _ACCOUNT_LOCK, account, str(STALLED_MS))


async def lock_symbol(connection: Connection, account: str, symbol: str, *, long: bool = False) -> None:
    """Serialise everything that moves a symbol's quantity until the transaction ends.

    `long`: for work that computes for more than a few seconds between two statements; the idle limit does not apply.
    """
    limit = "0" if long else str(STALLED_MS)
    await connection.execute(_LOCK, SYMBOL_LOCK, f"{account}/{symbol}", limit)


async def lock_trade(connection: Connection, entry_key: str) -> None:
    """Lock a trade until the transaction ends: claims, sells and closes of it are serialised.

    Always after the symbol's lock, if that is held, and the plan before the trade, in the same order as a fill.
    """
    await connection.execute(_LOCK_TRADE, entry_key, str(STALLED_MS))


async def lock_order(connection: Connection, order_key: str) -> Any:
    """Lock an order and its attempts until the transaction ends, in the same order as reports do; returns the order's
    row.
    """
    await connection.execute("SELECT FROM attempts WHERE order_key = $1 ORDER BY number FOR NO KEY UPDATE", order_key)
    return await connection.fetchrow("SELECT * FROM orders WHERE order_key = $1 FOR NO KEY UPDATE", order_key)


_LOCK_TRADE = """
WITH bounds AS MATERIALIZED (
    SELECT set_config('idle_in_transaction_session_timeout', $2, true), set_config('lock_timeout', $2, true)
), plan AS MATERIALIZED (
    SELECT 1 FROM exit_plans WHERE entry_key = $1 FOR NO KEY UPDATE
)
SELECT FROM trades t, (SELECT count(*) FROM bounds) b, (SELECT count(*) FROM plan) p
 WHERE t.entry_key = $1 FOR NO KEY UPDATE OF t
"""


# One round trip; columns are evaluated in their order, so the limits hold for the wait, too.
_LOCK = """
SELECT set_config('idle_in_transaction_session_timeout', $3, true), set_config('lock_timeout', $3, true),
       pg_advisory_xact_lock($1, hashtext($2))
"""
