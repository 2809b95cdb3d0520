"""Finding Temporal's program, or getting it, on differently equipped machines; no test reaches the network."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from workers.errors import UserError
from workers.stack import temporal_binary
from workers.stack.go_build import go_install, how_far

WORKING = "#!/bin/sh\necho temporal version 0\n"
BROKEN = "#!/bin/sh\nexit 1\n"


def program(folder: Path, name: str, text: str) -> Path:
    """An executable script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, only the shell's tools on PATH, and no network."""
    monkeypatch.setenv("BOTTRADER_CACHE", str(tmp_path / "cache"))
    tools = tmp_path / "tools"
    for name in ("sh", "sleep", "mkdir", "chmod"):
        tools.mkdir(exist_ok=True)
        (tools / name).symlink_to(next(Path(part, name) for part in ("/usr/bin", "/bin") if Path(part, name).exists()))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{tools}")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    return tmp_path


def test_program_on_path_is_taken(machine: Path) -> None:
    """The user's own program is used first."""
    installed = program(machine / "path", "temporal", WORKING)
    program(machine / "cache/bin", temporal_binary.cached_path().name, WORKING)
    assert temporal_binary.ensure() == installed


def test_broken_program_on_path_is_passed_over(machine: Path) -> None:
    """A program that can't report its version is ignored."""
    program(machine / "path", "temporal", BROKEN)
    cached = program(machine / "cache/bin", temporal_binary.cached_path().name, WORKING)
    assert temporal_binary.ensure() == cached


def test_program_is_built_once(machine: Path) -> None:
    """Without program and network Go builds it into the cache; the second time it is there."""
    # A Go that "installs" by writing a program into GOBIN, as `go install` does.
    go = 'for last; do :; done\necho "$last" > "$GOBIN.asked"\nmkdir -p "$GOBIN"\n'
    go += 'printf \'#!/bin/sh\\necho 1\\n\' > "$GOBIN/temporal"\nchmod 755 "$GOBIN/temporal"\n'
    builder = program(machine / "path", "go", "#!/bin/sh\n" + go)
    said: list[str] = []
    built = temporal_binary.ensure(said.append)
    assert built == temporal_binary.cached_path()
    assert any("building it with Go" in line for line in said)
    builder.unlink()
    assert temporal_binary.ensure() == built
    assert [path.name for path in built.parent.iterdir()] == [built.name]


def test_nothing_works_names_every_way(machine: Path) -> None:
    """The error names PATH, Go, download and TEMPORAL_ADDRESS; the cache stays empty."""
    program(machine / "path", "go", "#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    said: list[str] = []
    with pytest.raises(UserError) as caught:
        temporal_binary.ensure(said.append)
    for way in ("PATH", "Go", "temporal.download", "TEMPORAL_ADDRESS"):
        assert way in caught.value.sentence
    assert any("no network" in line for line in said)
    assert list((machine / "cache/bin").iterdir()) == []


def test_a_build_tells_how_far_it_is() -> None:
    """Modules while Go fetches them, then compiled packages, out of those of the program."""
    assert how_far("", 1298) == ""
    fetching = "go: downloading golang.org/x/sync v0.13.0\ngo: downloading cel.dev/expr v0.20.0\n"
    assert how_far(fetching, 1298) == "2 modules fetched"
    compiling = fetching + "internal/goarch\nsync\ngithub.com/russross/blackfriday/v2\ngo: warning: an old version\n"
    assert how_far(compiling, 1298) == "3 of 1,298 packages compiled"


def test_a_failed_build_says_what_failed_and_not_what_was_compiled_last(machine: Path) -> None:
    """Go compiles several packages at once, so the last line of its output may be of a successful one."""
    lines = "errors\n# github.com/a/b\n./b.go:1:2: undefined: c\ngithub.com/d/e"
    program(machine / "path", "go", f"#!/bin/sh\nprintf '{lines}\\n' >&2\nexit 1\n")
    said: list[str] = []
    assert not go_install("a@v1", machine / "built", "A program", said.append, packages=3)
    assert said[-1] == "A program: the build failed: ./b.go:1:2: undefined: c"


def test_build_can_be_given_up(machine: Path) -> None:
    """A stopped build ends at once, with its children, and leaves nothing behind."""
    marker = machine / "began"
    program(machine / "path", "go", f"#!/bin/sh\necho > {marker}\nsleep 600 &\nwait\n")
    stop = threading.Event()

    def listen(line: str) -> None:
        if "building it with Go" in line:
            stop.set()

    with pytest.raises(UserError, match="was stopped"):
        temporal_binary.ensure(listen, stop)
    assert list((machine / "cache/bin").iterdir()) == []


def test_no_program_is_needed_for_a_server_that_runs(machine: Path) -> None:
    """With TEMPORAL_ADDRESS set nothing is fetched, and the command says so."""
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "workers.stack.temporal_binary"],
        env={**os.environ, "TEMPORAL_ADDRESS": "temporal.example:7233", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "temporal.example:7233" in done.stderr
    assert not (machine / "cache").exists()
