"""A refused request: a status, a code for programs, a sentence for people, and a link to the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.errors import BotTraderError

__all__ = ["Lapse", "Refused"]


@dataclass(frozen=True, slots=True)
class Lapse:
    """An authenticated sender's invalid alert. Contains no secrets."""

    sender: str
    code: str
    sentence: str
    field: str | None
    key: str | None
    closes: bool


class Refused(BotTraderError):
    """The request is refused. `sentence` says what is wrong and what to do; `retry_after` is in seconds."""

    def __init__(
        self, status: int, code: str, sentence: str, *, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.field = field
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found

    @property
    def body(self) -> dict[str, Any]:
        """The answer."""
        error = {"code": self.code, "sentence": self.sentence}
        return {"error": error if self.field is None else error | {"field": self.field}}
