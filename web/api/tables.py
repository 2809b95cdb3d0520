"""Lists that are read by key: as JSON, page by page with a cursor, or as CSV with all rows that the filters leave."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from domain.money import plain
from domain.text import spreadsheet_text
from web.api.cursors import cursor_of, place_of
from web.api.encoding import quality
from web.api.plain import moment
from web.views import Json

__all__ = ["CSV_RESPONSE", "Form", "Listing", "Place"]

Form = Literal["json", "csv"] | None
"""The value of `format`; None: the header Accept decides."""
Place = tuple[Any, ...]
CSV_RESPONSE: dict[int | str, Json] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
"""For the addresses that also answer CSV."""
_CSV_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Listing:
    """One list with its filters.

    `row` has its columns; `sorted_by` are the fields by which it is sorted, of these `kinds`. `read` returns at most so
    many described rows that follow a place (None: from the first). It raises the database's errors.
    """

    name: str
    row: type[BaseModel]
    filters: Mapping[str, object]
    sorted_by: Sequence[str]
    read: Callable[[Place | None, int], Awaitable[list[Json]]]
    kinds: tuple[type, ...] = (datetime, str)

    async def answer(self, request: Request, form: Form, cursor: str | None, limit: int) -> Json | Response:
        """A page as JSON, or everything from there on as CSV. Raises Refused(422, BAD_CURSOR)."""
        place = place_of(cursor, {"list": self.name, **self.filters}, *self.kinds)
        if form == "csv" or (form is None and _wants_csv(request)):
            return await self._csv(place)
        rows = await self.read(place, limit + 1)
        last = None
        if len(rows) > limit:
            last = cursor_of({"list": self.name, **self.filters}, *self._place(rows[limit - 1]))
        return {"items": rows[:limit], "next_cursor": last}

    def _place(self, row: Json) -> Place:
        return tuple(row[name] for name in self.sorted_by)

    async def _csv(self, place: Place | None) -> Response:
        """Streamed. The first rows are read before the answer begins, so a ledger that is away is a 503. If it goes
        away later, the connection ends without the answer's last piece, which every client reports.
        """
        first = await self.read(place, _CSV_PAGE)
        columns = list(self.row.model_fields)

        async def pieces() -> AsyncIterator[bytes]:
            yield _lines([columns])
            rows = first
            while rows:
                yield _lines([_cell(row.get(name)) for name in columns] for row in rows)
                rows = await self.read(self._place(rows[-1]), _CSV_PAGE) if len(rows) == _CSV_PAGE else []

        name = f'attachment; filename="{self.name}.csv"'
        return StreamingResponse(pieces(), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": name})


def _wants_csv(request: Request) -> bool:
    """Whether the header Accept prefers CSV; a browser's and a program's usual headers don't name it."""
    accepted = ",".join(request.headers.getlist("accept"))
    wanted = quality(accepted, "text/csv")
    return wanted > 0 and wanted >= quality(accepted, "application/json")


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> str:
    """Numbers without exponent, times as in JSON; no text that a spreadsheet would read as a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return moment(value)
    return spreadsheet_text(str(value)) if not isinstance(value, int) else str(value)
