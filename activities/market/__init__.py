"""Stored prices and candles, and the traded symbols."""
