"""The two lock files: what trading needs in one, tools of development in the other; and the installer's progress."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.support.locks import DEV_LOCK, ROOT, RUN_LOCK, lines
from workers.stack.packages import Progress, install, locked

_SHIPPED = ("activities", "cli", "domain", "exchange", "fifo", "research", "schema", "web", "workers", "workflows")


def test_run_lock_has_what_trading_needs_and_no_more() -> None:
    """It has the dependencies of pyproject.toml with theirs, in the versions of this test run."""
    run, dev = lines()
    assert RUN_LOCK.read_text().splitlines() == run
    tools = locked(DEV_LOCK.read_text())
    assert not tools.keys() & locked(RUN_LOCK.read_text()).keys()
    assert {"pytest", "mypy", "ruff", "ccxt"} <= tools.keys()
    assert tools.items() <= locked("\n".join(dev)).items()


def test_nothing_that_ships_imports_a_tool_of_development() -> None:
    """Each import of a shipped module is in `requirements.lock`."""
    run = locked(RUN_LOCK.read_text()).keys()
    origins = packages_distributions()
    for path, module in _imports():
        names = {canonicalize_name(name) for name in origins.get(module, ())}
        assert names & run, f"{path} imports {module}, which requirements.lock does not install"


def _imports() -> Iterator[tuple[Path, str]]:
    for room in _SHIPPED:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                found: list[str] = []
                if isinstance(node, ast.Import):
                    found = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found = [node.module]
                for module in {name.partition(".")[0] for name in found} - {*_SHIPPED, *sys.stdlib_module_names}:
                    yield path.relative_to(ROOT), module


def test_the_installer_counts_what_is_downloaded_and_what_is_there(tmp_path: Path) -> None:
    """A package counts as installed only in the lock's version, in any spelling of its name."""
    progress = Progress(locked("PyJWT==2.15.1\nruamel.yaml==1.0\nuvloop==0.23.0\n"), tmp_path)
    progress.hear("Collecting PyJWT==2.15.1 (from -r requirements.lock (line 1))")
    progress.hear("Downloading PyJWT-2.15.1-py3-none-any.whl (22 kB)")
    progress.hear("Requirement already satisfied: uvloop==0.23.0 in a folder (from -r requirements.lock (line 3))")
    assert progress.words == "2 of 3 packages downloaded (uvloop)"
    progress.hear("Installing collected packages: PyJWT, ruamel.yaml")
    for name in ("pyjwt-2.15.1", "ruamel_yaml-0.9", "uvloop-0.23.0", "other-1"):
        (tmp_path / f"{name}.dist-info").mkdir()
    assert progress.words == "2 of 3 packages installed"


def test_the_installer_hands_on_how_pip_failed(tmp_path: Path) -> None:
    """Its exit code and the last lines of both its outputs are passed on."""
    code = "import sys; print('Collecting a==1'); sys.stderr.write('ERROR: no such version\\n'); sys.exit(3)"
    progress = Progress(locked("a==1\n"), tmp_path)
    ended, last = install([sys.executable, "-c", code], progress, lambda words, seconds: None)
    assert ended == 3
    assert "ERROR: no such version" in last
    assert progress.words == "1 of 1 packages downloaded (a)"
