"""Migrate a database to the newest version: `python -m schema.migrate DSN`, `bottrader db upgrade`.

Concurrent migrations wait for each other on an advisory lock.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

__all__ = ["current_revision", "head_revision", "upgrade"]

_LOCK = 7_261_001


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _sqlalchemy_url(dsn: str) -> str:
    url = make_url(dsn)
    return url.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def head_revision() -> str | None:
    """The newest version in this code."""
    return ScriptDirectory.from_config(_config()).get_current_head()


async def current_revision(dsn: str) -> str | None:
    """The database's version; None if it was never migrated."""
    engine = create_async_engine(_sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    finally:
        await engine.dispose()


async def upgrade(dsn: str) -> str | None:
    """Apply all missing versions in order and return the newest one's id. Raises SQLAlchemy's and asyncpg's errors."""

    def run(connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        try:
            command.upgrade(_config(connection), "head")
            connection.commit()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()

    engine = create_async_engine(_sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()
    return head_revision()


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(upgrade(sys.argv[1]))}\n")
