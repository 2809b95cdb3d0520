"""Exact lot matching. Pure: plain values in, plain values out."""
