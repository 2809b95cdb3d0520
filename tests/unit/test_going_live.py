"""The guide to real money: `config check` accepts its example of settings, and its limits are as stated."""

import json
import os
import re
import subprocess
import sys
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from exchange.paper.coinbase.auth import Keyring
from workers.settings import Settings, load_settings
from workers.stack.processes import python_environment

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "going-live.md").read_text(encoding="utf-8")
ACCOUNT = Decimal(1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the guide's settings file and a key file."""
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 1
    name = tomllib.loads(blocks[0])["exchange"]["key_file"]
    (tmp_path / "bottrader.toml").write_text(blocks[0], encoding="utf-8")
    (tmp_path / "bottrader.toml").chmod(0o600)
    keys = tmp_path / "keys"
    keys.mkdir()
    Keyring(keys).key_file.rename(tmp_path / name)
    (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Its settings."""
    monkeypatch.chdir(folder)
    return load_settings(environ={})


def test_the_guides_settings_are_taken_as_they_are(folder: Path) -> None:
    """`config check` in a folder with the file and a key objects to no value."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BOTTRADER_", "DATABASE"))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", "config", "check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=python_environment({"BOTTRADER_DATA": str(folder / "data")}, environment),
    )
    assert done.returncode == 0, done.stderr


def test_the_guides_limits_suit_a_thousand(settings: Settings) -> None:
    """No trigger that can buy spends more than the guide states or is without a stop at the exchange; a day's loss is
    at most some per cent of the account.
    """
    assert settings.mode == "live"
    for name, trigger in settings.triggers.items():
        assert trigger.size_base is None
        assert trigger.size_quote is not None
        assert trigger.size_quote <= (50 if name == "roc_momo" else 25), name
        if name != "passive_mm":
            assert trigger.protection.kind != "none", name
    assert not settings.quoting.enabled
    assert Decimal("0.01") * ACCOUNT <= settings.risk.daily_loss_limit <= Decimal("0.03") * ACCOUNT
    assert len(settings.symbols.allow) * settings.risk.max_position_pct / 100 * ACCOUNT == 200
    assert "At most 200 USD is in the market" in GUIDE
    worst = Decimal(25) * (settings.exits.hard_stop_pct / 100 + 2 * Decimal("0.006"))
    assert abs(worst - Decimal("1.30")) < Decimal("0.01")
    assert settings.risk.losing_trades_in_a_row * 50 / 25 * float(worst) < settings.risk.daily_loss_limit


def test_every_command_of_the_guide_exists() -> None:
    """Each command in the guide answers to --help."""
    commands = set(re.findall(r"bottrader ((?:[a-z]+ ?)+)", GUIDE))
    typed = sorted({" ".join(word for word in command.split() if word not in {"in", "is"}) for command in commands})
    code = (
        "import json, sys; from cli.main import app; from typer.main import get_command\n"
        "missing = []\n"
        "for line in json.load(sys.stdin):\n"
        "    at = get_command(app)\n"
        "    for word in line.split():\n"
        "        inner = getattr(at, 'commands', None)\n"
        "        if inner is None: break\n"
        "        if word not in inner: missing.append(line); break\n"
        "        at = inner[word]\n"
        "print(missing)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(typed),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "[]"
