"""The HTTP API and the page: they talk to Temporal and read the ledger."""
