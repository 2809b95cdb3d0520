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


class Statements(Protocol):
    """What a pool and a connection both do, as asyncpg does it; asyncpg itself ships no types.

    Rows are not typed: which columns they have, and whether there is one at all, is known where a statement is written.

    `timeout` is in wall seconds; without one the pool's limit holds. All raise asyncpg's errors,
    OSError or TimeoutError.
    """

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Do it; the server's status, such as "UPDATE 1"."""

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Do it for each of the rows."""

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
        """Write many rows at once; the server's status."""


class Transaction(Protocol):
    """Around a body (committed, or rolled back by an error), or begun and ended by hand."""

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
        """Have each statement of the body told to `callback`."""

    def is_closed(self) -> bool:
        """Whether the session has ended."""

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""

    async def set_type_codec(
        self, typename: str, *, schema: str = "public", encoder: Callable[[Any], Any], decoder: Callable[[Any], Any]
    ) -> None:
        """How values of a type are read and written."""

    async def add_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """Have notifications of a channel handed to `callback`."""

    async def remove_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """End that."""

    def add_termination_listener(self, callback: Callable[..., Any]) -> None:
        """Have the session's end told to `callback`."""

    def remove_termination_listener(self, callback: Callable[..., Any]) -> None:
        """End that."""

    def terminate(self) -> None:
        """End the session at once."""

    async def close(self, *, timeout: float | None = None) -> None:
        """End the session."""


class Pool(Statements, Protocol):
    """Sessions of the database; each statement takes one that is free, or waits for one."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """A session for the body alone."""

    async def close(self) -> None:
        """Wait until all sessions are free, then end them."""

    async def expire_connections(self) -> None:
        """Have each session ended and a new one opened when it is free next."""

    def terminate(self) -> None:
        """End all sessions at once."""


_ACCOUNT_LOCK = 71
SYMBOL_LOCK = 72
_COIN_LOCK = 76
_DECISIONS_LOCK = 75
STALLED_MS = 4_000
"""A process that stands still in the middle of a transaction loses it after this, and with it the locks that everybody
else waits for; one that waits for a lock gives up after this, so that a process that stands still does not get the
lock in its turn, again and again. Milliseconds of wall time.
"""


def _dump(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=_dump, decoder=orjson.loads, schema="pg_catalog")
    await connection.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog")
    await connection.set_type_codec("json", encoder=_dump, decoder=orjson.loads, schema="pg_catalog")


async def _keep_session(_connection: Connection) -> None:
    """Nothing of ours outlives its transaction (locks, SET LOCAL), so a connection goes back to the pool as it is.

    asyncpg's own reset would cost each transaction a round trip more. What is left of a transaction or of a listener
    it ends all the same before this is called.
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
    """A transaction that holds the lock of a coin: who claims of what no trade owns of it comes after the other,
    whatever product it sells on.

    No other lock but the account's turn is taken while it is held.
    """
    async with _locked(pool, _COIN_LOCK, f"{account}/{base}") as connection:
        yield connection


@contextlib.asynccontextmanager
async def decisions_transaction(pool: Pool, account: str) -> AsyncIterator[Connection]:
    """A transaction in which no other strategy run of the account stores what it has decided."""
    async with _locked(pool, _DECISIONS_LOCK, account) as connection:
        yield connection


@contextlib.asynccontextmanager
async def trade_transaction(pool: Pool, entry_key: str) -> AsyncIterator[Connection]:
    """A transaction that holds a trade, begun and locked in one round trip: what it claims of it is exact.

    Exits hold this and no lock of the symbol, so that nobody who stands still with one holds up a due stop.
    """
    literal = _literal(entry_key)
    rows = "".join(
        f"; SELECT FROM {table} WHERE entry_key = {literal} FOR NO KEY UPDATE" for table in ("exit_plans", "trades")
    )
    async with _begun(pool, rows) as connection:
        yield connection


@contextlib.asynccontextmanager
async def bounded_transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction that ends soon if its process stands still, and waits no longer than that for a row."""
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
    """`executemany` within a transaction, in pieces that are sent whole.

    asyncpg sends many rows piece by piece before the server is told that they end, and PostgreSQL doesn't call a
    session idle in between: a process that stands still there would keep its locks for ever. Between pieces of ours it
    is idle in its transaction, and loses it.
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

    `long`: for work that computes for more than seconds between two statements; it may stand still with the lock.
    """
    limit = "0" if long else str(STALLED_MS)
    await connection.execute(_LOCK, SYMBOL_LOCK, f"{account}/{symbol}", limit)


async def lock_trade(connection: Connection, entry_key: str) -> None:
    """Hold a trade until the transaction ends: who claims of it, sells it or closes it comes after the other.

    Always after the symbol's lock, where that is held at all, and the plan before the trade, as a fill takes them.
    """
    await connection.execute(_LOCK_TRADE, entry_key, str(STALLED_MS))


async def lock_order(connection: Connection, order_key: str) -> Any:
    """Hold an order and its attempts until the transaction ends, in the order in which its reports take them; the
    order's row.
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
