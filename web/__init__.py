"""The HTTP API and the page: they call Temporal and read the ledger."""
