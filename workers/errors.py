"""Errors for people: a code for programs, and one sentence that a person can act on."""

from enum import IntEnum

from domain.errors import BotTraderError

__all__ = ["ExitCode", "UnreachableError", "UserError"]


class ExitCode(IntEnum):
    """Exit codes of the `bottrader` command."""

    OK = 0
    NO = 1  # the command ran and its answer is no: a check failed, an order was refused
    BAD_INPUT = 2  # an option, a file or a setting is wrong; nothing was done
    UNREACHABLE = 3  # something that is needed is not there: database, Temporal, exchange, port
    FAULT = 4  # a fault of ours


class UserError(BotTraderError):
    """Something the user can put right.

    `code` is stable and in SCREAMING_SNAKE_CASE; `sentence` says what is wrong and what to do; `exit_code` is the
    command's.
    """

    def __init__(self, code: str, sentence: str, exit_code: ExitCode = ExitCode.BAD_INPUT) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.sentence


class UnreachableError(UserError):
    """A required external service does not answer (exit code 3)."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence, ExitCode.UNREACHABLE)
