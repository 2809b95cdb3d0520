"""The command line: talks to Temporal, reads the ledger, starts processes. It contains no trading rules."""
