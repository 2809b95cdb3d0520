"""When two intents are the same one."""

from __future__ import annotations

import hashlib
import json

from domain.messages import OrderIntent

__all__ = ["intent_digest", "same_intent"]

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
        "entry_key",
        "exit_reason",
        "source",
        "dry_run",
    }
)


def intent_digest(intent: OrderIntent) -> str:
    """SHA-256 over everything that decides what would be traded; times and who asked are not part of it."""
    parts = intent.model_dump(mode="json", include=set(_DECISIVE))
    parts["trigger"] = intent.linkage.trigger
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def same_intent(one: OrderIntent, other: OrderIntent) -> bool:
    """Whether both would trade the same thing under the same key."""
    return one.order_key == other.order_key and intent_digest(one) == intent_digest(other)
