"""Settings: defaults as required, three sources in order, and one sentence for each mistake."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.config import sample
from workers.errors import ExitCode, UnreachableError
from workers.settings import DEFAULT_TRIGGERS, Settings, load_settings
from workers.settings_problems import ConfigError


def problems_of(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a file that says `text`."""
    file = tmp_path / "bottrader.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ or {})
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    return [problem.replace(str(file), "FILE") for problem in caught.value.problems]


def test_defaults_are_the_required_ones() -> None:
    """Exits without any configuration are those of the requirements."""
    exits = load_settings(environ={}).exits
    assert exits.hard_stop_pct == 5
    assert exits.soft_stop_pct == Decimal("2.5")
    assert exits.trailing_arm_pct == Decimal("3.5")
    assert exits.trailing_atr_multiple == 2
    assert exits.trailing_min_distance_pct == 1
    assert exits.trailing_max_distance_pct == 2
    assert exits.trailing_step_atr == Decimal("0.5")
    assert exits.take_profit_pct == Decimal("2.5")
    assert not exits.take_profit_enabled
    assert exits.reprice_interval_s == 5
    assert exits.max_reprices == 5
    assert exits.limit_offset_pct == Decimal("0.01")
    assert exits.price_stale_after_s == 120
    assert exits.retry_backoff_max_s == 60


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """The same key in both: the environment's value counts, the file's other keys stay."""
    file = tmp_path / "bottrader.toml"
    file.write_text('account = "file"\n[exits]\nhard_stop_pct = 6\nsoft_stop_pct = 3\n')
    settings = load_settings(file, {"BOTTRADER_EXITS__HARD_STOP_PCT": "7.5"})
    assert settings.account == "file"
    assert settings.exits.hard_stop_pct == Decimal("7.5")
    assert settings.exits.soft_stop_pct == 3


def test_usual_names_of_servers_are_read(tmp_path: Path) -> None:
    """DATABASE_URL and TEMPORAL_ADDRESS need no prefix."""
    settings = load_settings(environ={"DATABASE_URL": "postgresql://u:p@h:1/d", "TEMPORAL_ADDRESS": "t:7"})
    assert settings.database.dsn == "postgresql://u:p@h:1/d"
    assert settings.database.sqlalchemy_url.drivername == "postgresql+asyncpg"
    assert settings.temporal.address == "t:7"


def test_named_file_must_exist(tmp_path: Path) -> None:
    """A file that is asked for and not there is an error, not an empty one."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load_settings(tmp_path / "none.toml", {})


def test_password_may_come_from_a_file(tmp_path: Path) -> None:
    """The address has no password, the file has it, and the result is for asyncpg."""
    (tmp_path / "password").write_text("s3cret/@\n")
    environ = {
        "DATABASE_URL": "postgresql://postgres@db:5432/bottrader",
        "BOTTRADER_DATABASE__PASSWORD_FILE": str(tmp_path / "password"),
    }
    assert load_settings(environ=environ).database.dsn == "postgresql://postgres:s3cret%2F%40@db:5432/bottrader"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[exits]\nhardstop_pct = 4", "FILE: exits.hardstop_pct (= 4) is not a setting; did you mean hard_stop_pct?"),
        (
            "[exits]\nhard_stop_pct = 400",
            (
                "FILE: exits.hard_stop_pct = 400: must be less than 100 "
                "(allowed: above 0 and below 100; loss at which a MARKET exit is due)."
            ),
        ),
        ("mode = 'lve'", "FILE: mode = 'lve': must be 'paper' or 'live' (live trades real money)."),
        ("exits = 5", "FILE: exits must be a section with keys, not 5."),
        (
            "[exits\n",
            (
                "FILE, line 1, column 7: this is not valid TOML "
                "(expected ']' at the end of a table declaration): '[exits'"
            ),
        ),
        (
            "[triggers.x]\norder_type = 'MARKET'",
            "FILE: triggers.x: exactly one of size_quote and size_base must be given.",
        ),
        (
            "[triggers.roc_momo.exits]\nhard_stop_pct = 1",
            (
                "FILE: triggers.roc_momo.exits: soft_stop_pct (2.5) must be below hard_stop_pct (1), "
                "or the soft stop never acts."
            ),
        ),
        (
            "[symbols]\nblock = ['DOGEUSD']",
            "FILE: symbols.block[0] = 'DOGEUSD': a product is written like BTC-USD (blacklist: never bought).",
        ),
        (
            "mode = 'live'\nspeed = 5\n[exchange]\nkey_file = 'k'",
            (
                "FILE: speed = 5: can't be used with mode = live: real markets can't be hurried; it needs 1 "
                "(allowed: above 0 and at most 10000; market seconds in a wall second; live needs 1)."
            ),
        ),
        (
            "[exchange]\nrest = 'api.coinbase.com'",
            (
                "FILE: exchange.rest = 'api.coinbase.com': is the real exchange, but mode = paper: leave it out, or set "
                'mode = "live" (REST host[:port], always reached over TLS).'
            ),
        ),
    ],
)
def test_each_mistake_is_one_sentence(text: str, expected: str, tmp_path: Path) -> None:
    """The sentence names the key, its value, and what is allowed or meant."""
    assert problems_of(text, tmp_path) == [expected]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to start the program once for every mistake."""
    found = problems_of("acount = 'x'\n[watcher]\nshards = 0\n", tmp_path, {"BOTTRADER_MODUS": "live"})
    assert len(found) == 3


def test_secrets_are_not_repeated_in_messages(tmp_path: Path) -> None:
    """A wrong database address is not printed: it may have a password in it."""
    (sentence,) = problems_of("[database]\nurl = 'mysql://me:hunter2@h/d'", tmp_path)
    assert "hunter2" not in sentence
    assert "PostgreSQL, not mysql" in sentence


def test_live_mode_needs_keys() -> None:
    """Real trading is never started by half a configuration."""
    with pytest.raises(ConfigError, match=r"exchange\.key_file"):
        load_settings(environ={"BOTTRADER_MODE": "live"})
    live = load_settings(environ={"BOTTRADER_MODE": "live", "BOTTRADER_EXCHANGE__KEY_FILE": "/keys.json"})
    assert live.rest_address == "api.coinbase.com"


def test_paper_mode_without_an_exchange_says_how_to_get_one() -> None:
    """Paper mode never falls back to the real exchange."""
    with pytest.raises(UnreachableError, match="bottrader up"):
        _ = load_settings(environ={}).rest_address


def test_file_changes_single_keys_of_a_default_trigger(tmp_path: Path) -> None:
    """What the file leaves out of a known trigger keeps its default, and its own exits win over [exits]."""
    file = tmp_path / "bottrader.toml"
    file.write_text("[triggers.roc_momo]\nexpiry_s = 30\n[triggers.passive_mm]\nsize_base = 0.01\n")
    settings = load_settings(file, {})
    assert settings.triggers["roc_momo"].expiry_s == 30
    assert settings.triggers["roc_momo"].size_quote == 200
    assert settings.triggers["passive_mm"].size_quote is None
    assert settings.exits_for("roc_momo").take_profit_enabled
    assert settings.exits_for("unknown") == settings.exits


def test_written_sample_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    """`config init` writes a file with which everything is as without it, and names every setting."""
    file = tmp_path / "bottrader.toml"
    file.write_text(sample())
    assert load_settings(file, {}) == Settings()
    for section in Settings.model_fields:
        assert section in sample()
    assert all(f"[triggers.{name}]" in sample() for name in DEFAULT_TRIGGERS)


def test_uncommented_sample_is_valid_too(tmp_path: Path) -> None:
    """Every line of the sample can be used by taking its # away."""
    lines = [
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in sample().splitlines()
        if not line.endswith(" =")
    ]
    file = tmp_path / "bottrader.toml"
    file.write_text("\n".join(lines))
    assert load_settings(file, {}) == Settings()


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_environment_value_escapes_as_a_traceback(name: str, value: str) -> None:
    """Whatever an environment variable says, the result is settings or a ConfigError."""
    for key in (f"BOTTRADER_{name.upper()}", "BOTTRADER_SPEED", "BOTTRADER_SYMBOLS__ALLOW", "DATABASE_URL"):
        try:
            load_settings(environ={key: value})
        except ConfigError:
            continue


def test_profile_of_the_temporal_command_is_read(tmp_path: Path) -> None:
    """TEMPORAL_PROFILE names address and namespace; TEMPORAL_ADDRESS wins; an unknown profile is a sentence."""
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.prod]\naddress = "cloud.example:7233"\nnamespace = "trading"\n')
    environ = {"TEMPORAL_CONFIG_FILE": str(file), "TEMPORAL_PROFILE": "prod"}
    temporal = load_settings(environ=environ).temporal
    assert (temporal.profile, temporal.address, temporal.namespace) == ("prod", "cloud.example:7233", "trading")
    nearer = load_settings(environ={**environ, "TEMPORAL_ADDRESS": "near:7233"}).temporal
    assert (nearer.address, nearer.namespace) == ("near:7233", "trading")
    with pytest.raises(ConfigError, match="TEMPORAL_PROFILE"):
        load_settings(environ={**environ, "TEMPORAL_PROFILE": "none"})
