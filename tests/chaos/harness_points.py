"""The named points at which a worker can be made to die, as the product lists them."""

from __future__ import annotations

import importlib
import importlib.util

__all__ = ["crash_points"]

_MODULE = "activities.crash_points"


def crash_points() -> tuple[str, ...]:
    """Their names in order; none where the product has no such list."""
    if importlib.util.find_spec(_MODULE) is None:
        return ()
    return tuple(sorted(getattr(importlib.import_module(_MODULE), "POINTS", ())))
