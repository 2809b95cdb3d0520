"""Everything with a side effect, grouped by what it touches: orders, ledger, streams, prices, notices."""
