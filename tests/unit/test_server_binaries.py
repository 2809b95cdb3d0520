"""Temporal's production server, built when it is needed; no test reaches the network."""

from pathlib import Path

import pytest

from workers.errors import ExitCode, UserError
from workers.stack import server_binaries


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache and nothing on PATH."""
    monkeypatch.setenv("BOTTRADER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


async def test_without_go_one_sentence_says_what_to_do(machine: Path) -> None:
    """Exit code 3, and the cache is unchanged."""
    said: list[str] = []
    with pytest.raises(UserError, match="install Go") as caught:
        await server_binaries.ensure_async(["temporal-server"], said.append)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert any("building temporal-server" in line for line in said)
    assert not server_binaries.cached("temporal-server").exists()


def test_what_is_there_is_not_built_again(machine: Path) -> None:
    """Nothing is printed and nothing done for programs in the cache."""
    program = server_binaries.cached("ui-server")
    program.parent.mkdir(parents=True)
    program.touch()
    said: list[str] = []
    server_binaries.ensure(["ui-server"], said.append)
    assert said == []


def test_only_what_is_missing_is_built(machine: Path) -> None:
    """A fake Go is called once for each missing program."""
    go = machine / "path" / "go"
    go.write_text(
        "#!/bin/sh\n"
        'for last; do :; done\necho "$last" >> "$BOTTRADER_CACHE/asked"\n'
        '[ -d "$GOBIN" ] || /bin/mkdir "$GOBIN"\n: > "$GOBIN/server"\n'
    )
    go.chmod(0o755)
    server_binaries.ensure(["temporal-server", "ui-server"], lambda _: None)
    server_binaries.ensure(["temporal-server", "ui-server"], lambda _: None)
    asked = (machine / "cache" / "asked").read_text().split()
    assert asked == [server_binaries.PROGRAMS[name][1] for name in ("temporal-server", "ui-server")]
