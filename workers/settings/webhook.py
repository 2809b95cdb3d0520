"""The HTTP webhook: its senders, limits and defaults for alerts (docs/webhook.md)."""

import re
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from workers.settings.types import LIVE, Name, Products, Seconds, SecretFile, Section, Size, Unit, split_commas

__all__ = ["Secret", "SenderSettings", "WebhookSettings"]

SHORTEST_SECRET = 16
"""Characters; `openssl rand -hex 24` makes 48."""


def _long_enough(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < SHORTEST_SECRET or text.strip() != text or not (text.isascii() and text.isprintable()):
        raise ValueError(
            f"a secret is {SHORTEST_SECRET} or more printable ASCII characters without blanks around them: "
            "make one with `openssl rand -hex 24`"
        )
    return value


def _sender_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", value):
        raise ValueError("a sender's name may have lower-case letters, digits, - and _")
    if value == "temporal":
        raise ValueError("this name is reserved for requests sent directly through Temporal")
    return value


SenderName = Annotated[str, AfterValidator(_sender_name)]
Secret = Annotated[SecretStr, AfterValidator(_long_enough)]
AlertAction = Literal["buy", "sell", "close"]


class SenderSettings(Section):
    """One sender's authentication (a signing secret, a token, or both), and its scope."""

    secret: Secret | None = Field(None, description="key of its signatures (HMAC-SHA256)")
    secret_file: SecretFile | None = Field(None, description="file with that key, instead")
    token: Secret | None = Field(None, description="bearer token, for senders that can't sign")
    token_file: SecretFile | None = Field(None, description="file with that token, instead")
    symbols: Products = Field((), description="products it may trade; none: all")
    triggers: Annotated[tuple[Name, ...], BeforeValidator(split_commas)] = Field(
        (), description="triggers its buys may use; none: all"
    )
    actions: Annotated[tuple[AlertAction, ...], BeforeValidator(split_commas)] = Field(
        ("buy", "sell", "close"), min_length=1, description="actions it may request"
    )
    max_order_quote: Annotated[Size | None, Unit("quote currency")] = Field(
        None, description="largest order it may send; closes have no limit"
    )
    orders_per_day: int | None = Field(
        None, ge=1, le=1_000_000, description="orders per UTC day, not counting refused ones and closes"
    )
    pool: bool = Field(False, description="whether its sells may take coins that no trade owns")

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("secret and secret_file exclude each other: remove one of them")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file exclude each other: remove one of them")
        if not any((self.secret, self.secret_file, self.token, self.token_file)):
            raise ValueError("a sender needs a secret, a secret_file, a token or a token_file")
        return self


class WebhookSettings(Section):
    """The server of `POST /webhook`. Senders are `[webhook.senders.<name>]`; without senders the server doesn't
    start."""

    host: str = Field("127.0.0.1", min_length=1, description="address that the server listens on")
    port: int = Field(8780, ge=0, le=65_535, description="its port; 0: any free one")
    behind_proxy: bool = Field(
        False,
        description="whether a reverse proxy with TLS is in front: then it may listen beyond loopback, and a "
        "request's address is the last one in X-Forwarded-For",
    )
    senders: dict[SenderName, SenderSettings] = Field(
        default_factory=dict, description="who may send alerts; the name is recorded with each order"
    )
    source: Annotated[Literal["sighook", "webhook"], LIVE] = Field(
        "sighook", description="the source recorded with its orders"
    )
    trigger: Annotated[Name, LIVE] = Field(
        "webhook", description="trigger of alerts without one: size, order type and exits"
    )
    replay_window_s: Annotated[Decimal, Field(ge=1, le=3600), Unit("seconds"), LIVE] = Field(
        Decimal(300), description="maximum difference between an alert's time and ours, wall seconds"
    )
    decision_timeout_s: Annotated[Decimal, Field(gt=0, le=60), Unit("seconds"), LIVE] = Field(
        Decimal("2.5"), description="wall seconds until the answer is `deciding`; TradingView waits for 3"
    )
    body_timeout_s: Seconds = Field(Decimal(5), description="maximum wall seconds for a request to arrive")
    max_body_bytes: Annotated[int, Unit("bytes"), LIVE] = Field(
        16_384, ge=256, le=1_048_576, description="largest alert"
    )
    max_depth: Annotated[int, LIVE] = Field(8, ge=2, le=64, description="maximum nesting of an alert's JSON")
    requests_per_minute: Annotated[int, LIVE] = Field(
        60, ge=1, le=100_000, description="average rate of alerts of one sender"
    )
    burst: Annotated[int, LIVE] = Field(20, ge=1, le=10_000, description="burst of alerts of one sender")
    max_concurrent: Annotated[int, LIVE] = Field(
        32, ge=1, le=1_000, description="number of alerts decided at the same time"
    )
    max_connections: int = Field(500, ge=10, le=10_000, description="open connections")
