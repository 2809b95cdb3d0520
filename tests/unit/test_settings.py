"""Settings: defaults as required, three sources in order, and one sentence for each mistake."""

import re
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cli.settings_file import sample, toml_value
from workers.errors import ExitCode, UnreachableError, UserError
from workers.settings import Settings, build, load_settings
from workers.settings.changes import Edit, propose
from workers.settings.keys import constraints, find, holds_secret, leaves
from workers.settings.problems import ConfigError
from workers.settings.sources import Override, SettingSources, merge
from workers.settings.types import PaperOnly
from workers.temporal_connection import connect


def problems_of(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> list[str]:
    """The errors of a file with `text`."""
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
    """With the same key in both the environment's value counts; the file's other keys stay."""
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
    """A named file that is missing is an error, not an empty file."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load_settings(tmp_path / "none.toml", {})


def test_password_may_come_from_a_file(tmp_path: Path) -> None:
    """The address has no password, the file has it, and the result is in asyncpg's form."""
    (tmp_path / "password").write_text("s3cret/@\n")
    environ = {
        "DATABASE_URL": "postgresql://postgres@db:5432/bottrader",
        "BOTTRADER_DATABASE__PASSWORD_FILE": str(tmp_path / "password"),
    }
    assert load_settings(environ=environ).database.dsn == "postgresql://postgres:s3cret%2F%40@db:5432/bottrader"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[exits]\nhardstop_pct = 4", "FILE: exits.hardstop_pct is not a setting; did you mean hard_stop_pct?"),
        (
            "[exits]\nhard_stop_pct = 400",
            (
                "FILE: exits.hard_stop_pct: must be less than 100 "
                "(allowed: above 0 and below 100; loss at which a MARKET exit is due)."
            ),
        ),
        ("mode = 'lve'", "FILE: mode: must be 'paper' or 'live' (live trades real money)."),
        ("exits = 5", "FILE: exits must be a section with keys."),
        (
            "[exits\n",
            ("FILE, line 1, column 7: this is not valid TOML (expected ']' at the end of a table declaration)."),
        ),
        (
            "[triggers.x]\norder_type = 'MARKET'",
            "FILE: triggers.x: exactly one of size_quote, size_base and size_pct must be given.",
        ),
        (
            "[triggers.roc_momo.exits]\nhard_stop_pct = 1",
            ("FILE: triggers.roc_momo.exits: soft_stop_pct must be below hard_stop_pct, or the soft stop never acts."),
        ),
        (
            "[symbols]\nblock = ['DOGEUSD']",
            "FILE: symbols.block[0]: must be a product like BTC-USD (block list: never bought).",
        ),
        (
            "mode = 'live'\nspeed = 5\n[exchange]\nkey_file = 'k'",
            (
                "FILE: speed: can't be used with mode = live: real markets run at their own speed; it needs 1 "
                "(allowed: above 0 and at most 10000; market seconds per wall second; live needs 1)."
            ),
        ),
        (
            "[exchange]\nrest = 'api.coinbase.com'",
            (
                "FILE: exchange.rest: is the real exchange, but mode = paper: remove it, "
                'or set mode = "live" (REST host[:port], always over TLS).'
            ),
        ),
    ],
)
def test_each_mistake_is_one_sentence(text: str, expected: str, tmp_path: Path) -> None:
    """The sentence names the key and what is allowed; it doesn't repeat the value."""
    assert problems_of(text, tmp_path) == [expected]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to start the program once for each mistake."""
    found = problems_of("acount = 'x'\n[watcher]\nshards = 0\n", tmp_path, {"BOTTRADER_MODUS": "live"})
    assert len(found) == 3


def test_secrets_are_not_repeated_in_messages(tmp_path: Path) -> None:
    """A wrong database address is not printed: it may contain a password."""
    (sentence,) = problems_of("[database]\nurl = 'mysql://me:hunter2@h/d'", tmp_path)
    assert "hunter2" not in sentence
    assert "needs PostgreSQL" in sentence


def test_live_mode_needs_keys() -> None:
    """Real trading is never started with an incomplete configuration."""
    with pytest.raises(ConfigError, match=r"exchange\.key_file"):
        load_settings(environ={"BOTTRADER_MODE": "live"})
    live = load_settings(environ={"BOTTRADER_MODE": "live", "BOTTRADER_EXCHANGE__KEY_FILE": "/keys.json"})
    assert live.rest_address == "api.coinbase.com"


def test_paper_mode_without_an_exchange_says_how_to_get_one() -> None:
    """Paper mode never falls back to the real exchange."""
    with pytest.raises(UnreachableError, match="bottrader up"):
        _ = load_settings(environ={}).rest_address


def test_file_changes_single_keys_of_a_default_trigger(tmp_path: Path) -> None:
    """Keys missing in the file for a known trigger keep their defaults, and its own exits win over [exits]."""
    file = tmp_path / "bottrader.toml"
    file.write_text("[triggers.roc_momo]\nexpiry_s = 30\n[triggers.passive_mm]\nsize_base = 0.01\n")
    settings = load_settings(file, {})
    assert settings.triggers["roc_momo"].expiry_s == 30
    assert settings.triggers["roc_momo"].size_quote == 200
    assert settings.triggers["passive_mm"].size_quote is None
    assert settings.exits_for("roc_momo").take_profit_enabled
    assert settings.exits_for("unknown") == settings.exits


def test_written_sample_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    """`config init` writes a file that changes nothing."""
    file = tmp_path / "bottrader.toml"
    file.write_text(sample())
    assert load_settings(file, {}) == Settings()


def uncommented() -> dict[str, Any]:
    """The sample with every # before a key or a section removed, parsed."""
    keys = re.compile(r"#(\[|[\w\"'-]+ = )")
    return tomllib.loads("\n".join(line[1:] if keys.match(line) else line for line in sample().splitlines()))


def test_uncommented_sample_is_valid_too(tmp_path: Path) -> None:
    """Every line of the sample can be used by removing its #, and has the default."""
    assert Settings(**uncommented()) == Settings()


@pytest.mark.parametrize("section", [*Settings.model_fields])
def test_sample_has_every_key_of_a_section(section: str) -> None:
    """Each setting is in the sample, in its place, with its default and an explanation."""
    tree, lines = uncommented(), sample().splitlines()
    own = [leaf for leaf in leaves(Settings()) if leaf.key.partition(".")[0] == section]
    assert own or section in sample()
    for leaf in own:
        assert leaf.field.description, f"{leaf.key} has no description"
        *above, name = leaf.key.split(".")
        if section == "triggers":
            # Explained once for all of them, by the name below the trigger's.
            assert any(line.startswith(f"#   {'.'.join([*above[2:], name])}: ") for line in lines), leaf.key
        if leaf.value is None:
            assert section == "triggers" or f"#{name} =" in lines, leaf.key
        elif "protection" not in above:
            node: Any = tree
            for part in leaf.key.split("."):
                node = node[part]
            assert node == load_toml(leaf.value), leaf.key


def load_toml(value: object) -> object:
    """A setting's value as it is in a file."""
    return tomllib.loads(f"value = {toml_value(value)}")["value"]


def test_sample_explains_unit_and_range() -> None:
    """Above a key are its meaning, its unit if the meaning doesn't have it, and the allowed values."""
    text = sample()
    assert "# gain at which the trailing stop arms [percent, above 0 and below 100]\n#trailing_arm_pct = 3.5\n" in text
    assert "# a LIMIT exit is re-priced after this long [seconds, above 0 and at most 86400]\n" in text
    assert '# live trades real money [paper or live]\n#mode = "paper"\n' in text
    assert "PydanticUndefined" not in text
    assert "candles in the ATR [at least 2 and at most 200]; from the next start\n#atr_period = 14\n" in text


LIVE_KEYS = {"mode": "live", "exchange": {"key_file": "/keys.json"}}
ONLY_ON_PAPER = {
    "speed": 5,
    "exchange.rest": "localhost:8443",
    "exchange.stream": "wss://127.0.0.1:8444",
    "exchange.user_stream": "ws://advanced-trade-ws-user.coinbase.com",
    "exchange.ca_file": "/paper.pem",
    "orders.unknown_resolution_s": 2,
}


def marked(section: type[BaseModel], prefix: str = "") -> set[str]:
    """Keys marked PaperOnly, in and below a section."""
    found = set()
    for name, field in section.model_fields.items():
        if any(isinstance(noted, PaperOnly) for noted in constraints(field)):
            found.add(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= marked(field.annotation, f"{prefix}{name}.")
    return found


def test_every_setting_for_trying_has_a_value_that_live_refuses() -> None:
    """Each setting marked PaperOnly has a value in the test below."""
    assert marked(Settings) == set(ONLY_ON_PAPER)


@pytest.mark.parametrize(("key", "value"), ONLY_ON_PAPER.items())
def test_live_mode_refuses_what_is_for_trying(key: str, value: object) -> None:
    """The value is accepted on paper, and with mode = live the sentence names key and reason."""
    *above, name = key.split(".")
    own: dict[str, Any] = {name: value}
    given = {above[0]: own} if above else own
    Settings(**({"exchange": {"rest": "localhost:1"}} | given) if "coinbase.com" not in str(value) else {})
    given = merge(LIVE_KEYS, given)
    with pytest.raises(ConfigError) as refused:
        SettingSources(from_file=given).build(Settings)
    (sentence,) = refused.value.problems
    assert sentence.startswith(f"{key}: ")
    assert "can't be used with mode = live" in sentence


def test_live_mode_takes_the_venues_own_addresses() -> None:
    """Real hosts over TLS, a longer wait for proof of absence, and no crash point of a test."""
    given = {
        "mode": "live",
        "exchange": {"key_file": "/k", "rest": "api.coinbase.com", "stream": "wss://advanced-trade-ws.coinbase.com"},
        "orders": {"unknown_resolution_s": 200},
    }
    assert SettingSources(from_file=given).build(Settings).rest_address == "api.coinbase.com"
    with pytest.raises(ConfigError, match="BOTTRADER_CRASH_AT"):
        SettingSources(from_file=given, environ={"BOTTRADER_CRASH_AT": "before_place=x"}).build(Settings)
    given["exchange"] = {"key_file": "/k", "rest": "api.coinbase.com.evil.example"}
    with pytest.raises(ConfigError, match=r"exchange\.rest"):
        SettingSources(from_file=given).build(Settings)


def test_all_that_live_refuses_is_told_at_once() -> None:
    """One sentence each, and one for the missing keys."""
    with pytest.raises(ConfigError) as refused:
        load_settings(environ={"BOTTRADER_MODE": "live", "BOTTRADER_SPEED": "9", "BOTTRADER_EXCHANGE__REST": "h:1"})
    speed, rest, key = refused.value.problems
    assert speed.startswith("BOTTRADER_SPEED (environment): can't be used with mode = live")
    assert rest.startswith("BOTTRADER_EXCHANGE__REST (environment): can't be used")
    assert key.startswith('exchange.key_file must be given with mode = "live"')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[exits]\nmax_spread_pct = 1", "did you mean max_spread_pct in [risk]?"),
        ("[exit]\nhard_stop_pct = 1", "did you mean exits?"),
        ("[triggers.Mine]\nsize_quote = 1", "triggers.Mine"),
        ("[triggers.x]\nsize_quote = 1e999999", "allowed: above 0 and at most 1,000,000,000,000"),
        ("[triggers.x]\nsize_quote = nan", "must be"),
        ("[triggers.x]\nsize_quote = 0.0000000000000000001", "12 decimal places"),
        ("a = 1\nb = = 2", "FILE, line 2, column 5: this is not valid TOML (invalid value: text stands in quotes)."),
        ("[database]\nurl = 'hunter2", 'FILE: this is not valid TOML: expected "\'" at the end of the file.'),
        ("[database]\nurl = hunter2", "FILE, line 2, column 7: this is not valid TOML (invalid value"),
        ("[exits]\ntake_profit_enabled = 'maybe'", "must be true or false"),
        ("[exits]\nhard_stop_pct = '1_0'", "hard_stop_pct: must be a number in plain digits (allowed: above 0"),
        ("[exits]\nhard_stop_pct = '\u0661'", "must be a number in plain digits"),
        ("[exits]\ntrailing_arm_pct = '1_0'", "must be a number in plain digits"),
        ("[triggers.x]\nsize_quote = '1_0'", "must be a number in plain digits"),
        ("[triggers.x]\nsize_quote = 1\n[triggers.x.exits]\nhard_stop_pct = '1_0'", "must be a number in plain digits"),
        ("[symbols]\nmax_open_buys = '1_0'", "must be a number in plain digits"),
        ("speed = '1_0'", "must be a number in plain digits"),
        ("[symbols]\nmax_open_buys = 2.5", "must be a whole number"),
        ("x = " + "[" * 5000, "nested too deeply"),
    ],
)
def test_mistakes_are_told_in_words(text: str, words: str, tmp_path: Path) -> None:
    """Where the key belongs, what it may be, and the wrong line; never a secret."""
    (sentence,) = problems_of(text, tmp_path)
    assert words in sentence
    assert "hunter2" not in sentence
    assert len(sentence) < 400


def test_numbers_of_a_file_are_exact(tmp_path: Path) -> None:
    """A file's numbers are not rounded: they are never converted to binary fractions."""
    file = tmp_path / "bottrader.toml"
    file.write_text("[triggers.manual]\nsize_quote = 1234567890.123456789012\n")
    assert load_settings(file, {}).triggers["manual"].size_quote == Decimal("1234567890.123456789012")


@pytest.mark.parametrize(
    ("key", "live"),
    [
        ("symbols.block", True),
        ("symbols.allow", True),
        ("symbols.hodl", True),
        ("symbols.disabled", True),
        ("risk.max_position_pct", True),
        ("triggers.any.size_quote", True),
        ("triggers.any.exits.hard_stop_pct", True),
        ("exits.hard_stop_pct", True),
        ("exits.atr_period", False),
        ("strategy.enabled", True),
        ("quoting.enabled", True),
        ("roc.enabled", True),
        ("mode", False),
        ("account", False),
        ("database.url", False),
        ("exchange.key_file", False),
    ],
)
def test_what_may_change_while_workers_run(key: str, live: bool) -> None:
    """Triggers, lists and limits may change; the process's own parameters may not."""
    found = find(Settings, key.split("."))
    assert found.field is not None
    assert found.live is live


def test_no_live_setting_holds_a_secret() -> None:
    """Settings changed by command are stored and shown unmasked, so none is a secret."""
    assert not [leaf.key for leaf in leaves(Settings()) if leaf.live and holds_secret(leaf.field.annotation)]


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_environment_value_escapes_as_a_traceback(name: str, value: str) -> None:
    """For any value of an environment variable, the result is settings or a ConfigError."""
    for key in (f"BOTTRADER_{name.upper()}", "BOTTRADER_SPEED", "BOTTRADER_SYMBOLS__ALLOW", "DATABASE_URL"):
        try:
            load_settings(environ={key: value})
        except ConfigError:
            continue


def test_profile_of_the_temporal_command_is_read(tmp_path: Path) -> None:
    """TEMPORAL_PROFILE gives address and namespace; TEMPORAL_ADDRESS wins; an unknown profile is a sentence."""
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.prod]\naddress = "cloud.example:7233"\nnamespace = "trading"\n')
    environ = {"TEMPORAL_CONFIG_FILE": str(file), "TEMPORAL_PROFILE": "prod"}
    temporal = load_settings(environ=environ).temporal
    assert (temporal.profile, temporal.address, temporal.namespace) == ("prod", "cloud.example:7233", "trading")
    nearer = load_settings(environ={**environ, "TEMPORAL_ADDRESS": "near:7233"}).temporal
    assert (nearer.address, nearer.namespace) == ("near:7233", "trading")
    with pytest.raises(ConfigError, match="TEMPORAL_PROFILE"):
        load_settings(environ={**environ, "TEMPORAL_PROFILE": "none"})


KEYS = st.one_of(
    st.sampled_from(
        [leaf.key for leaf in leaves(Settings()) if leaf.live] + ["exits", "triggers", "triggers.mine.source"]
    ),
    st.text(max_size=20),
)
VALUES = st.lists(
    st.one_of(
        st.decimals(allow_nan=True).map(str),
        st.sampled_from(["true", "off", "BTC-USD", "[1, 2]", "{a = 1}", "", "MARKET", "a,b", '"x"']),
        st.text(max_size=20),
    ),
    min_size=1,
    max_size=3,
)


@given(KEYS, VALUES, st.sampled_from(["set", "add", "remove"]))
def test_a_change_is_a_sentence_or_comes_back_from_storage_as_it_was(key: str, values: list[str], edit: Edit) -> None:
    """Any input is refused in words, or stored as JSON that gives the same settings when read."""
    sources = SettingSources()
    try:
        proposed = propose(sources, key, values, edit)
    except UserError:
        return
    stored = orjson.loads(orjson.dumps(proposed.value))
    again = sources.under({key: Override(stored, "ann", datetime.now(UTC))})
    assert build(again) == proposed.after


@pytest.mark.parametrize("text", ["1_0", "\u0661", "\uff14", "0_4.5"])
def test_a_number_that_is_typed_is_plain_digits(text: str) -> None:
    """Text that Python reads as another number than a person sees is refused in one sentence."""
    with pytest.raises(ConfigError, match="must be a number in plain digits"):
        propose(SettingSources(), "exits.hard_stop_pct", [text])
    with pytest.raises(ConfigError, match="must be a number in plain digits"):
        load_settings(environ={"BOTTRADER_EXITS__HARD_STOP_PCT": text})


def test_items_are_put_on_a_list_and_taken_off_it() -> None:
    """In any spelling, no item is on the list twice."""
    sources = SettingSources(from_file={"symbols": {"block": ["BTC-USD"]}})
    assert propose(sources, "symbols.block", ["btc-usd", "eth-usd,sol-usd"], "add").value == [
        "BTC-USD",
        "ETH-USD",
        "SOL-USD",
    ]
    assert propose(sources, "symbols.block", ["btc-usd"], "remove").value == []
    assert propose(sources, "symbols.block", [""], "set").value == []


def test_the_last_allowed_product_is_not_taken_off_by_the_way() -> None:
    """An empty symbols.allow allows everything, so removing the last product is refused; emptying it must be
    explicit."""
    sources = SettingSources()
    everything = [*build(sources).symbols.allow]
    assert propose(sources, "symbols.allow", everything[1:], "remove").value == everything[:1]
    with pytest.raises(UserError, match="every product may be bought") as refused:
        propose(sources, "symbols.allow", everything, "remove")
    assert refused.value.code == "LAST_ALLOWED"
    assert propose(sources, "symbols.allow", ["[]"], "set").value == []


@pytest.mark.parametrize(
    "key_and_address",
    [
        ("rest", r"evil.com\.coinbase.com"),
        ("rest", "api.coinbase.com:8443"),
        ("rest", "api.coinbase.com@evil.com"),
        ("rest", "me@api.coinbase.com"),
        ("rest", "api2.coinbase.com"),
        ("rest", "api.coinbase.com.evil.com"),
        ("rest", "API.COINBASE.COM/"),
        ("stream", "wss://evil.com#.coinbase.com"),
        ("stream", "wss://advanced-trade-ws.coinbase.com:8443"),
        ("stream", "ws://advanced-trade-ws.coinbase.com"),
        ("user_stream", "wss://me@advanced-trade-ws-user.coinbase.com"),
        ("user_stream", "wss://advanced-trade-ws-user.coinbase.com/elsewhere"),
    ],
)
def test_live_takes_the_exact_hosts_of_the_exchange_and_nothing_like_them(key_and_address: tuple[str, str]) -> None:
    """A port, a login, a path, another or a longer name could each be another server that reads the login."""
    key, address = key_and_address
    with pytest.raises(ConfigError, match=r"exchange's|is the exchange|is not an address"):
        build(SettingSources(from_file={**LIVE_KEYS, "exchange": {"key_file": "/keys.json", key: address}}))


@pytest.mark.parametrize("tls", ["", "tls.disabled = true"])
async def test_a_profile_without_tls_reaches_no_temporal_elsewhere_in_live(
    tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile may have TLS, which is checked before the connection; nothing is sent to the server."""
    file = tmp_path / "temporal.toml"
    file.write_text(f'[profile.away]\naddress = "temporal.example.com:7233"\n{tls}\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(file))
    given = {"profile": "away", "address": "temporal.example.com:7233"}
    with pytest.raises(UserError, match="neither") as refused:
        await connect(build(SettingSources(from_file={**LIVE_KEYS, "temporal": given})))
    assert refused.value.code == "OPEN_TEMPORAL"


@pytest.mark.parametrize(
    "host",
    [
        "api.coinbase%2ecom",
        "api.c%6finbase.com",
        "api.coinbase\u3002com",
        "\u24d2oinbase.com",
        "coin\u00adbase.com",
        "a@b",
    ],
)
def test_an_address_that_is_not_written_plainly_is_refused(host: str) -> None:
    """Escaped or in other case it is the real exchange for the client libraries, and paper would spend money."""
    for key, address in (("rest", host), ("stream", f"wss://{host}"), ("user_stream", f"wss://{host}/user")):
        with pytest.raises(ConfigError, match="is not an address"):
            build(SettingSources(from_file={"mode": "paper", "exchange": {key: address}}))


@pytest.mark.parametrize("host", ["127.0.0.1:8443", "[::1]:8443", "paper-exchange", "exchange.example.com:443"])
def test_a_paper_exchange_may_be_anywhere(host: str) -> None:
    """By name or number, with a port or without."""
    built = build(SettingSources(from_file={"exchange": {"rest": f"https://{host}/", "stream": f"ws://{host}/market"}}))
    assert built.rest_address == host


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"database": {"url": "postgresql://u:hidden@db.example.com/x"}}, "sslmode"),
        ({"database": {"url": "postgresql://u:hidden@db.example.com/x?sslmode=prefer"}}, "sslmode"),
        ({"database": {"url": "postgresql://u:hidden@db.example.com/x?sslmode=require"}}, "sslmode"),
        ({"database": {"url": "postgresql://u:hidden@db.example.com/x?sslmode=verify-ca"}}, "sslmode"),
        ({"database": {"url": "postgresql://u:hidden@127.0.0.1,db.example.com/x"}}, "sslmode"),
        ({"database": {"url": "postgresql:///x"}}, "sslmode"),
        ({"temporal": {"address": "temporal.example.com:7233"}}, "temporal.tls"),
    ],
)
def test_live_reaches_no_server_elsewhere_without_tls(given: dict[str, Any], word: str) -> None:
    """The sentence names what is missing and nothing of the address; paper is unrestricted."""
    with pytest.raises(ConfigError) as refused:
        build(SettingSources(from_file={**LIVE_KEYS, **given}))
    assert word in refused.value.sentence
    assert "hidden" not in refused.value.sentence
    build(SettingSources(from_file=given))


@pytest.mark.parametrize(
    "given",
    [
        {"database": {"url": "postgresql://u@db.example.com/x?sslmode=verify-full"}},
        {"database": {"url": "postgresql://u@[::1]:5432/x"}},
        {"database": {"url": "postgresql://u@/x?host=/var/run/postgresql"}},
        {"database": {"url": "postgresql://u@postgres/x"}, "private_hosts": ["postgres"]},
        {"temporal": {"address": "temporal.example.com:7233", "tls": True}},
        {"temporal": {"address": "localhost:7233"}},
        {"temporal": {"address": "temporal:7233"}, "private_hosts": ["temporal"]},
    ],
)
def test_live_takes_servers_on_this_machine_by_tls_or_on_a_private_network(given: dict[str, Any]) -> None:
    """A host on a private network must be named as one."""
    assert build(SettingSources(from_file={**LIVE_KEYS, **given})).mode == "live"


def test_a_key_of_the_real_exchange_has_no_place_beside_paper() -> None:
    """Paper without a named exchange would pass the key to the stack's paper exchange, or ignore it."""
    with pytest.raises(ConfigError, match=r"key_file is a key of the real exchange, but mode = paper"):
        build(SettingSources(from_file={"exchange": {"key_file": "/keys.json"}}))
    build(SettingSources(from_file={"exchange": {"key_file": "/keys.json", "rest": "127.0.0.1:8443"}}))


def test_names_in_temporal_go_by_mode_unless_they_are_said() -> None:
    """New ledgers of paper and live share no queue; given names stay, and are known as given."""
    assert Settings().temporal.orders_queue == "orders"
    live = build(SettingSources(from_file={**LIVE_KEYS, "temporal": {"streams_queue": "mine"}}))
    assert (live.temporal.namespace, live.temporal.orders_queue) == ("bottrader-live", "live-orders")
    assert live.temporal.streams_queue == "mine"
    assert live.temporal.model_fields_set == {"streams_queue"}
