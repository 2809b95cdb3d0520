"""Build a Go program once and keep it: `go install` beside the target, then an atomic rename."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workers.errors import UnreachableError

__all__ = ["Say", "go_install", "how_far", "run_bounded"]

_BUILD_TIMEOUT_S = 1800.0
_PACKAGE = re.compile(r"[\w.~-]+(/[\w.~-]+)*")
"""What `go install -v` writes a line for each: the name of a package, as it is compiled."""

Say = Callable[[str], None]


def go_install(
    package: str, target: Path, name: str, say: Say, stop: threading.Event | None = None, *, packages: int
) -> bool:
    """Build `package` (path@version) as `target`; False if there is no Go or the build fails; `say` is called with the
    reason.

    `packages`: how many the program consists of, to tell how far the build is. Go compiles none again that it has kept.
    Raises UnreachableError(BUILD_STOPPED) when `stop` was set.
    """
    go = shutil.which("go")
    if go is None:
        say(f"{name}: Go is not installed")
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as scratch:
        folder, log = Path(scratch) / "bin", Path(scratch) / "log"
        run_bounded(
            [go, "install", "-v", package],
            log,
            f"{name}: building",
            _BUILD_TIMEOUT_S,
            say,
            stop,
            {"GOBIN": str(folder), "CGO_ENABLED": "0"},
            far=lambda: how_far(log.read_text(errors="replace"), packages),
        )
        built = next(folder.iterdir(), None) if folder.is_dir() else None
        if built is None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            told = [line for line in lines if not _PACKAGE.fullmatch(line)] or lines or ["no message"]
            say(f"{name}: the build failed: {told[-1].strip()}")
            return False
        built.replace(target)  # atomic: never a half-written program in the cache
    say(f"{name}: built in {time.monotonic() - began:.0f} s, kept in {target}")
    return True


def how_far(log: str, packages: int) -> str:
    """What `go install -v` has done by its output: modules fetched, then packages compiled."""
    lines = log.splitlines()
    compiled = sum(1 for line in lines if _PACKAGE.fullmatch(line))
    if compiled:
        return f"{compiled:,} of {packages:,} packages compiled"
    fetched = sum(1 for line in lines if line.startswith("go: downloading"))
    return f"{fetched:,} modules fetched" if fetched else ""


def run_bounded(
    argv: Sequence[str],
    log: Path,
    doing: str,
    timeout_s: float,
    say: Say,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    far: Callable[[], str] = str,
) -> None:
    """Run to the end, the time-out or `stop`, saying each ten seconds how long it took and how `far` it is. Leaves no
    process behind.

    Raises UnreachableError(BUILD_STOPPED) when `stop` was set.
    """
    began = time.monotonic()
    next_word = 10.0
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while (elapsed := time.monotonic() - began) < timeout_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.25)
                return
            if stop is not None and stop.is_set():
                raise UnreachableError("BUILD_STOPPED", f"{doing} was stopped; nothing was kept.")
            if elapsed >= next_word:
                say(", ".join(part for part in (doing, far(), f"{elapsed:.0f} s") if part))
                next_word += 10.0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # compilers and servers that it started, too
        process.wait()
