"""Backtests, optimisation and reports, on the same domain code that trades."""
