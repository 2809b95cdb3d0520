"""Lists of the past, page by page: the venue takes a window of time and gives its newest hundred rows.

Its own page numbers do nothing. A full page is continued before its oldest row, in windows of a week at most. By which
of an order's times the venue goes isn't documented, so pages end at the times of the latest change, which is never too
early, and at those of creation only where that leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from exchange.cryptocom.parse import Row, rows_of
from exchange.cryptocom.rest import CryptocomCaller
from exchange.port import Unavailable
from exchange.reading import MessageError, number, reading

__all__ = ["past_rows"]

_A_PAGE = 100
_A_WINDOW = 7 * 86_400 * 1_000_000_000
_NANOSECONDS_OF_A_MILLISECOND = 1_000_000


async def past_rows(
    caller: CryptocomCaller,
    method: str,
    since: datetime,
    identity: Callable[[Row], str],
    params: Mapping[str, object] | None = None,
) -> list[Row]:
    """All rows since, each once by its `identity`, newest pages first. Raises Unavailable."""
    found: dict[str, Row] = {}
    odd: list[Row] = []
    start = int(since.timestamp() * 1_000_000) * 1000
    now = int(caller.clock.now() * 1_000_000) * 1000
    first, end = max(start, now - _A_WINDOW), 0
    while True:
        query: dict[str, object] = {**(params or {}), "start_time": first, "limit": _A_PAGE}
        if end:
            query["end_time"] = end
        with reading(method):
            rows = [
                row if isinstance(row, Mapping) else {"row": row}
                for row in rows_of(await caller.private(method, query), method)
            ]
        for row in rows:
            try:
                found[identity(row)] = row
            except MessageError:
                odd.append(row)
        if len(rows) >= _A_PAGE:
            end = _before(rows, end, method)
            if end > first:
                continue
        if first <= start:
            return [*found.values(), *odd]
        end, first = first, max(start, first - _A_WINDOW)


def _before(rows: Sequence[Row], end: int, method: str) -> int:
    """The end of the next page. Raises Unavailable if there is none that is earlier."""
    for names in (("update_time", "create_time"), ("create_time",)):
        times = [stamp for row in rows if (stamp := _stamp(row, names)) is not None]
        # Rows of the same millisecond may be on the next page too.
        following = (min(times) + 1) * _NANOSECONDS_OF_A_MILLISECOND if times else 0
        if following and (not end or following < end):
            return following
    raise Unavailable(f"{method}: a full page does not say where the next one begins", code="CURSOR_LOOP")


def _stamp(row: Row, names: Sequence[str]) -> int | None:
    for name in names:
        if row.get(name):
            try:
                return int(number(row[name], name))
            except MessageError:
                return None
    return None
