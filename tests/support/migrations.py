"""Migrations of a test's database, up and down, and a description of its catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from activities.database import Pool
from schema import tables

__all__ = ["catalogue", "differences", "in_schema", "to"]

# Names of constraints and indexes count: migrations and error messages use them. PostgreSQL 18 also names NOT NULL
# constraints, by the table's name at that time: whether a column has one is part of the column.
_CATALOGUE = {
    "tables": """
SELECT c.relname, c.relpersistence, obj_description(c.oid, 'pg_class') FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'""",
    "columns": """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
       a.attstorage, a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid),
       col_description(c.oid, a.attnum)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
   AND c.relname <> 'alembic_version'""",
    "constraints": """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
   AND connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid::regclass::text <> 'alembic_version'""",
    "indexes": """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'""",
    "sequences": """
SELECT sequencename, data_type::text, start_value, min_value, max_value, increment_by, cycle FROM pg_sequences
 WHERE schemaname = 'public'""",
    "triggers": """
SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal""",
}


async def in_schema(database: str, act: Callable[[Connection], Any]) -> Any:
    """The result of `act` on a connection used for migrations."""
    url = make_url(database).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            answer = await connection.run_sync(act)
            await connection.commit()
            return answer
    finally:
        await engine.dispose()


def to(revision: str, *, down: bool = False) -> Callable[[Connection], None]:
    """Migrate to this version."""

    def migrate(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)

    return migrate


def differences(connection: Connection) -> list[Any]:
    """The differences between the database's tables and `schema.tables`, as Alembic finds them."""
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata))


async def catalogue(pool: Pool) -> dict[str, set[tuple[Any, ...]]]:
    """Tables, columns, constraints, indexes, sequences and triggers as PostgreSQL itself describes them, in any order
    of columns: one that a migration added is the last.
    """
    return {name: {tuple(row) for row in await pool.fetch(statement)} for name, statement in _CATALOGUE.items()}
