"""`bottrader config import .env`: an older system's settings converted, and those left out are named."""

from __future__ import annotations

import stat
from decimal import Decimal
from pathlib import Path

import pytest

from cli.main import run
from workers.settings import load_settings
from workers.settings.old_env import read_old

_ENV = """
# the old system's
HARD_STOP=-0.05
STOP_LOSS=-2.5   # percent, in this one
export TAKE_PROFIT="0.03"
TRAILING_ACTIVATION=0.035
TRAILING_DISTANCE=1.5%
TP_ROC_MOMO=0.1
RSI_OVERSOLD_SL='-0.02'
HODL=BTC, eth_usdc
DRY_RUN=True
ALLOW_BUYS_ON_RED_DAY=no
TELEGRAM_BOT_TOKEN=123456:made-up-token
TELEGRAM_CHAT_ID=-100200
DATABASE_URL=postgresql://me:made-up-word@localhost/old
SHILL_COINS=DOGE
"""


def test_an_old_env_becomes_a_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stops, by trigger too, HODL, dry run, red days and Telegram are kept; the rest is named, secrets are not shown,
    and only the owner can read the file.
    """
    env, file = tmp_path / ".env", tmp_path / "ours.toml"
    env.write_text(_ENV)
    assert run(["config", "import", str(env), "--to", str(file)]) == 0
    settings = load_settings(file, {})
    exits = settings.exits
    assert (exits.hard_stop_pct, exits.soft_stop_pct, exits.take_profit_pct) == (Decimal(5), Decimal("2.5"), Decimal(3))
    assert (exits.trailing_arm_pct, exits.take_profit_enabled) == (Decimal("3.5"), False)
    assert exits.trailing_min_distance_pct == exits.trailing_max_distance_pct == Decimal("1.5")
    assert settings.exits_for("roc_momo").take_profit_pct == 10
    assert settings.exits_for("rsi_oversold").soft_stop_pct == 2
    assert settings.symbols.hodl == ("BTC-USD", "ETH-USDC")
    assert settings.dry_run is True
    assert settings.risk.allow_buys_on_red_day is False
    assert [url.get_secret_value() for url in settings.notices.urls] == ["tgram://123456:made-up-token/-100200/"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = "".join(capsys.readouterr())
    assert "SHILL_COINS is left out: there is no such setting here." in told
    assert "DATABASE_URL is left out: it is read from the environment under the same name" in told
    assert "made-up" not in told


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --force nothing is replaced, and --dry-run writes nothing."""
    env, file = tmp_path / ".env", tmp_path / "ours.toml"
    env.write_text("HARD_STOP=-0.06\n")
    assert run(["config", "import", str(env), "--to", str(file), "--dry-run"]) == 0
    assert not file.exists()
    file.write_text("# mine\n")
    assert run(["config", "import", str(env), "--to", str(file)]) == 2
    assert file.read_text() == "# mine\n"
    assert "--force" in capsys.readouterr().err


def test_what_contradicts_itself_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Contradictory stops are refused with the same message as in any settings file."""
    env, file = tmp_path / ".env", tmp_path / "ours.toml"
    env.write_text("HARD_STOP=-0.02\nSTOP_LOSS=-0.03\n")
    assert run(["config", "import", str(env), "--to", str(file)]) == 2
    assert not file.exists()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("HARD_STOP=0.5", "its value could be a fraction or percent: set it by hand"),
        ("HARD_STOP=far", "its value is not a number"),
        ("HARD_STOP=NaN", "its value is not a number"),
        ("HARD_STOP", "its value is not a number"),
        ("DRY_RUN=maybe", "its value is neither true nor false"),
        ("TELEGRAM_BOT_TOKEN=x", "a message needs the bot's token and the chat's id"),
        ("TP_NOBODY=0.1", "there is no such setting here"),
    ],
)
def test_what_is_not_understood_is_named(line: str, why: str) -> None:
    """A value that can't be read, or is ambiguous, is never guessed."""
    found = read_old(line + "\n")
    assert (found.taken, found.left) == ([], {line.partition("=")[0]: why})
