"""Views of the ledger as data: one read each, for the command line, the API and the page.

A view queries the ledger and returns rows, or their JSON form; it decides nothing, prints nothing, and imports `domain`
only. A read raises the database's errors.
"""

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Json", "Ledger", "Row"]

Row = Mapping[str, Any]
"""A row of the ledger: columns by name, with JSON columns as values and UUIDs as text."""

Json = dict[str, Any]
"""An object as JSON will have it: names with text, numbers, times, lists and objects."""


class Ledger(Protocol):
    """A connection to the ledger, or a pool of them."""

    async def fetch(self, query: str, *values: object) -> list[Row]:
        """Every row."""

    async def fetchrow(self, query: str, *values: object) -> Row | None:
        """The first row; None without one."""

    async def fetchval(self, query: str, *values: object) -> Any:
        """The first column of the first row; None without one."""
