"""Keys and ids: everything that must never happen twice gets its id from its content, not from when it was sent.

An order key is 32 hex digits of a UUIDv5 over the intent. An attempt's client order id is `<key>-<attempt>` (both
venues allow 36 characters, so 999 attempts), and workflow ids contain the key, so that a stream event finds its
workflow without a look-up. Whether an order is ours is decided by the journal, not by the format of its id.
"""

from __future__ import annotations

import re
import uuid

__all__ = [
    "MAX_ATTEMPTS",
    "OUR_SHAPE",
    "client_order_id",
    "exit_workflow_id",
    "external_workflow_id",
    "intent_key",
    "order_workflow_id",
    "parse_client_order_id",
]

MAX_ATTEMPTS = 999
_NAMESPACE = uuid.UUID("6f1f3c52-0f2b-5b0a-9a3e-6c1f8f6f0b7a")
OUR_SHAPE = r"^([0-9a-f]{32})-([1-9][0-9]{0,2})$"
"""The format of our client order ids, as a pattern for Python and PostgreSQL. Anchored for the latter."""
_CLIENT_ORDER_ID = re.compile(OUR_SHAPE)


def intent_key(entry_point: str, request_id: str, account: str, symbol: str, side: str, leg: str = "0") -> str:
    """The order key of an intent: the same intent always has the same key (LIFE-2).

    `request_id` is the run's or the caller's own id; `leg` distinguishes several orders of one request. Parts are
    length-prefixed so that two different intents never give the same text.
    """
    parts = (entry_point, request_id, account, symbol, side, leg)
    return uuid.uuid5(_NAMESPACE, "|".join(f"{len(part)}:{part}" for part in parts)).hex


def client_order_id(order_key: str, attempt: int) -> str:
    """The id of one attempt as the exchange knows it.

    Raises:
        ValueError: `attempt` is not in 1…999.
    """
    if not 1 <= attempt <= MAX_ATTEMPTS:
        raise ValueError(f"attempt must be 1 to {MAX_ATTEMPTS}, not {attempt}")
    return f"{order_key}-{attempt}"


def parse_client_order_id(text: str) -> tuple[str, int] | None:
    """`(order key, attempt)` if the text has our format, else None. The format is a hint, never proof of ownership."""
    match = _CLIENT_ORDER_ID.fullmatch(text)
    return (match[1], int(match[2])) if match else None


def order_workflow_id(order_key: str) -> str:
    """The id of the order's workflow."""
    return f"order-{order_key}"


def exit_workflow_id(entry_key: str) -> str:
    """The id of the exit monitor of the trade that `entry_key` opened."""
    return f"exit-{entry_key}"


def external_workflow_id(order_key: str) -> str:
    """The id of the workflow that shows an external order."""
    return f"external-{order_key}"
