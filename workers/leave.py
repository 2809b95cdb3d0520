"""End a short-lived process that used Temporal's client.

The SDK's background threads can outlive the event loop and then crash the interpreter's teardown (sdk-python issue
300), which would replace the exit code by an abort. So: run what was registered for the exit, flush, and leave
without a teardown.
"""

import atexit
import logging
import os
import sys
from typing import NoReturn

__all__ = ["leave"]


def leave(code: int) -> NoReturn:
    """Exit the process with `code`; without a teardown if Temporal's SDK was loaded."""
    if "temporalio.bridge.temporal_sdk_bridge" not in sys.modules:
        sys.exit(code)
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the reader has left, or the stream is closed: nothing more can be said there
            continue
    os._exit(code)
