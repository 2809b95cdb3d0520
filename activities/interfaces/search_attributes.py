"""Typed keys of the search attributes (names and types: `domain.visibility`), and what each workflow sets."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from domain.messages import ExternalOrder, MonitorStart, OrderIntent, StatusSource

__all__ = ["EXIT_REASON", "ROLE", "STATUS", "SYMBOL", "of_external", "of_monitor", "of_order"]

SYMBOL = SearchAttributeKey.for_keyword("Symbol")
SIDE = SearchAttributeKey.for_keyword("Side")
TRIGGER = SearchAttributeKey.for_keyword("TradeTrigger")
STATUS = SearchAttributeKey.for_keyword("TradeStatus")
SOURCE = SearchAttributeKey.for_keyword("Source")
SNAPSHOT_ID = SearchAttributeKey.for_keyword("SnapshotId")
EXIT_REASON = SearchAttributeKey.for_keyword("ExitReason")
ROLE = SearchAttributeKey.for_keyword("Role")


def of_order(intent: OrderIntent) -> TypedSearchAttributes:
    """Search attributes of an order's workflow, from its start."""
    pairs = [
        SearchAttributePair(SYMBOL, intent.symbol),
        SearchAttributePair(SIDE, intent.side.value),
        SearchAttributePair(TRIGGER, intent.linkage.trigger),
        SearchAttributePair(STATUS, "OPENING" if intent.exit_reason is None else "CLOSING"),
        SearchAttributePair(SOURCE, intent.source),
        SearchAttributePair(ROLE, intent.role.value),
    ]
    if intent.linkage.snapshot_id:
        pairs.append(SearchAttributePair(SNAPSHOT_ID, intent.linkage.snapshot_id))
    if intent.exit_reason:
        pairs.append(SearchAttributePair(EXIT_REASON, intent.exit_reason.value))
    return TypedSearchAttributes(pairs)


def of_external(order: ExternalOrder) -> TypedSearchAttributes:
    """Search attributes of an external order's workflow."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(SYMBOL, order.symbol),
            SearchAttributePair(SIDE, order.side.value),
            SearchAttributePair(TRIGGER, "manual"),
            SearchAttributePair(STATUS, order.state.value),
            SearchAttributePair(SOURCE, "websocket" if order.source is StatusSource.WEBSOCKET else "reconciled"),
            SearchAttributePair(ROLE, "EXTERNAL"),
        ]
    )


def of_monitor(start: MonitorStart) -> TypedSearchAttributes:
    """Search attributes of an exit monitor, from its start."""
    pairs = [
        SearchAttributePair(SYMBOL, start.symbol),
        SearchAttributePair(STATUS, "PROTECTED"),
        SearchAttributePair(ROLE, "MONITOR"),
    ]
    if start.trigger:
        pairs.append(SearchAttributePair(TRIGGER, start.trigger))
    if start.source:
        pairs.append(SearchAttributePair(SOURCE, start.source))
    if start.snapshot_id:
        pairs.append(SearchAttributePair(SNAPSHOT_ID, start.snapshot_id))
    return TypedSearchAttributes(pairs)
