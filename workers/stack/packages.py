"""`python -m workers.stack.packages FILE`: install what a lock file lists with pip, and tell how far it is.

pip is either silent for a minute or prints some hundred lines. Here one line counts: what is downloaded, then what is
installed. It runs before any package is there, so it imports nothing but Python's own library.
"""

import re
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = ["Progress", "install", "locked"]

_LOOK_S = 0.25
_WORD_EACH_S = 10.0
"""Wall seconds between two lines where the output is no terminal; on one, a single line is written anew."""
_LAST_LINES = 15
"""Of pip's own output, where it failed."""
_FOUND = re.compile(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)")


def locked(text: str) -> dict[str, str]:
    """Name → version of a lock file's lines, which are all `name==version`; names as package indexes compare them."""
    pins = (line.split("==") for line in text.splitlines() if "==" in line)
    return {_compared(name): version.strip() for name, version in pins}


def _compared(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


class Progress:
    """How far pip is, by its output and by what lies in the environment's folder."""

    def __init__(self, pins: dict[str, str], folder: Path) -> None:
        self._pins = pins
        self._folder = folder
        self._found: set[str] = set()
        self._last = ""
        self._installing = False

    def hear(self, line: str) -> None:
        """A line of pip's output."""
        if line.startswith("Installing collected packages"):
            self._installing = True
        elif (named := _FOUND.match(line)) and (name := _compared(named[1])) in self._pins:
            self._found.add(name)
            self._last = name

    @property
    def words(self) -> str:
        """Such as `31 of 74 packages downloaded (numpy)`."""
        total = len(self._pins)
        if self._installing:
            return f"{len(set(self._there()))} of {total} packages installed"
        return f"{len(self._found)} of {total} packages downloaded" + (f" ({self._last})" if self._last else "")

    def _there(self) -> Iterator[str]:
        """What of the lock is installed in its version: pip writes this folder last."""
        for path in self._folder.glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            if self._pins.get(_compared(name)) == version:
                yield _compared(name)


def install(argv: Iterable[str], progress: Progress, say: Callable[[str, float], None]) -> tuple[int, list[str]]:
    """Run pip to its end; `say` hears four times a second how far it is, and after how many seconds.

    Its exit code and the last lines of its output.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    last: deque[str] = deque(maxlen=_LAST_LINES)

    def read() -> None:
        for line in process.stdout or ():
            last.append(line.rstrip())
            progress.hear(line.strip())

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    try:
        while process.poll() is None:
            reading.join(_LOOK_S)
            say(progress.words, time.monotonic() - began)
        reading.join()
    except KeyboardInterrupt:
        process.wait()  # the terminal has told it, too
        raise
    return process.returncode, list(last)


def _teller() -> Callable[[str, float], None]:
    """On a terminal one line that is written anew, else a line each ten seconds."""
    on_terminal = sys.stderr.isatty()
    next_word = _WORD_EACH_S

    def say(words: str, seconds: float) -> None:
        nonlocal next_word
        if on_terminal:
            sys.stderr.write(f"\r\033[K      {words}, {seconds:.0f} s")
        elif seconds >= next_word:
            next_word += _WORD_EACH_S
            sys.stderr.write(f"      {words}, {seconds:.0f} s\n")
        sys.stderr.flush()

    return say


def main() -> int:
    """Install what the files list, one after the other."""
    for name in sys.argv[1:]:
        lock = Path(name)
        progress = Progress(locked(lock.read_text()), Path(sysconfig.get_paths()["purelib"]))
        argv = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-warn-script-location"]
        argv += ["--progress-bar", "off", "--no-deps", "--requirement", name]
        try:
            code, last = install(argv, progress, _teller())
        except KeyboardInterrupt:
            return 130
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        if code:
            sys.stderr.write("\n".join(last) + f"\nerror: pip could not install what {name} lists (its words above).\n")
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
