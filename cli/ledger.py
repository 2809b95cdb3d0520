"""Reading the ledger for people: one connection for each command, exact decimals, shortened keys."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from cli.output import UserError

if TYPE_CHECKING:
    from datetime import datetime

    from workers.settings import Settings

__all__ = ["Row", "ago", "open_ledger", "resolve_key", "with_codecs"]

Row = Any
"""An asyncpg record: columns by name."""

_CONNECT_SECONDS = 10.0
_SHORTEST_PREFIX = 6
_ID = re.compile(r"(?:order-|exit-)?([0-9a-f]{1,32})(?:-[1-9][0-9]{0,2})?")


@asynccontextmanager
async def open_ledger(settings: "Settings", *, whosever: bool = False) -> AsyncIterator[Any]:
    """A connection to the ledger, which must be the one of the settings unless `whosever`.

    Raises UnreachableError(NO_DATABASE) when no address is set, and UserError for another account's ledger; asyncpg's
    errors are turned into sentences by the caller.
    """
    import asyncpg

    from workers.ledger_identity import require_own

    connection = await asyncpg.connect(
        settings.database.dsn,
        timeout=_CONNECT_SECONDS,
        command_timeout=float(settings.database.statement_timeout_s),
        server_settings={"application_name": "bottrader command", "timezone": "UTC"},
    )
    try:
        if not whosever:
            await require_own(connection, settings)
        await with_codecs(connection)
        yield connection
    finally:
        await connection.close(timeout=5)


async def with_codecs(connection: Any) -> None:
    """Reads JSON columns as Python values and UUIDs as text."""
    import orjson

    await connection.set_type_codec("jsonb", encoder=_dump, decoder=orjson.loads, schema="pg_catalog")
    await connection.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog")


def _dump(value: object) -> str:
    import orjson

    return orjson.dumps(value, default=str).decode()


async def resolve_key(connection: Any, account: str, given: str, *, trade: bool = False) -> str:
    """The key of the account's order that `given` names: a key, the first six or more characters of one, or an id that
    holds one.

    With `trade`, only entries count. Raises UserError: BAD_KEY, NO_SUCH_ORDER, AMBIGUOUS_KEY.
    """
    from web.views.orders import keys_beginning

    what = "trade" if trade else "order"
    match = _ID.fullmatch(given.strip().lower())
    if match is None:
        raise UserError("BAD_KEY", f"{given!r} is not the key of an order: `bottrader {what}s` lists them.")
    prefix = match[1]
    if len(prefix) < _SHORTEST_PREFIX:
        raise UserError("BAD_KEY", f"{given!r} is too short: give at least {_SHORTEST_PREFIX} characters of the key.")
    rows = await keys_beginning(connection, account, prefix, of_trades=trade, most=4)
    if not rows:
        raise UserError(
            "NO_SUCH_ORDER", f"There is no {what} whose key begins with {prefix}: `bottrader {what}s` lists them."
        )
    if len(rows) > 1:
        listed = ", ".join(f"{row['order_key'][:16]} ({row['side']} {row['symbol']})" for row in rows[:3])
        raise UserError("AMBIGUOUS_KEY", f"{prefix} is ambiguous: {listed}; give more characters.")
    return str(rows[0]["order_key"])


def ago(since: "datetime | None", until: "datetime | None" = None) -> str:
    """An age or duration in the largest suitable unit."""
    from datetime import UTC, datetime

    from domain.wording import age

    return age(since, until or datetime.now(UTC))
