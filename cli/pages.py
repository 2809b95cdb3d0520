"""Pages of long lists on the command line, with the same cursors as the API's (docs/api.md, Lists).

A list without `--cursor` is its first page. Where more rows follow, a line on stderr has the next page's cursor.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ExitCode, UserError, note, print_json

if TYPE_CHECKING:
    from web.views import Row
    from web.views.lists import Place

__all__ = ["FIRST", "CursorOption", "ListPage", "place_in", "print_page", "read_page", "tell_more"]

FIRST = "first"
"""The cursor of the first page, for programs that want its form too."""
CursorOption = Annotated[
    str | None,
    typer.Option("--cursor", help="The cursor shown below the page before; with --json, first begins pages."),
]


@dataclass(frozen=True, slots=True)
class ListPage:
    """Rows of a list, and the cursor of the page after them; None: this is the last one."""

    rows: "list[Row]"
    next_cursor: str | None


def place_in(cursor: str | None, filters: Mapping[str, object], *kinds: type) -> tuple[Any, ...] | None:
    """The place in the list of these filters where the page begins; None: at the start.

    Raises UserError(BAD_CURSOR) for the cursor of another list or of other filters.
    """
    from web.api.cursors import place_of
    from web.refusals import Refused

    try:
        return place_of(None if cursor == FIRST else cursor, filters, *kinds)
    except Refused:
        raise UserError(
            "BAD_CURSOR",
            "This cursor does not belong to this list with these options: begin without --cursor.",
            ExitCode.BAD_INPUT,
        ) from None


async def read_page(
    read: "Callable[[Place | None, int], Awaitable[list[Row]]]",
    filters: Mapping[str, object],
    cursor: str | None,
    limit: int,
    by: tuple[str, str],
) -> ListPage:
    """One page of a list sorted by time and key. `read` returns at most so many rows after a place; `by` names the
    columns of time and key.

    Raises UserError(BAD_CURSOR) and the database's errors.
    """
    from datetime import datetime

    from web.api.cursors import cursor_of
    from web.views.lists import Place

    place = place_in(cursor, filters, datetime, str)
    rows = await read(Place(*place) if place else None, limit + 1)
    last = rows[limit - 1] if len(rows) > limit else None
    following = None if last is None else cursor_of(filters, last[by[0]], last[by[1]])
    return ListPage(rows[:limit], following)


def print_page(items: Sequence[Mapping[str, object]], following: str | None) -> None:
    """A page as JSON, in the API's form."""
    print_json({"items": items, "next_cursor": following})


def tell_more(following: str | None) -> None:
    """Say on stderr how the list goes on."""
    if following is not None:
        note(f"There are more: repeat the command with\n  --cursor {following}")
