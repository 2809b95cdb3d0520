"""What happened to an order or a trade, as the Web UI and the query `timeline` show it."""

from __future__ import annotations

__all__ = ["Timeline"]

_LONGEST = 200
_SHOWN = 20


class Timeline:
    """Lines with times, oldest first; when there are too many, lines of the middle are left out."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, at: str, sentence: str) -> None:
        """Append a line; `at` is a time without blanks."""
        self._lines.append(f"{at} {sentence}")
        if len(self._lines) > _LONGEST:
            del self._lines[_LONGEST // 2]

    @property
    def markdown(self) -> list[str]:
        """The newest lines as a list, newest first: the Web UI shows no code blocks."""
        newest = self._lines[: -_SHOWN - 1 : -1]
        return [f"- `{at}` {sentence}" for at, _, sentence in (line.partition(" ") for line in newest)]

    @property
    def lines(self) -> list[str]:
        """All lines, oldest first."""
        return list(self._lines)
