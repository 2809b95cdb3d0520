"""How one process finds the local stack that another keeps running: `stack.json`, believed only while its lock is
held.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from workers.errors import UserError
from workers.private_files import folder_problem

__all__ = ["STACK_FILE", "STACK_LOCK", "running_stack"]

STACK_FILE = "stack.json"
STACK_LOCK = "stack.lock"


def running_stack(data: Path) -> dict[str, Any] | None:
    """What a stack that runs on `data` wrote into stack.json; None when none runs there.

    Raises UserError(BAD_DATA_FOLDER) where another user may have written it: it says whom commands talk to.
    """
    try:
        with (data / STACK_LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(OSError, ValueError), (data / STACK_FILE).open() as file:
            problem = folder_problem(data)
            if problem is None and os.fstat(file.fileno()).st_uid not in {0, os.geteuid()}:
                problem = "the stack that runs there is another user's: run this as that user"
            if problem is not None:
                raise UserError("BAD_DATA_FOLDER", f"{data} is not believed: {problem}.") from None
            found: dict[str, Any] = json.load(file)
            return found
    except OSError:
        pass
    return None
