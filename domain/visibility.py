"""How workflows are found in Temporal: their search attributes, and what the Web UI's list shows of them.

The dev server, the compose file's set-up job, `bottrader doctor` and the typed keys of `workflows/` all read the names
here. SQL visibility allows at most ten Keyword attributes and three of every other type in a namespace.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["COLUMNS", "SEARCH_ATTRIBUTES", "VIEWS"]

SEARCH_ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {
        "Symbol": "Keyword",  # product, such as BTC-USD
        "Side": "Keyword",  # BUY or SELL
        "TradeTrigger": "Keyword",  # what decided, such as rsi_oversold (Trigger alone is a word of the query language)
        "TradeStatus": "Keyword",  # OPENING, PROTECTED, CLOSING, CLOSED
        "Source": "Keyword",  # sighook, webhook, manual, websocket, reconciled
        "SnapshotId": "Keyword",  # the strategy run that the decision belongs to
        "ExitReason": "Keyword",  # HARD_STOP, SOFT_STOP, TRAILING_STOP, TP, SIGNAL_EXIT, MANUAL
        "Role": "Keyword",  # ENTRY, EXIT, MONITOR, QUOTE
    }
)
"""Search attribute name → Temporal indexed value type."""

COLUMNS = (
    "Status",
    "Symbol",
    "Side",
    "TradeTrigger",
    "TradeStatus",
    "ExitReason",
    "Role",
    "Workflow ID",
    "Start",
    "End",
    "Type",
)
"""Columns of the Web UI's list, by the UI's own names: what a trader looks for, then the id, which is the link."""

VIEWS: Mapping[str, str] = MappingProxyType(
    {
        "Open trades": '`Role`="ENTRY" AND `ExecutionStatus`="Running"',
        "Closed trades": '`Role`="ENTRY" AND `TradeStatus`="CLOSED"',
        "Exit orders": '`Role`="EXIT"',
        "Refused orders": '`TradeStatus`="REJECTED"',
        "Orders of others": '`Role`="EXTERNAL"',
    }
)
"""Name → query of each list that people look at, in the form in which the Web UI writes queries."""
