"""Which price watcher a symbol belongs to: a stable hash, so that every process on every machine computes the same."""

from __future__ import annotations

from zlib import crc32

__all__ = ["shard_of"]


def shard_of(symbol: str, shards: int) -> int:
    """The shard of `symbol`, 0 to `shards` - 1 (CRC-32 of its UTF-8, modulo).

    Raises:
        ValueError: `shards` is less than 1.
    """
    if shards < 1:
        raise ValueError(f"shards must be at least 1, not {shards}")
    return crc32(symbol.encode()) % shards
