"""Objects that a worker has loaded are excluded from garbage collection."""

from __future__ import annotations

import gc

from workers.memory import keep_what_is_loaded


def test_what_was_loaded_is_no_part_of_later_collections() -> None:
    """Objects that exist by then are excluded; later garbage is collected as usual."""
    loaded: list[object] = [{}]
    keep_what_is_loaded()
    assert not any(item is loaded for item in gc.get_objects())
    ring: list[object] = []
    ring.append(ring)
    del ring
    assert gc.collect() > 0
