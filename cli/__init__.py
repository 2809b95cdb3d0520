"""The command line: talks to Temporal, reads the ledger, starts processes. No trading rule lives here."""
