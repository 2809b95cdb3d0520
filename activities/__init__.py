"""Everything with a side effect, grouped by what it touches: the exchange, the ledger, streams, notices."""
