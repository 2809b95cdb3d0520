"""The names under which workflows can be found in Temporal, in one place.

The dev server, the compose file's set-up job, `bottrader doctor` and the typed keys of `workflows/` all read this
mapping. SQL visibility allows at most ten Keyword attributes and three of every other type in a namespace.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["SEARCH_ATTRIBUTES"]

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
