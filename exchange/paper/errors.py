"""The paper exchange's errors, with the venue's own names for the reasons.

`Refusal` is an order that the venue would not accept (HTTP 200, `success: false`); `ApiError` is a request that it
would not answer (HTTP 4xx); `PaperError` is a mistake in how the paper exchange itself was started.
"""

from __future__ import annotations

from domain.errors import BotTraderError

__all__ = ["ApiError", "PaperError", "Refusal"]


class PaperError(BotTraderError):
    """The paper exchange can't start or can't do what was requested; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Refusal(BotTraderError):
    """An order the venue refuses: `reason` is its `new_order_failure_reason`, `preview` the same of a preview."""

    def __init__(self, reason: str, message: str, preview: str = "UNKNOWN_PREVIEW_FAILURE_REASON") -> None:
        super().__init__(message)
        self.code = reason
        self.reason = reason
        self.message = message
        self.preview = preview


class ApiError(BotTraderError):
    """A request answered with an HTTP error and Coinbase's error body."""

    def __init__(self, status: int, error: str, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.code = error
        self.error = error
        self.details = details
