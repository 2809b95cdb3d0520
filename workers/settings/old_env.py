"""Converts an older system's `.env` file to our settings (the table is in docs/database.md). Pure.

Losses and gains were written as fractions (-0.05) or as percent (-5); a number from 0.3 up to 1 could be either, so it
is not converted. Unknown entries are listed with the reason, never guessed, and values are never shown (SAFE-5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from io import StringIO
from typing import Any

from dotenv import dotenv_values

from domain.money import plain
from workers.settings.exits import DEFAULT_TRIGGERS
from workers.settings.problems import ENV_PREFIX, shown_key
from workers.settings.sources import merge

__all__ = ["OldSettings", "TakenSettings", "read_old", "sections_of"]

_MOST_FRACTION, _LEAST_PERCENT = Decimal("0.3"), Decimal(1)
_YES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_READ_ANYWAY = ("DATABASE_URL", "TEMPORAL_")
_CHAT = ("TELEGRAM_BOT_TOKEN", "TELEGRAM_TOKEN", "TELEGRAM_CHAT_ID")


@dataclass(frozen=True, slots=True)
class TakenSettings:
    """One old name and its conversion: our keys with their values, and a remark."""

    name: str
    values: Mapping[str, Any]
    note: str = ""
    secret: bool = False


@dataclass(slots=True)
class OldSettings:
    """A converted file. `left` are names that are not converted, each with the reason as a clause."""

    taken: list[TakenSettings] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> dict[str, Any]:
        """The converted settings, in the structure of a settings file."""
        merged: dict[str, Any] = {}
        for item in self.taken:
            for key, value in item.values.items():
                *sections, last = key.split(".")
                branch: dict[str, Any] = {last: value}
                for section in reversed(sections):
                    branch = {section: branch}
                merged = merge(merged, branch)
        return merged


def read_old(text: str) -> OldSettings:
    """A `.env` file's values by name; of duplicates the last one counts."""
    given = {name: value or "" for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items()}
    found = OldSettings()
    _take_chat(given, found)
    for name, value in given.items():
        if name in _CHAT:
            continue
        if name.startswith((ENV_PREFIX, *_READ_ANYWAY)):
            found.left[shown_key([name])] = "it is read from the environment under the same name, so keep it there"
            continue
        try:
            found.taken.append(_taken(name, value.strip()))
        except LookupError:
            found.left[shown_key([name])] = "there is no such setting here"
        except ValueError as error:
            found.left[shown_key([name])] = str(error)
    return found


def _taken(name: str, value: str) -> TakenSettings:
    """Raises LookupError for a name that is not known, ValueError with a clause for a value that can't be read."""
    if (read := _PLAIN.get(name)) is not None:
        return read(name, value)
    rule, trigger = _of_a_trigger(name)
    note = "" if trigger == _TAKES_PROFIT else rule.note
    return TakenSettings(name, dict.fromkeys((f"triggers.{trigger}.{key}" for key in rule.keys), _percent(value)), note)


@dataclass(frozen=True, slots=True)
class _Percents:
    """Keys that one old percentage sets."""

    keys: tuple[str, ...]
    note: str = ""

    def __call__(self, name: str, value: str) -> TakenSettings:
        return TakenSettings(name, dict.fromkeys(self.keys, _percent(value)), self.note)


_TAKES_PROFIT = "roc_momo"
_NOT_ON = "take profit stays off until take_profit_enabled says otherwise"


def _exit(key: str, note: str = "") -> _Percents:
    return _Percents((f"exits.{key}",), note)


def _switch(key: str) -> Callable[[str, str], TakenSettings]:
    return lambda name, value: TakenSettings(name, {key: _yes(value)})


def _coins(name: str, value: str) -> TakenSettings:
    """Coins or products, in either form of before (`BTC`, `BTC_USD`)."""
    coins = [part.strip().upper().replace("_", "-").replace("/", "-") for part in value.split(",") if part.strip()]
    products = [coin if "-" in coin else f"{coin}-USD" for coin in coins]
    dollars = "" if all("-" in coin for coin in coins) else "coins are converted to products in USD"
    return TakenSettings(name, {"symbols.hodl": products}, dollars)


_PLAIN: Mapping[str, Callable[[str, str], TakenSettings]] = {
    "HARD_STOP": _exit("hard_stop_pct"),
    "STOP_LOSS": _exit("soft_stop_pct"),
    "TAKE_PROFIT": _exit("take_profit_pct", _NOT_ON),
    "TAKE_PROFIT_ENABLED": _switch("exits.take_profit_enabled"),
    "TRAILING_ACTIVATION": _exit("trailing_arm_pct"),
    "TRAILING_DISTANCE": _Percents(
        ("exits.trailing_min_distance_pct", "exits.trailing_max_distance_pct"),
        "a fixed distance: minimum and maximum are the same",
    ),
    "HODL": _coins,
    "DRY_RUN": _switch("dry_run"),
    "ALLOW_BUYS_ON_RED_DAY": _switch("risk.allow_buys_on_red_day"),
}
_BY_TRIGGER: Mapping[str, _Percents] = {
    "TAKE_PROFIT": _exit("take_profit_pct", _NOT_ON),
    "TP": _exit("take_profit_pct", _NOT_ON),
    "STOP_LOSS": _exit("soft_stop_pct"),
    "SL": _exit("soft_stop_pct"),
    "HARD_STOP": _exit("hard_stop_pct"),
}
_TRIGGERS: Mapping[str, str] = {**{name.upper(): name for name in DEFAULT_TRIGGERS}, "ROC": _TAKES_PROFIT}


def _of_a_trigger(name: str) -> tuple[_Percents, str]:
    """`ROC_MOMO_TP` and `TP_ROC_MOMO`: the rule, and its trigger. Raises LookupError."""
    for word, rule in _BY_TRIGGER.items():
        for trigger in (name.removeprefix(f"{word}_"), name.removesuffix(f"_{word}")):
            if trigger in _TRIGGERS:
                return rule, _TRIGGERS[trigger]
    raise LookupError(name)


def _percent(value: str) -> Decimal:
    try:
        number = abs(Decimal(value.rstrip("%").strip()))
    except InvalidOperation:
        raise ValueError("its value is not a number") from None
    if not number.is_finite():
        raise ValueError("its value is not a number")
    if number >= _LEAST_PERCENT or value.endswith("%"):
        return Decimal(plain(number))
    if number > _MOST_FRACTION:
        raise ValueError("its value could be a fraction or percent: set it by hand")
    return Decimal(plain(number * 100))


def _yes(value: str) -> bool:
    if value.lower() not in _YES:
        raise ValueError("its value is neither true nor false")
    return _YES[value.lower()]


def _take_chat(given: Mapping[str, str], found: OldSettings) -> None:
    """A bot and a chat together form one Apprise URL; one alone is not enough."""
    bots = [name for name in _CHAT[:2] if given.get(name)]
    if not bots and not given.get(_CHAT[2]):
        return
    if bots and given.get(_CHAT[2]):
        address = f"tgram://{given[bots[0]].strip()}/{given[_CHAT[2]].strip()}/"
        found.taken.append(TakenSettings(f"{bots[0]}, {_CHAT[2]}", {"notices.urls": [address]}, secret=True))
        return
    alone = bots[0] if bots else _CHAT[2]
    found.left[alone] = "a message needs the bot's token and the chat's id"


def sections_of(tree: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Sections in the order of a settings file, each with its own keys; the first one has no name."""
    own = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    if own or not name:
        yield name, own
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from sections_of(value, f"{name}.{key}" if name else key)
