"""How one process finds the local stack that another keeps running: `stack.json`, believed only while its lock is
held.
"""

import contextlib
import fcntl
import json
from pathlib import Path
from typing import Any

STACK_FILE = "stack.json"
STACK_LOCK = "stack.lock"


def running_stack(data: Path) -> dict[str, Any] | None:
    """What a stack that runs on `data` wrote into stack.json; None when none runs there."""
    try:
        with (data / STACK_LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((data / STACK_FILE).read_text())
            return found
    except OSError:
        pass
    return None
