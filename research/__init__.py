"""Backtests, optimisation and reports, using the same domain code as trading."""
