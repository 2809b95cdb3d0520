"""Why a request is refused: a status, a code for programs, a sentence for people, and where to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.errors import BotTraderError

__all__ = ["Lapse", "Refused"]


@dataclass(frozen=True, slots=True)
class Lapse:
    """An alert of a proven sender that can't be used. Nothing in it is a secret."""

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
        """What goes along with the answer."""
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found

    @property
    def body(self) -> dict[str, Any]:
        """The answer."""
        error = {"code": self.code, "sentence": self.sentence}
        return {"error": error if self.field is None else error | {"field": self.field}}
