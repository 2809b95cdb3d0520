"""Finds or fetches the `temporal` program, which is both the local stack's dev server and the command line.

In order: `temporal` on PATH, our cache, the SDK's own download, `go install`. `python -m workers.stack.temporal_binary`
prints its path and says on stderr what it is doing; with TEMPORAL_ADDRESS set none is needed and none is fetched.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from workers.errors import UnreachableError, UserError
from workers.stack.folders import cache_dir
from workers.stack.go_build import Say, go_install, run_bounded

__all__ = ["CLI_VERSION"]

CLI_VERSION = "1.5.1"
"""The newest tag of temporalio/cli that `go install` can build (server 1.29.1, with the Web UI)."""

_DOWNLOAD_TIMEOUT_S = 120.0
_PACKAGES = 1298  # of this version: `go list -deps ./cmd/temporal` in its source


def _silent(_: str) -> None:
    """Print nothing."""


def cached_path() -> Path:
    """The program's path once fetched or built."""
    return cache_dir() / "bin" / f"temporal-{CLI_VERSION}"


def works(program: Path | str) -> bool:
    """Whether `program --version` runs."""
    try:
        done = subprocess.run([str(program), "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def find() -> Path | None:
    """The program if it exists: on PATH or in our cache. Fetches nothing."""
    on_path = shutil.which("temporal")
    for candidate in ([Path(on_path)] if on_path else []) + [cached_path()]:
        if candidate.exists() and works(candidate):
            return candidate
    return None


def ensure(say: Say = _silent, stop: threading.Event | None = None) -> Path:
    """Find the program or fetch it; `say` is called with one line for each step, with the elapsed seconds.

    Raises UnreachableError: TEMPORAL_MISSING listing every way if none works, BUILD_STOPPED when `stop` was set.
    """
    found = find()
    if found is not None:
        return found
    target = cached_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    if _download(target, say, stop):
        return target
    say("Temporal: no download; building it with Go (about 4 minutes, once)")
    package = f"github.com/temporalio/cli/cmd/temporal@v{CLI_VERSION}"
    if go_install(package, target, "Temporal", say, stop, packages=_PACKAGES) and works(target):
        return target
    raise UnreachableError(
        "TEMPORAL_MISSING",
        "Temporal's server program is missing and could not be downloaded or built: install the `temporal` CLI "
        "(docs.temporal.io/cli) on PATH, or Go 1.24 or newer to build it with, or let this machine reach "
        "temporal.download, or set TEMPORAL_ADDRESS to a running server.",
    )


async def ensure_async(say: Say = _silent) -> Path:
    """`ensure` without blocking the event loop; when cancelled, a download or build that runs is ended first."""
    stop = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(ensure, say, stop))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(UserError):
            await working
        raise


def _download(target: Path, say: Say, stop: threading.Event | None) -> bool:
    """The SDK's own download: it fetches the CLI to start a dev server, which is stopped at once."""
    say("Temporal: not on PATH nor in the cache; trying the SDK's download")
    code = (
        "import asyncio, sys\n"
        "from temporalio.testing import WorkflowEnvironment\n"
        "async def main():\n"
        "    env = await WorkflowEnvironment.start_local(\n"
        "        dev_server_download_version=sys.argv[2], download_dest_dir=sys.argv[1])\n"
        "    await env.shutdown()\n"
        "asyncio.run(main())\n"
    )
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as scratch:
        folder, log = Path(scratch) / "bin", Path(scratch) / "log"
        folder.mkdir()
        # In a process of its own, so that a download that hangs can be given up. Its traceback is no news to the user.
        argv = [sys.executable, "-c", code, str(folder), f"v{CLI_VERSION}"]
        run_bounded(argv, log, "Temporal: downloading", _DOWNLOAD_TIMEOUT_S, say, stop)
        fetched = next((path for path in folder.iterdir() if works(path)), None)
        if fetched is None:
            return False
        fetched.replace(target)  # atomic: never a half-written program in the cache
    say(f"Temporal: downloaded, kept in {target}")
    return True


def main() -> int:
    """Print the program's path on stdout and the steps on stderr."""

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    if os.environ.get("TEMPORAL_ADDRESS"):
        say(f"Temporal: using the server at {os.environ['TEMPORAL_ADDRESS']} (TEMPORAL_ADDRESS)")
        return 0
    try:
        path = ensure(say)
    except UserError as error:
        say(error.sentence)
        return int(error.exit_code)
    except KeyboardInterrupt:
        say("Temporal: stopped; nothing was kept")
        return 130
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
