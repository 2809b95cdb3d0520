"""What a process has loaded when its work begins is no part of Python's full collections.

Such a collection stops the process while it looks through everything, and what was loaded is most of that and stays.
"""

from __future__ import annotations

import gc

__all__ = ["keep_what_is_loaded"]


def keep_what_is_loaded() -> None:
    """From now on collections look only at what is made after this. Costs nothing itself: it collects nothing."""
    gc.freeze()
