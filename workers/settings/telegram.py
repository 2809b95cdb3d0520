"""The Telegram bot: its token, the chats that get notices, and the users who may send commands (docs/telegram.md)."""

import re
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from workers.settings.api import CallerName, RoleName
from workers.settings.types import LIVE, Seconds, SecretFile, Section, on_this_machine, split_commas

__all__ = ["TelegramSettings", "TelegramUserSettings"]

_TOKEN = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{20,100}")
_Manner = Literal["on", "silent", "off"]


def _token(value: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(value.get_secret_value()):
        raise ValueError("is what @BotFather gives: a number, a colon, and 20 or more letters, digits, - and _")
    return value


def _server(value: str) -> str:
    found = re.fullmatch(r"(https?)://([a-zA-Z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?/?", value)
    if found is None:
        raise ValueError("is written like https://api.telegram.org, without a path")
    if found[1] == "http" and not on_this_machine(found[2]):
        raise ValueError("needs https, but on this machine: the token is part of every request")
    return value


class TelegramUserSettings(Section):
    """A person who may send commands to the bot."""

    id: int = Field(gt=0, lt=2**52, description="the user's number at Telegram; the name can be changed by its owner")
    role: RoleName = Field("view", description="view reads, trade acts, too")


class TelegramKinds(Section):
    """How events are sent: on, silent (without the phone's sound) or off."""

    trade_opened: _Manner = Field("on", description="a buy, at its first fill")
    trade_closed: _Manner = Field("on", description="result, reason and fees of a closed trade")
    entry_refused: _Manner = Field(
        "on",
        description="entries refused by losses, numbers of open orders or trades, budget, position size or balance",
    )
    halted: _Manner = Field("on", description="entries are halted, by whom and why")
    resumed: _Manner = Field("on", description="entries are allowed again")
    warning: _Manner = Field("on", description="every other incident of severity WARNING")
    critical: _Manner = Field("on", description="every other incident of severity CRITICAL")


class TelegramSettings(Section):
    """The Telegram bot; without a token it is not started. Users are `[telegram.users.<name>]`; there is none by
    default. Processes that do not run it need its chats only, to know what waits for them."""

    token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(None, description="the bot's token")
    token_file: SecretFile | None = Field(None, description="file with that token, instead")
    server: Annotated[str, AfterValidator(_server)] = Field(
        "https://api.telegram.org", description="address of the Bot API"
    )
    chats: Annotated[tuple[Annotated[int, Field(gt=-(2**52), lt=2**52)], ...], BeforeValidator(split_commas)] = Field(
        (), description="numbers of the chats that get notices, and where users may command; below 0: groups"
    )
    users: dict[CallerName, TelegramUserSettings] = Field(
        default_factory=dict, description="who may send commands; the name is recorded with each action"
    )
    repeat_s: Seconds = Field(
        Decimal(600), description="a lasting CRITICAL incident is sent again after this time, wall seconds"
    )
    kinds: Annotated[TelegramKinds, LIVE] = TelegramKinds()

    @property
    def wanted(self) -> bool:
        """Whether there is a bot."""
        return self.token is not None or self.token_file is not None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file exclude each other: remove one of them")
        if not self.wanted and self.users:
            raise ValueError("users need the bot's token or token_file")
        if len({user.id for user in self.users.values()}) != len(self.users):
            raise ValueError("two users have the same id: nobody could tell who asks")
        if 0 in self.chats:
            raise ValueError("0 is the number of no chat")
        return self
