"""Crash points at which a test can kill the worker, to show that nothing is lost.

BOTTRADER_CRASH_AT="<point>=<marker file>" makes the process kill itself the first time it reaches that point; the
marker file records it, so that the next process continues. Without the variable nothing happens.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

__all__ = ["CRASH_AT", "crash_at"]

CRASH_AT = "BOTTRADER_CRASH_AT"


def crash_at(point: str) -> None:
    """SIGKILL this process if that is requested for this point and has not happened yet. Raises OSError for a wrong
    marker."""
    wanted = os.environ.get(CRASH_AT)
    if wanted is None:
        return
    name, _, marker = wanted.partition("=")
    if name != point:
        return
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
