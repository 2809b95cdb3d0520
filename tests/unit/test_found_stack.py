"""Which running stack a command uses: that of its settings' mode, or of the folder that it is given."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.settings import environment
from cli.settings_left import settings_at_hand
from workers.stack.folders import data_dir
from workers.stack.stack_file import STACK_FILE, STACK_LOCK

_DSN = "postgresql://live@127.0.0.1:1/ledger"


@pytest.fixture
def live_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A live stack that runs in its usual folder, and a user in another folder without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("BOTTRADER_DATA", "BOTTRADER_MODE", "BOTTRADER_CONFIG", "DATABASE_URL", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = data_dir("live")
    folder.mkdir(parents=True)
    found = {
        "DATABASE_URL": _DSN,
        "BOTTRADER_MODE": "live",
        "BOTTRADER_EXCHANGE__KEY_FILE": str(tmp_path / "key.json"),
    }
    (folder / STACK_FILE).write_text(json.dumps({"mode": "live", "environment": found}))
    with (folder / STACK_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def test_who_is_told_the_folder_of_a_live_system_works_on_it_from_anywhere(
    live_stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BOTTRADER_DATA selects the stack if no settings have a mode; settings for paper are not overruled."""
    monkeypatch.setenv("BOTTRADER_DATA", str(live_stack))
    found = environment()
    assert (found["BOTTRADER_MODE"], found["DATABASE_URL"]) == ("live", _DSN)
    monkeypatch.setenv("BOTTRADER_MODE", "paper")
    assert "DATABASE_URL" not in environment()


def test_who_stops_finds_the_live_system_and_who_enters_does_not(
    live_stack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without settings, a command that stops uses the live system and says so; one that enters has no database."""
    settings, instead = settings_at_hand()
    assert (settings.mode, settings.database.url is not None, instead) == ("live", True, "")
    assert "the live system that runs on this machine" in capsys.readouterr().err
    assert "DATABASE_URL" not in environment()


def test_paper_settings_never_find_a_live_system(live_stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With settings for paper, a command that stops doesn't reach a live system either."""
    monkeypatch.setenv("BOTTRADER_MODE", "paper")
    settings, _ = settings_at_hand()
    assert (settings.mode, settings.database.url) == ("paper", None)
