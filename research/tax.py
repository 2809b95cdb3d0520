"""Realised lots for the tax office: one line per part of a sell, as the FIFO book matched it.

Amounts are in quote currency (`currency`, which differs from line to line); `cost_basis` includes the buy's fees,
`net_proceeds` is after the sale's fees. A part that no lot covers has no acquisition time, cost or gain: `covered` is
no, and only the owner knows its origin.
"""

from __future__ import annotations

import codecs
from datetime import datetime
from typing import Any, TextIO

__all__ = ["write_realised_lots"]


def _time(column: str) -> str:
    utc = f"{column} AT TIME ZONE 'UTC'"
    finer = f"CASE WHEN date_trunc('second', {column}) <> {column} THEN to_char({utc}, '.US') ELSE '' END"
    return f"""to_char({utc}, 'YYYY-MM-DD"T"HH24:MI:SS') || {finer} || 'Z'"""


def _text(column: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula, as in `domain.text.spreadsheet_text`."""
    return f"CASE WHEN {column} ~ '^[{_STARTS}]' THEN chr(39) || {column} ELSE {column} END"


_STARTS = "=+@\\t\\r-"
# The server writes the lines itself: a year's trades take a second and no memory.
_LOTS = f"""
SELECT {_text("symbol")} AS symbol, trim_scale(size) AS size, {_time("buy_time")} AS acquired,
       {_time("sell_time")} AS sold,
       date_part('day', sell_time - buy_time) AS days_held, trim_scale(proceeds) AS proceeds,
       trim_scale(proceeds - net_proceeds) AS fees_of_sale, trim_scale(net_proceeds) AS net_proceeds,
       trim_scale(cost_basis) AS cost_basis, trim_scale(pnl) AS gain,
       CASE WHEN buy_time IS NULL THEN 'no' ELSE 'yes' END AS covered, {_text("buy_order_id")} AS buy_order,
       {_text("sell_order_id")} AS sell_order,
       {_text("split_part(translate(symbol, '_', '-'), '-', 2)")} AS currency
  FROM fifo_allocations WHERE account = $1 AND ($2::timestamptz IS NULL OR sell_time >= $2)
   AND ($3::timestamptz IS NULL OR sell_time < $3) ORDER BY sell_time, sell_fill, buy_time, buy_fill
"""  # noqa: S608 - our own columns


async def write_realised_lots(
    connection: Any, account: str, out: TextIO, since: datetime | None = None, until: datetime | None = None
) -> int:
    """Write the sales from `since` until before `until` as CSV. Returns the number of lines. Raises the database's
    errors."""

    decoder = codecs.getincrementaldecoder("utf-8")()

    async def write(some: bytes) -> None:
        out.write(decoder.decode(some))

    told = await connection.copy_from_query(
        _LOTS, account, since, until, output=write, format="csv", header=True, encoding="utf-8"
    )
    return int(told.rpartition(" ")[2])
