"""Prices and candles that are kept, and the symbols that are traded."""
