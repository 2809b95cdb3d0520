"""Coinbase's answers, row by row: a row that can't be parsed makes the read fail, or is collected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from exchange.coinbase.parse import MessageError
from exchange.port import UNREADABLE, MalformedMessage, Unavailable

__all__ = ["each_row", "reading"]

Row = TypeVar("Row")


def each_row(
    rows: Iterable[Any], parse: Callable[[Mapping[str, Any]], Row], unreadable: list[MalformedMessage] | None
) -> Iterator[tuple[Mapping[str, Any], Row]]:
    """Rows with their parsed values; one that can't be parsed is added to `unreadable`, if that list is given."""
    for row in rows:
        try:
            item = parse(row)
        except (MessageError, AttributeError, TypeError) as problem:
            if unreadable is None:
                raise
            unreadable.append(MalformedMessage(json.dumps(row, default=str), str(problem), datetime.now(UTC)))
        else:
            yield row, item


class reading:  # noqa: N801 - reads as a statement
    """Turns parse errors of an answer into `Unavailable`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, MessageError | AttributeError | TypeError):
            raise Unavailable(f"{self._what} can't be understood: {problem}", code=UNREADABLE) from problem
