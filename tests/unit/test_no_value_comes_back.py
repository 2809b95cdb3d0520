"""No setting's value is repeated in an error (SAFE-5): a secret is put into every setting, and into wrong places."""

import json
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from activities.secret_values import hide, without_secrets
from cli.errors import as_user_error
from cli.main import run
from workers.errors import UserError
from workers.settings import Settings, build, load_settings
from workers.settings.changes import Edit, propose
from workers.settings.keys import leaves, secrets_in
from workers.settings.problems import ConfigError, is_plain_name
from workers.settings.sources import SettingSources

SECRET = "Sw0rd-f1sh/9c41e7ab02d4"
"""Neither a name, nor a number, nor an address."""
FRAGMENTS = ("Sw0rd", "9c41e7ab")
TOKEN = "9c41e7ab02d4f6e8a1b3c5d7e9f00112"
EXAMPLE: dict[str, Any] = {
    "database": {"url": "postgresql://h/d", "password_file": "p"},
    "webhook": {"senders": {"mine": {"secret": "0123456789abcdef", "token_file": "t"}}},
    "api": {
        "users": {
            "mine": {"password_digest": f"scrypt$15$8$1${'0' * 32}${'0' * 64}"},
            "yours": {"password_digest_file": "d"},
        },
        "programs": {"robot": {"token": "0123456789abcdef"}, "other": {"token_file": "t"}},
    },
    "strategy": {
        "parameters": {"k": 1},
        "indicators": {"mine": {"pandas_ta": "stoch", "parameters": {"k": 1}, "buy_below": 1, "trigger": "manual"}},
    },
    "notices": {"urls": ["json://localhost"]},
    "telegram": {
        "token": "123456:0123456789abcdefghij",
        "chats": [-5],
        "users": {"mine": {"id": 5}},
    },
}
KEYS = [leaf.key for leaf in leaves(Settings(**EXAMPLE))]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The output of `bottrader config check`, with and without --json, for a file with this text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path / "none"))

    def check(text: str) -> tuple[int, str]:
        (tmp_path / "bottrader.toml").write_text(text)
        codes = {run(["config", "check"]), run(["config", "check", "--json"])}
        assert len(codes) == 1
        found = capsys.readouterr()
        return codes.pop(), found.out + found.err

    return check


def nested(key: str, value: object) -> dict[str, Any]:
    """A tree in which `key` has this value."""
    *above, last = key.split(".")
    tree: dict[str, Any] = {last: value}
    for part in reversed(above):
        tree = {part: tree}
    return tree


WRONG = (SECRET, [SECRET], {SECRET: SECRET}, {"token": SECRET}, [{SECRET: 1}], f"wss://me:{SECRET}@host/x")
"""A secret in place of a setting's value, in several forms."""


def settings_of(tree: dict[str, Any]) -> Settings:
    """The settings made from a tree."""
    return Settings(**tree)


def refusal(act: Callable[[], object]) -> str:
    """The message of a refusal; empty if it is accepted."""
    try:
        act()
    except UserError as refused:
        return str(refused)
    return ""


def without_fragments(text: str) -> None:
    """Fails if a part of a secret is in the text."""
    assert not [part for part in (*FRAGMENTS, TOKEN) if part in text], text


@pytest.mark.parametrize("key", KEYS)
def test_a_secret_in_any_setting_is_not_repeated(key: str) -> None:
    """For any error and any source, the message names the key and not the value."""
    for value in WRONG:
        for sources in (
            SettingSources(from_file=nested(key, value)),
            SettingSources(from_environment=nested(key, value)),
            SettingSources(from_file={"mode": "live", **nested(key, value)}),
        ):
            without_fragments(refusal(partial(build, sources)))


@pytest.mark.parametrize("key", KEYS)
def test_a_secret_in_any_variable_is_not_repeated(key: str) -> None:
    """The variable is named, not its value."""
    name = "BOTTRADER_" + key.replace(".", "__").upper()
    for variable in (name, f"{name}X", f"{name}__X", name.removesuffix("S")):
        without_fragments(refusal(partial(load_settings, environ={variable: SECRET})))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'tokne = "{SECRET}"', "tokne is not a setting"),
        (f'[webhook.senders]\ntradingview = "{SECRET}"', "webhook.senders.tradingview must be a section with keys"),
        (f'[webhook.senders.tradingview]\ntokne = "{SECRET}"', "did you mean token?"),
        (f'[webhook.senders.tradingview]\ntoken = ["{SECRET}"]', "webhook.senders.tradingview.token: must be text"),
        (f"[webhook.senders.{TOKEN}]\ntoken = 1", "webhook.senders.(a name that is not shown).token"),
        (f'[webhook.senders."{SECRET}"]\ntoken = "0123456789abcdef"', "a sender's name may have lower-case letters"),
        (f'[database]\ndsn = "postgresql://me:{SECRET}@h/d"', "database.dsn is not a setting"),
        (f'[database]\nurl = "{SECRET}://me@h/d"', "database.url"),
        (f'[database]\n"{SECRET}" = 1', "database.(a name that is not shown) is not a setting"),
        (f"[database]\n{TOKEN} = 1", "database.(a name that is not shown) is not a setting"),
        (f'["{SECRET}"]\nx = 1', "(a name that is not shown) is not a setting"),
        (f'[exits]\nhard_stop_pct = "{SECRET}"', "exits.hard_stop_pct: must be a number"),
        (f'[notices]\nurls = ["{SECRET}"]', "notices.urls[0]: an address must be an Apprise URL"),
        (f'[notices]\nurls = ["json://a" "{SECRET}"]', "line 2, column 20: this is not valid TOML (unclosed array)"),
        (f'[notices]\nurl = "json://me:{SECRET}@host"', "notices.url is not a setting"),
        (f"[temporal]\napi_key = {SECRET}", "line 2, column 11: this is not valid TOML (invalid value"),
        (f'[temporal]\napi_key "{SECRET}"', "expected '=' after a key in a key/value pair"),
        (f'[temporal]\napi_key = "{SECRET}', "this is not valid TOML"),
        (f'[temporal]\napi_key = "\\{SECRET}"', "unescaped"),
        (f"[temporal]\napi_key = '{SECRET}' '", "expected newline or end of document after a statement"),
        (f'[temporal]\n"{SECRET}" = 1\n"{SECRET}" = 2', "a key occurs twice"),
        (f'["{SECRET}"]\n["{SECRET}"]', "a key or section occurs twice"),
        (f'x = {{"{SECRET}" = 1, "{SECRET}" = 2}}', "a key occurs twice"),
        (f'x = {{}}\n["x"."{SECRET}"]', "a key or section occurs twice"),
        (f'x = [{{"{SECRET}" = 1}}]\nx."{SECRET}" = 2', "this is not valid TOML"),
        (f'mode = "{SECRET}"', "mode: must be 'paper' or 'live'"),
        (f'account = "{SECRET}"', "account: has the wrong format"),
        (f'[strategy]\nuse = "{SECRET}"', "strategy.use: there is no such strategy"),
        (f'[strategy]\nuse = "domain.momentum:{SECRET}"', "strategy.use: "),
        (f'[strategy]\nuse = "{SECRET}.py:Mine"', "strategy.use: there is no such file"),
        (f'[exchange]\nrest = "127.0.0.1:1"\nkey_file = "{SECRET}"', "exchange.key_file: there is no such file"),
        (f'[exchange]\nca_file = "{SECRET}"', "exchange.ca_file: there is no such file"),
        (f'[exchange]\nrest = "{SECRET}.coinbase.com"', "exchange.rest: is the real exchange"),
        (f'[symbols]\nallow = ["{SECRET}"]', "symbols.allow[0]: must be a product like BTC-USD"),
    ],
)
def test_a_slip_of_the_hand_is_a_sentence_without_the_value(text: str, words: str, said: Any) -> None:
    """`config check` names the key or line and what is allowed, with exit code 2, and repeats nothing of the file."""
    code, answer = said(text)
    assert code == 2
    assert words in answer.replace("\\u2026", "…"), answer
    without_fragments(answer)


def test_a_profile_that_is_not_there_is_not_repeated(tmp_path: Path) -> None:
    """Nor is an unreadable line of the temporal command's own configuration."""
    file = tmp_path / "temporal.toml"
    for text in ("", f'[profile.prod]\napi_key = "{SECRET}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match="TEMPORAL_PROFILE") as refused:
            load_settings(environ={"TEMPORAL_CONFIG_FILE": str(file), "TEMPORAL_PROFILE": SECRET})
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize("key", [*KEYS, "symbols", "triggers.mine.size_quote", SECRET, f"exits.{SECRET}", "tokne"])
def test_what_is_set_by_command_is_not_repeated_when_it_is_refused(key: str) -> None:
    """Nor is a malformed key: arguments are easily given in the wrong order."""
    edits: tuple[Edit, ...] = ("set", "add", "remove")
    for edit in edits:
        without_fragments(refusal(partial(propose, SettingSources(from_file=EXAMPLE), key, [SECRET], edit)))


def test_every_known_name_can_be_shown() -> None:
    """No setting's name is masked, or messages would be useless."""

    def names(section: type[BaseModel]) -> Iterator[str]:
        for name, field in section.model_fields.items():
            yield name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from names(field.annotation)

    assert [name for name in (*names(Settings), *Settings().triggers) if not is_plain_name(name)] == []
    assert not any(is_plain_name(text) for text in (SECRET, TOKEN, "ghp_x9Kd83jQmWz71LpRt5vBn0Yc2Ha4Se6", "", "a" * 41))


def test_an_error_nobody_foresaw_has_no_values_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the sentence nor the file with the details has a setting's value, a secret, or the user's input."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["bottrader", "config", "set", "a.b", SECRET, f"--by={SECRET}"])
    hide(secrets_in(settings_of({"database": {"url": f"postgresql://me:{TOKEN}@h/d"}})))
    with pytest.raises(ValidationError) as invalid:
        settings_of({"mode": SECRET})
    without_fragments("".join(traceback.format_exception(invalid.value)))
    fault = RuntimeError(f"can't reach postgresql://me:{TOKEN}@h/d")
    fault.__cause__ = invalid.value
    sentence = as_user_error(fault).sentence
    (file,) = tmp_path.iterdir()
    assert file.name in sentence
    assert "config" in file.read_text()
    for text in (sentence, file.read_text()):
        without_fragments(text)


def test_errors_of_servers_are_told_without_their_texts() -> None:
    """Users, databases and addresses are from the settings: the sentence names the setting instead."""
    import asyncpg

    for error in (
        asyncpg.InvalidPasswordError(f'password authentication failed for user "{SECRET}"'),
        asyncpg.InvalidCatalogNameError(f'database "{SECRET}" does not exist'),
        ConnectionRefusedError(111, f"Connect call failed ('{SECRET}', 1)"),
        OSError(98, f"while attempting to bind on address ('{SECRET}', 1)"),
        RuntimeError(f"Failed client connect: {SECRET}"),
    ):
        assert SECRET not in as_user_error(error).sentence


def test_secrets_of_the_settings_are_taken_out_of_texts() -> None:
    """Also the logins in addresses, also escaped; short ones and other values stay."""
    settings = settings_of(
        {
            "database": {"url": "postgresql://me:p%40ssw0rd-long@db:1/d"},
            "exchange": {"rest": "h:1"},
            "notices": {"urls": ["tgram://123456:bot-token/1", "ntfys://someone:topic-password@h:2/x"]},
            "webhook": {"senders": {"mine": {"token": "0123456789abcdefXYZ"}}},
        }
    )
    hide(secrets_in(settings))
    text = without_secrets(
        "at postgresql://me:p%40ssw0rd-long@db:1/d p@ssw0rd-long ntfys://someone:topic-password@h:2/x "
        "tgram://123456:bot-token/1 0123456789abcdefXYZ main h:1"
    )
    assert text == "at *** *** *** *** *** main h:1"
    assert json.loads(json.dumps(settings.model_dump(mode="json")))["database"]["url"] == "**********"
