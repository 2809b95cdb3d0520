"""`make check`'s last step: the types in the page's comments, by TypeScript's checker, if npm is installed."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "web" / "page"


def _tool() -> Path | None:
    """The checker in this lock file's version, fetched if missing; None if it is not available."""
    tool, made = PAGE / "node_modules" / ".bin" / "tsc", PAGE / "node_modules" / ".for-development"
    digest = hashlib.sha256((PAGE / "package-lock.json").read_bytes()).hexdigest()
    if tool.exists() and made.exists() and made.read_text() == digest:
        return tool
    npm = shutil.which("npm")
    if npm is None:
        sys.stderr.write("      skipped: npm is not installed\n")
        return None
    done = subprocess.run([npm, "ci", "--prefix", str(PAGE)], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode or not tool.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[0]
        sys.stderr.write(f"      skipped: npm could not fetch TypeScript ({last})\n")
        return None
    made.write_text(digest)
    return tool


def main() -> int:
    """Check them. Returns the checker's exit code."""
    tool = _tool()
    return 0 if tool is None else subprocess.run([tool, "--project", PAGE], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
