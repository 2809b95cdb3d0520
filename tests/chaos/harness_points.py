"""The named points at which a worker can be made to die, as the product's activities name them."""

from __future__ import annotations

import re
from pathlib import Path

import activities

__all__ = ["crash_points"]

_CALL = re.compile(r"""\bcrash_at\("([a-z_-]+)"\)""")


def crash_points() -> tuple[str, ...]:
    """Their names in order."""
    folder = Path(activities.__file__).parent
    found = {name for path in folder.glob("*.py") for name in _CALL.findall(path.read_text(encoding="utf-8"))}
    return tuple(sorted(found))
