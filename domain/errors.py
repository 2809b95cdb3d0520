"""The tree of our errors. Each has a code that programs go by; its text is the sentence, or a clause of it, for people.

    BotTraderError
    ├── UserError                   something that the user can put right; has the command's exit code
    │   ├── UnreachableError        something outside that is needed does not answer
    │   └── ConfigError             settings that can't be used, a sentence for each
    ├── ExchangeError               a request to the exchange failed; its code is the exchange's own where it gave one
    │   ├── NotAccepted             certainly not taken
    │   ├── OutcomeUnknown          nobody knows whether it was taken
    │   ├── CommandRefused          the exchange said no
    │   └── Unavailable             a read failed
    ├── MessageError                a message of the exchange can't be understood
    │   └── UnknownMessageError     it is of a kind that we don't know
    ├── SubscriptionError           the exchange refuses a stream
    ├── ApiKeyError                 an API key that can't be used
    ├── EntryError                  no entry can be made as asked
    ├── IdentityError               a ledger that is another account's, mode's or installation's
    ├── StopsRefusedError           stops that can't be moved as asked
    ├── IllegalMove                 a state that can't follow from the one before
    ├── UnknownIndicatorError       an indicator that does not exist
    ├── StrategyError               the user's own strategy can't be loaded
    ├── MalformedError              what a strategy answered can't be stored or acted on
    ├── LeaseLostError              the lease is another process's by now
    ├── UnknownAttemptError         a report of an attempt that the ledger doesn't have
    ├── IntentConflictError         another order under the same key
    ├── BadTargetError              an address for notices that can't be used
    ├── NoAnswerError               a workflow that should have answered did not
    ├── NoTemporalError             Temporal can't be reached by the API
    ├── FifoError                   a fill, or a file of fills, that can't be used
    ├── Refused                     a request over HTTP is refused; has the status
    ├── Wrong                       an alert that can't be used: which field, and why
    ├── BadJson                     JSON that can't be read in one way only
    ├── BadSymbol                   a symbol that names no product
    ├── PaperError                  the paper exchange can't start or do as told
    ├── Refusal                     an order that the paper exchange refuses, in the venue's words
    ├── ApiError                    a request that the paper exchange doesn't answer, in the venue's words
    ├── Unauthorized                a token that the paper exchange doesn't take
    └── ControlError                the paper exchange's control interface said no

A few more exceptions are signals inside one room and reach nobody; their base says so (`InternalSignal`).
"""

from __future__ import annotations

__all__ = ["BotTraderError", "InternalSignal"]


class BotTraderError(Exception):
    """The base of all errors that leave a room. `code` is stable and in SCREAMING_SNAKE_CASE."""

    code: str = "ERROR"


class InternalSignal(Exception):
    """The base of what is raised and caught within one room: another way to go on, not an error."""
