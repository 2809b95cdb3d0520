"""Realised lots for the tax office: one line a part of a sell, as the FIFO book matched it."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TextIO

from domain.money import plain

__all__ = ["TAX_COLUMNS", "write_realised_lots"]

TAX_COLUMNS = (
    "symbol", "size", "acquired", "sold", "days_held", "proceeds", "fees_of_sale", "net_proceeds", "cost_basis", "gain",
    "covered", "buy_order", "sell_order",
)  # fmt: skip
"""Amounts in quote currency; `cost_basis` has the buy's fees in it, `net_proceeds` is after the sale's. A part that no
lot covers has neither acquisition, cost nor gain: `covered` is no, and the owner knows where it came from."""

_LOTS = """
SELECT symbol, size, buy_time, sell_time, proceeds, net_proceeds, cost_basis, pnl, buy_order_id, sell_order_id
  FROM fifo_allocations WHERE account = $1 AND ($2::timestamptz IS NULL OR sell_time >= $2)
   AND ($3::timestamptz IS NULL OR sell_time < $3) ORDER BY sell_time, sell_fill, buy_time, buy_fill
"""


async def write_realised_lots(
    connection: Any, account: str, out: TextIO, since: datetime | None = None, until: datetime | None = None
) -> int:
    """Write what was sold from `since` until before `until` as CSV; how many lines. Raises the database's errors."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(TAX_COLUMNS)
    count = 0
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(_LOTS, account, since, until, prefetch=5_000):
            writer.writerow(_line(row))
            count += 1
    return count


def _line(row: Any) -> tuple[str, ...]:
    bought, sold = row["buy_time"], row["sell_time"]
    return (
        row["symbol"],
        plain(row["size"]),
        _time(bought),
        _time(sold),
        str((sold - bought).days) if bought else "",
        plain(row["proceeds"]),
        plain(row["proceeds"] - row["net_proceeds"]),
        plain(row["net_proceeds"]),
        _amount(row["cost_basis"]),
        _amount(row["pnl"]),
        "yes" if bought else "no",
        row["buy_order_id"] or "",
        row["sell_order_id"],
    )


def _amount(value: Decimal | None) -> str:
    return "" if value is None else plain(value)


def _time(value: datetime | None) -> str:
    return "" if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
