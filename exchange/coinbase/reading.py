"""Answers of Coinbase read row by row: what can't be understood makes the read fail, or is handed on."""

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
    """Rows with what they say; one that can't be understood goes to `unreadable` where there is such a list."""
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
    """Turns what can't be understood in an answer into `Unavailable`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, MessageError | AttributeError | TypeError):
            raise Unavailable(f"{self._what} can't be understood: {problem}", code=UNREADABLE) from problem
