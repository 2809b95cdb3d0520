"""The timeline of an order or a trade, as the Web UI and the query `timeline` show it."""

from __future__ import annotations

from domain.commands import TimelineEntry, Wish

__all__ = ["Timeline"]

_LONGEST = 200
_SHOWN = 20


class Timeline:
    """Lines with times, oldest first; if there are too many, lines in the middle are left out."""

    def __init__(self) -> None:
        self._entries: list[TimelineEntry] = []

    def add(self, at: str, sentence: str, wish: Wish | None = None) -> None:
        """Append a line; `at` is a time without blanks, `wish` is given if the sentence is a person's request."""
        self._entries.append(TimelineEntry(at=at, sentence=sentence, wish=wish))
        if len(self._entries) > _LONGEST:
            del self._entries[_LONGEST // 2]

    @property
    def markdown(self) -> list[str]:
        """The newest lines as a list, newest first: the Web UI shows no code blocks."""
        newest = self._entries[: -_SHOWN - 1 : -1]
        return [f"- `{entry.at}` {entry.sentence}" for entry in newest]

    @property
    def lines(self) -> list[str]:
        """All lines as text, oldest first."""
        return [f"{entry.at} {entry.sentence}" for entry in self._entries]

    @property
    def entries(self) -> list[TimelineEntry]:
        """All lines in their parts, oldest first."""
        return list(self._entries)
