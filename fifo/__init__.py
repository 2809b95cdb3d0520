"""Exact lot matching. Pure: plain values in, plain values out.

`amounts` is the rule that splits a cost without losing a unit; `line` is one symbol's history as cumulative sums, and
everything else is built on these two: `Book` (many symbols, one fill at a time or a million), `matching` (the ledger's
rows), `columns` (the same in whole arrays), `reading` (with `bulk` for many plain lines at once; `coinbase`,
`transactions` and `notes` for Coinbase's exports), `alike` (the same fill under two ids) and `writing` (matched lines
as JSON).
"""

from fifo.book import Book, LotPart, OpenLot, Sale, SymbolTotals
from fifo.fills import FeeCurrency, FifoError, Fill

__all__ = ["Book", "FeeCurrency", "FifoError", "Fill", "LotPart", "OpenLot", "Sale", "SymbolTotals"]
