"""The API and the page: where they listen and who may log in (docs/api.md)."""

import re
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from workers.settings.types import Seconds, SecretFile, Section, on_this_machine
from workers.settings.webhook import Secret

__all__ = ["ApiSettings", "CallerName", "ProgramSettings", "RoleName", "UserSettings"]

_DIGEST = re.compile(r"scrypt\$1[4-7]\$8\$1\$[0-9a-f]{32}\$[0-9a-f]{64}")


def _digest(value: SecretStr) -> SecretStr:
    if not _DIGEST.fullmatch(value.get_secret_value()):
        raise ValueError("is a line that `bottrader api password` prints")
    return value


def _caller_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", value):
        raise ValueError("a name has lower-case letters, digits, - and _")
    if value == "temporal":
        raise ValueError("this name is reserved for requests sent directly through Temporal")
    return value


def _origin(value: str) -> str:
    found = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", value)
    if found is None:
        raise ValueError("is written like https://bot.example, without a path")
    if found[1] == "http" and not on_this_machine(found[2]):
        raise ValueError("needs https, but on this machine")
    return value


CallerName = Annotated[str, AfterValidator(_caller_name)]
Digest = Annotated[SecretStr, AfterValidator(_digest)]
RoleName = Literal["view", "trade"]


class UserSettings(Section):
    """A person who may log in with a password."""

    role: RoleName = Field("view", description="view reads, trade acts, too")
    password_digest: Digest | None = Field(None, description="what `bottrader api password` prints")
    password_digest_file: SecretFile | None = Field(None, description="file with that line, instead")

    @model_validator(mode="after")
    def _one_digest(self) -> Self:
        if (self.password_digest is None) == (self.password_digest_file is None):
            raise ValueError("a user needs either password_digest or password_digest_file")
        return self


class ProgramSettings(Section):
    """A program that may ask with a bearer token."""

    role: RoleName = Field("view", description="view reads, trade acts, too")
    token: Secret | None = Field(None, description="its bearer token")
    token_file: SecretFile | None = Field(None, description="file with that token, instead")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("a program needs either token or token_file")
        return self


class ApiSettings(Section):
    """The server of the API and the page. Users are `[api.users.<name>]`, programs `[api.programs.<name>]`."""

    host: str = Field("127.0.0.1", min_length=1, description="address that the server listens on")
    port: int = Field(8790, ge=0, le=65_535, description="its port; 0: any free one")
    behind_proxy: bool = Field(
        False,
        description="a reverse proxy with TLS is in front: then it may listen beyond loopback, if there are users, and "
        "a request's address is the last one in X-Forwarded-For",
    )
    origin: Annotated[str, AfterValidator(_origin)] | None = Field(
        None, description="how a browser names it, such as https://bot.example; else its address on this machine"
    )
    temporal_ui: Annotated[str, AfterValidator(_origin)] | None = Field(
        None, description="Temporal's Web UI, for links to workflows; `bottrader up` sets its own"
    )
    users: dict[CallerName, UserSettings] = Field(default_factory=dict, description="who may log in")
    programs: dict[CallerName, ProgramSettings] = Field(default_factory=dict, description="programs that may ask")
    session_s: Seconds = Field(Decimal(43_200), description="wall seconds until somebody has to log in again")
    idle_s: Seconds = Field(Decimal(3600), description="wall seconds without a request until then")
    max_connections: int = Field(100, ge=10, le=10_000, description="open connections")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := set(self.users) & set(self.programs):
            raise ValueError(f"{len(both)} names stand for a user and for a program: name one of them otherwise")
        return self
