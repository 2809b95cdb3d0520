"""When two intents are the same one, and which of them may not be held up."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal

from domain.exits import ExitReason, price_stop
from domain.messages import OrderIntent
from domain.money import plain
from domain.orders import OrderRole
from domain.quoting import QUOTES

__all__ = ["MEASURED_RULES", "as_entered", "intent_digest", "must_leave", "same_intent"]

_DECISIVE = frozenset(
    {
        "account",
        "symbol",
        "side",
        "role",
        "order_type",
        "base_size",
        "quote_size",
        "limit_price",
        "time_in_force",
        "post_only",
        "expires_after",
        "entry_key",
        "exit_reason",
        "source",
        "dry_run",
    }
)

MEASURED_RULES = frozenset({"taker_rate", "target_atr"})
"""What is noted among an entry's exit rules as it was at that moment: facts that nobody asked for."""


def as_entered(intent: OrderIntent) -> OrderIntent:
    """An entry as its trade gets it: one that a person made has no signal exit unless that was asked for (EXIT-12)."""
    by_hand = intent.role is OrderRole.ENTRY and intent.entry_point == "manual"
    if not by_hand or intent.signal_exit or not intent.rules.signal_exit:
        return intent
    return intent.model_copy(update={"rules": intent.rules.model_copy(update={"signal_exit": False})})


def intent_digest(intent: OrderIntent) -> str:
    """SHA-256 over everything that decides what would be traded; times and who asked are not part of it."""
    parts = intent.model_dump(mode="json", include=set(_DECISIVE))
    parts["trigger"] = intent.linkage.trigger
    if intent.role is OrderRole.ENTRY:
        # An exit sells by the rules that its trade has; an entry's decide how it will be left. What has its default is
        # left out, so that a rule that is added later leaves the digests of stored intents as they are.
        rules = intent.rules.model_dump(exclude_defaults=True, exclude=set(MEASURED_RULES))
        parts["rules"] = {name: plain(value) if isinstance(value, Decimal) else value for name, value in rules.items()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def same_intent(one: OrderIntent, other: OrderIntent) -> bool:
    """Whether both would trade the same thing under the same key."""
    return one.order_key == other.order_key and intent_digest(one) == intent_digest(other)


def must_leave(intent: OrderIntent) -> bool:
    """Whether it is the exit of a due price stop or a person's close: nothing that may fail stands before it (EXIT-10).

    What only rests at the exchange (protection, the market maker's ask) and profit exits are not.
    """
    return (
        intent.role is OrderRole.EXIT
        and intent.entry_key is not None
        and intent.protection_role is None
        and intent.entry_point != QUOTES
        and price_stop(intent.exit_reason or ExitReason.MANUAL)
    )
