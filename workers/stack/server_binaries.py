"""`python -m workers.stack.server_binaries`: Builds and caches Temporal's production server, its schema tool and its
Web UI.

They are the programs in the compose file's images, so that its services can run as plain processes in tests and
benchmarks; a live stack uses them too. Built when one of these needs them, or by `make server` (about three minutes on
two cores), never by `make test`.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from workers.errors import UnreachableError, UserError
from workers.stack.folders import cache_dir
from workers.stack.go_build import Say, go_install

SERVER_VERSION = "1.29.1"
UI_VERSION = "2.42.1"

PROGRAMS = {
    "temporal-server": (SERVER_VERSION, f"go.temporal.io/server/cmd/server@v{SERVER_VERSION}"),
    "temporal-sql-tool": (SERVER_VERSION, f"go.temporal.io/server/cmd/tools/sql@v{SERVER_VERSION}"),
    "ui-server": (UI_VERSION, f"github.com/temporalio/ui-server/v2/cmd/server@v{UI_VERSION}"),
}
"""Program name as in the images → its version and Go package."""
_PACKAGES = {"temporal-server": 1254, "temporal-sql-tool": 747, "ui-server": 415}
"""How many Go packages each consists of in its version, those in common counted with each: `go list -deps`."""


def cached(program: str) -> Path:
    """Where `program` is kept."""
    return cache_dir() / "bin" / f"{program}-{PROGRAMS[program][0]}"


def all_cached() -> bool:
    """Whether every program is there."""
    return all(cached(program).exists() for program in PROGRAMS)


def ensure(programs: Iterable[str], say: Say, stop: threading.Event | None = None) -> None:
    """Build the missing ones of `programs`.

    Raises UnreachableError: BUILD_FAILED, or BUILD_STOPPED when `stop` was set.
    """
    missing = [program for program in programs if not cached(program).exists()]
    if missing:
        say(f"Temporal's server: building {' and '.join(missing)} with Go (about 3 minutes, once)")
    for program in missing:
        if not go_install(PROGRAMS[program][1], cached(program), program, say, stop, packages=_PACKAGES[program]):
            raise UnreachableError(
                "BUILD_FAILED",
                f"{program} could not be built: install Go 1.24 or newer (go.dev/dl) on PATH, let this machine reach "
                "Go's module proxy, and try again.",
            )


async def ensure_async(programs: Iterable[str], say: Say) -> None:
    """`ensure` without blocking the event loop; when cancelled, a build that runs is ended first."""
    stop = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(ensure, programs, say, stop))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(UserError):
            await working
        raise


def ui_config() -> Path | None:
    """The folder of the Web UI's own configuration, as its image has it; None when Go does not keep its source."""
    go = shutil.which("go")
    if go is None:
        return None
    root = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=False).stdout.strip()
    folder = Path(root) / "github.com" / "temporalio" / "ui-server" / f"v2@v{UI_VERSION}" / "config"
    return folder if folder.is_dir() else None


def main() -> int:
    """Build what is missing, and report it."""

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    try:
        ensure(PROGRAMS, say)
    except UserError as error:
        say(f"error: {error.sentence}")
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130
    say(f"Temporal's server programs are in {cache_dir() / 'bin'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
