"""How a process finds a running local stack: `stack.json`, which is trusted only while its lock is held."""

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
    """The content of stack.json of a stack running on `data`; None if none is running.

    Raises UserError(BAD_DATA_FOLDER) if another user may have written it, because it determines where commands connect.
    """
    try:
        with (data / STACK_LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(OSError, ValueError), (data / STACK_FILE).open() as file:
            problem = folder_problem(data)
            if problem is None and os.fstat(file.fileno()).st_uid not in {0, os.geteuid()}:
                problem = "the stack running there belongs to another user: run this as that user"
            if problem is not None:
                raise UserError("BAD_DATA_FOLDER", f"{data} is not trusted: {problem}.") from None
            found: dict[str, Any] = json.load(file)
            return found
    except OSError:
        pass
    return None
