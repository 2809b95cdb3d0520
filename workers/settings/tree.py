"""Every setting of the system, with its unit, default and allowed range, in one tree.

Sources, the later one wins: the defaults here, one TOML file (`--config`, else BOTTRADER_CONFIG, else
`bottrader.toml` in the working folder), the environment (BOTTRADER_EXITS__HARD_STOP_PCT=4 is `hard_stop_pct` of
`[exits]`), the usual names DATABASE_URL and TEMPORAL_ADDRESS, and what `bottrader config set` has stored for keys that
are LIVE. A wrong or unknown key is never ignored: `load_settings` raises ConfigError with one sentence for each.
Percentages are percent (2.5 is 2.5 %), durations are seconds of the market (divided by `speed`) unless they say wall
time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from domain.identity import names_of
from workers.errors import UnreachableError
from workers.settings.api import ApiSettings
from workers.settings.connections import (
    COINBASE_REST,
    COINBASE_STREAM,
    COINBASE_USER_STREAM,
    DatabaseSettings,
    ExchangeSettings,
    TemporalSettings,
)
from workers.settings.exits import DEFAULT_TRIGGERS, ExitSettings, TriggerSettings
from workers.settings.paper import PaperSettings
from workers.settings.problems import Problem, paper_only_problems, raise_all
from workers.settings.quoting import QuotingSettings
from workers.settings.risk import RiskSettings
from workers.settings.sources import SettingSources, merge
from workers.settings.strategy import MarketDataSettings, RocSettings, StrategySettings
from workers.settings.types import (
    LIVE,
    Hosts,
    Name,
    PaperOnly,
    Percent,
    Products,
    Seconds,
    Section,
    on_this_machine,
    plain_number,
    split_commas,
)
from workers.settings.webhook import WebhookSettings

__all__ = [
    "AdoptionSettings",
    "OrderSettings",
    "Settings",
    "StreamSettings",
    "SymbolSettings",
    "TelemetrySettings",
    "WatcherSettings",
    "build",
    "load_settings",
    "read_sources",
]

_LATE_ACCEPTANCE_S = 150
"""How long after it was sent a request may still be accepted by the venue: its login is valid for 120 s (LIFE-3)."""


class StreamSettings(Section):
    """When a stream counts as dead, and who may read it. Wall seconds."""

    first_frame_timeout_s: Seconds = Field(Decimal(8), description="wait for the first frame after connecting")
    idle_timeout_s: Seconds = Field(Decimal(90), description="silence after which a connection is given up")
    reconnect_min_s: Seconds = Field(Decimal("0.5"), description="first wait before connecting again")
    reconnect_max_s: Seconds = Field(Decimal(60), description="longest wait before connecting again")
    alert_after_failures: int = Field(10, ge=1, le=1000, description="failed connects in a row before an alert")
    lease_s: Seconds = Field(Decimal(6), description="how long a reader owns its stream without renewing")


class OrderSettings(Section):
    """How an order is sent and resolved."""

    unknown_resolution_s: Annotated[
        Seconds,
        PaperOnly(
            "a request that is still under way could be accepted later",
            lambda seconds: seconds >= _LATE_ACCEPTANCE_S,
            f"at least {_LATE_ACCEPTANCE_S}",
        ),
    ] = Field(
        Decimal(_LATE_ACCEPTANCE_S),
        description="wall seconds after which a submit that no record shows is proven absent",
    )
    post_only_attempts: int = Field(3, ge=1, le=10, description="tries of a post-only order with a fresh book")
    post_only_backoff_s: Seconds = Field(Decimal("0.2"), description="first wait between them, doubled each time")
    market_collar_pct: Percent = Field(
        Decimal(1), description="how far past the touch an IOC may trade where market orders aren't taken"
    )


class SymbolSettings(Section):
    """Which products the system may touch, and how far."""

    allow: Products = Field(
        ("BTC-USD", "ETH-USD", "SOL-USD"),
        description="products that are watched and may be bought; none named: every product may be bought, and the "
        "strategy looks at the market_data.top most traded",
    )
    disabled: Products = Field((), description="switched off by a person for the time being: not bought")
    block: Products = Field((), description="blacklist: never bought")
    hodl: Products = Field((), description="never sold by the system")
    max_open_buys: int = Field(3, ge=1, le=10_000, description="open buy orders a product may have at once")


class WatcherSettings(Section):
    """Price watchers."""

    shards: int = Field(1, ge=1, le=256, description="watchers among which the symbols are split")
    poll_s: Seconds = Field(Decimal(1), description="wall seconds between looks for new exit plans")


class ReconcileSettings(Section):
    """How the books are kept level with the exchange's records."""

    interval_s: Seconds = Field(
        Decimal(300), description="wall seconds between looks; a stream's gap asks for one, too"
    )
    first_look_back_days: int = Field(
        7, ge=1, le=365, description="how far back the first look goes; later ones go on from there"
    )

    @property
    def patience_s(self) -> float:
        """Wall seconds in which a look must have explained a balance that differs: three of them."""
        return 3 * float(self.interval_s)


class LedgerSettings(Section):
    """How often the ledger is held against itself and the exchange."""

    check_interval_s: Seconds = Field(Decimal(3600), description="wall seconds between checks of the ledger")


class TelemetrySettings(Section):
    """Where a worker shows its metrics (docs/metrics.md)."""

    host: str = Field("127.0.0.1", min_length=1, description="address that the metrics endpoint listens on")
    port: int = Field(0, ge=0, le=65_535, description="port of http://host:port/metrics; 0: no endpoint")
    look_s: Seconds = Field(Decimal(15), description="wall seconds between looks at the ledger for rates and ages")


class AdoptionSettings(Section):
    """Orders that the system did not place: by hand, in the exchange's app, by other bots."""

    protect: bool = Field(
        False,
        description="whether a buy of somebody else's, from the account's first start on, becomes a trade with the "
        "rules of [exits]",
    )


def _split_spaces(value: object) -> object:
    """The environment's list of addresses, which may hold commas."""
    return value.split() if isinstance(value, str) else value


def _address(value: SecretStr) -> SecretStr:
    if "://" not in value.get_secret_value():
        raise ValueError("an address is written as apprise wants it, like tgram://token/chat or mailto://…")
    return value


NoticeUrl = Annotated[SecretStr, AfterValidator(_address)]


_How = Literal["on", "quiet", "off"]


class NoticeKinds(Section):
    """News of trading for the addresses: on (told at once), quiet (together, once an hour at most) or off."""

    trade_opened: _How = Field("on", description="what was bought, at its first fill")
    trade_closed: _How = Field("on", description="result, reason and fees of a trade that is closed")
    entry_refused: _How = Field(
        "on", description="entries refused by daily loss, circuit breaker, open orders, position size or balance"
    )
    halted: _How = Field("on", description="entries are halted, by whom and why")
    resumed: _How = Field("on", description="entries pass again")


class NoticeSettings(Section):
    """Who is told of incidents, by any service that apprise knows (docs/notices.md). Wall seconds."""

    urls: Annotated[tuple[NoticeUrl, ...], BeforeValidator(_split_spaces)] = Field(
        (), description="apprise addresses, each of them told everything; they hold passwords"
    )
    severity: Literal["INFO", "WARNING", "CRITICAL"] = Field("WARNING", description="the least severity that is told")
    repeat_s: Seconds = Field(Decimal(600), description="a CRITICAL incident that lasts is told again after this")
    repeat_for_s: Annotated[Decimal, Field(gt=0, le=2_592_000)] = Field(
        Decimal(86_400), description="for so long at most"
    )
    outage_after_s: Seconds = Field(
        Decimal(15), description="database, Temporal or exchange away for so long is an incident"
    )
    unprotected_after_s: Seconds = Field(
        Decimal(15), description="a position without a watcher for so long is an incident"
    )
    kinds: NoticeKinds = NoticeKinds()


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("a folder is written with all that is above it, like /run/secrets")
    return value


class SecretSettings(Section):
    """Where files with secrets may be others' and readable by all."""

    readable_mounts: Annotated[
        tuple[Annotated[Path, AfterValidator(_absolute)], ...], BeforeValidator(split_commas)
    ] = Field((), description="folders where containers get their secrets; elsewhere such a file is refused")


class LoggingSettings(Section):
    """What is logged, and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="the least level that is logged")
    format: Literal["json", "console"] = Field("json", description="one JSON object a line, or text for a terminal")


class Settings(BaseSettings):
    """All settings, validated together."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    mode: Literal["paper", "live"] = Field("paper", description="live trades real money")
    account: Name = Field("main", description="name of the account, part of every key")
    dry_run: Annotated[bool, LIVE] = Field(
        False, description="everything decides and no order is sent, but for exits of trades that are open"
    )
    entry_points: Literal["sighook", "webhook", "both"] = Field(
        "both",
        description="what a worker of the role all does: sighook decides (role strategy), webhook executes (orders, "
        "streams, watchers)",
    )
    speed: Annotated[
        float, BeforeValidator(plain_number), PaperOnly("real markets can't be hurried", instead="it needs 1")
    ] = Field(1.0, gt=0, le=10_000, description="market seconds in a wall second; live needs 1")
    private_hosts: Hosts = Field(
        (),
        description="hosts of database and Temporal on a network of their own (containers) that live may reach without "
        "TLS",
    )
    temporal: TemporalSettings = TemporalSettings()
    database: DatabaseSettings = DatabaseSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    paper: PaperSettings = PaperSettings()
    streams: StreamSettings = StreamSettings()
    orders: OrderSettings = OrderSettings()
    exits: Annotated[ExitSettings, LIVE] = ExitSettings()
    triggers: Annotated[dict[Name, TriggerSettings], LIVE] = Field(default_factory=dict, validate_default=True)
    symbols: Annotated[SymbolSettings, LIVE] = SymbolSettings()
    risk: Annotated[RiskSettings, LIVE] = RiskSettings()
    market_data: MarketDataSettings = MarketDataSettings()
    strategy: Annotated[StrategySettings, LIVE] = StrategySettings()
    roc: Annotated[RocSettings, LIVE] = RocSettings()
    quoting: Annotated[QuotingSettings, LIVE] = QuotingSettings()
    webhook: WebhookSettings = WebhookSettings()
    api: ApiSettings = ApiSettings()
    watcher: WatcherSettings = WatcherSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    adoption: Annotated[AdoptionSettings, LIVE] = AdoptionSettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    notices: NoticeSettings = NoticeSettings()
    secrets: SecretSettings = SecretSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("triggers", mode="before")
    @classmethod
    def _with_default_triggers(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        defaults = {name: given for name, given in DEFAULT_TRIGGERS.items() if not isinstance(value.get(name), Section)}
        return merge({"triggers": defaults}, {"triggers": value})["triggers"]

    @model_validator(mode="after")
    def _names_by_mode(self) -> Self:
        """What is not said is named by the mode, so that new ledgers of paper and live share nothing in Temporal."""
        given = self.temporal.model_fields_set
        named = {name: value for name, value in asdict(names_of(self.mode)).items() if name not in given}
        values = {**dict(self.temporal), **named}
        self.__dict__["temporal"] = TemporalSettings.model_construct(set(given), **values)
        return self

    @model_validator(mode="after")
    def _as_a_whole(self) -> Self:
        raise_all([*self._trigger_problems(), *self._row_problems(), *self._mode_problems()])
        return self

    def _trigger_problems(self) -> Iterator[Problem]:
        for name, trigger in self.triggers.items():
            try:
                self.exits.with_overrides(trigger.exits)
            except ValidationError as error:
                for finding in error.errors():
                    yield ("triggers", name, "exits"), trigger.exits, str(finding["msg"]).removeprefix("Value error, ")

    def _row_problems(self) -> Iterator[Problem]:
        """Whatever buys by a trigger without a row in `[triggers]`: each of its buys would come to nothing."""
        if self.webhook.trigger not in self.triggers:
            yield ("webhook", "trigger"), None, "needs a row in [triggers]: without it no alert buys that names none"
        if self.strategy.use != "weighted":
            return  # a strategy of one's own names its triggers itself
        for name, given in self.strategy.indicators.items():
            buys = given.weight > 0 and (given.buy_below is not None or given.buy_above is not None)
            if buys and (given.trigger or name) not in self.triggers:
                key = ("strategy", "indicators", name, "trigger")
                row = "[triggers]" if given.trigger else f"[triggers.{name}]"
                clause = f"needs a row in {row}, or a trigger that has one: without it nothing is bought"
                yield key, given.trigger, clause

    def _mode_problems(self) -> Iterator[Problem]:
        if self.mode == "live":
            yield from paper_only_problems(self)
            if self.exchange.key_file is None:
                yield ("exchange", "key_file"), None, 'must be given with mode = "live"'
            yield from self._open_ways()
            return
        if self.exchange.key_file is not None and self.exchange.rest is None:
            clause = "is a key of the real exchange beside mode = paper: leave it out, or set mode = live"
            yield ("exchange", "key_file"), None, clause
        for name in ("rest", "stream", "user_stream"):
            if (address := getattr(self.exchange, name)) and "coinbase.com" in address.lower():
                clause = 'is the real exchange, but mode = paper: leave it out, or set mode = "live"'
                yield ("exchange", name), address, clause

    def _open_ways(self) -> Iterator[Problem]:
        """Database and Temporal that live would reach over a network where others can listen."""
        advice = "live reaches it over TLS only, or on this machine, or at one of private_hosts"
        for host in self.database.open_hosts():
            if host not in self.private_hosts:
                yield ("database", "url"), None, f"names a server elsewhere without sslmode=verify-full: {advice}"
                break
        host = self.temporal.address.rpartition(":")[0]
        ciphered = self.temporal.tls or self.temporal.profile is not None
        if not ciphered and not on_this_machine(host) and host not in self.private_hosts:
            yield ("temporal", "address"), None, f"is a server elsewhere without temporal.tls: {advice}"

    def exits_for(self, trigger: str) -> ExitSettings:
        """The exit rules of a trade that `trigger` entered; `[exits]` for a trigger without settings."""
        settings = self.triggers.get(trigger)
        return self.exits if settings is None else self.exits.with_overrides(settings.exits)

    @property
    def rest_address(self) -> str:
        """REST host[:port] to use. Raises UnreachableError(NO_EXCHANGE) in paper mode without one."""
        return self._address(self.exchange.rest, COINBASE_REST, "rest")

    @property
    def stream_address(self) -> str:
        """Market stream to use. Raises UnreachableError(NO_EXCHANGE) in paper mode without one."""
        return self._address(self.exchange.stream, COINBASE_STREAM, "stream")

    @property
    def user_stream_address(self) -> str:
        """User stream to use. Raises UnreachableError(NO_EXCHANGE) in paper mode without one."""
        return self._address(self.exchange.user_stream, COINBASE_USER_STREAM, "user_stream")

    def _address(self, given: str | None, real: str, key: str) -> str:
        if given is not None:
            return given
        if self.mode == "live":
            return real
        raise UnreachableError(
            "NO_EXCHANGE",
            f"mode = paper, but exchange.{key} is not set: start the local stack with `bottrader up`, "
            "or `bottrader paper` and use the addresses it prints.",
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` hands over: the same call gives the same settings on every machine."""
        return (init_settings,)


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file, the environment and the defaults.

    Raises ConfigError with one sentence a problem: a file that can't be read, an unknown key, a value out of range.
    """
    return build(read_sources(path, environ))


def read_sources(path: Path | None = None, environ: Mapping[str, str] | None = None) -> SettingSources:
    """What file and environment say. Raises ConfigError for what can't be read at all."""
    return SettingSources.read(Settings, path, environ)


def build(sources: SettingSources) -> Settings:
    """The settings that `sources` make together. Raises ConfigError with one sentence a problem."""
    settings: Settings = sources.build(Settings)
    return settings
