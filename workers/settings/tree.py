"""Every setting of the system, with its unit, default and allowed range, in one tree.

Sources, later ones override: the defaults here, one TOML file (`--config`, else BOTTRADER_CONFIG, else `bottrader.toml`
in the working folder), the environment (BOTTRADER_EXITS__HARD_STOP_PCT=4 is `hard_stop_pct` of `[exits]`), the usual
names DATABASE_URL and TEMPORAL_ADDRESS, and what `bottrader config set` has stored for keys that are LIVE. A wrong or
unknown key is never ignored: `load_settings` raises ConfigError with one sentence for each. Percentages are percent
(2.5 is 2.5 %), durations are seconds of the market (divided by `speed`) unless they say wall time.
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
from workers.settings.exits import DEFAULT_TRIGGERS, ExitSettings, TriggerSettings, size_problems
from workers.settings.paper import PaperSettings
from workers.settings.problems import Problem, paper_only_problems, raise_all
from workers.settings.quoting import QuotingSettings
from workers.settings.risk import RiskSettings, limit_problems
from workers.settings.sources import SettingSources, merge
from workers.settings.strategy import MarketDataSettings, RocSettings, StrategySettings
from workers.settings.telegram import TelegramSettings
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
"""How long after sending a request may still be accepted by the venue: its login is valid for 120 s (LIFE-3)."""


class StreamSettings(Section):
    """Timeouts and lease of streams. Wall seconds."""

    first_frame_timeout_s: Seconds = Field(Decimal(8), description="wait for the first frame after connecting")
    idle_timeout_s: Seconds = Field(
        Decimal(90), description="time without a message after which a connection is closed"
    )
    reconnect_min_s: Seconds = Field(Decimal("0.5"), description="first wait before connecting again")
    reconnect_max_s: Seconds = Field(Decimal(60), description="longest wait before connecting again")
    alert_after_failures: int = Field(10, ge=1, le=1000, description="failed connects in a row before an alert")
    lease_s: Seconds = Field(Decimal(6), description="duration of a reader's lease without renewal")


class OrderSettings(Section):
    """How an order is sent and resolved."""

    unknown_resolution_s: Annotated[
        Seconds,
        PaperOnly(
            "a request still in transit could be accepted later",
            lambda seconds: seconds >= _LATE_ACCEPTANCE_S,
            f"at least {_LATE_ACCEPTANCE_S}",
        ),
    ] = Field(
        Decimal(_LATE_ACCEPTANCE_S),
        description="wall seconds after which a submit without any record counts as absent",
    )
    post_only_attempts: int = Field(3, ge=1, le=10, description="tries of a post-only order with a fresh book")
    post_only_backoff_s: Seconds = Field(Decimal("0.2"), description="first pause between them, doubled each time")
    market_collar_pct: Percent = Field(
        Decimal(1), description="how far past the touch an IOC may trade if market orders aren't accepted"
    )


class SymbolSettings(Section):
    """Which products the system may trade, and limits for them."""

    allow: Products = Field(
        ("BTC-USD", "ETH-USD", "SOL-USD"),
        description="products that are watched and may be bought; none: every product may be bought, and the "
        "strategy evaluates the market_data.top most traded",
    )
    disabled: Products = Field((), description="temporarily disabled by a person: not bought")
    block: Products = Field((), description="block list: never bought")
    hodl: Products = Field((), description="never sold by the system")
    max_open_buys: int = Field(3, ge=1, le=10_000, description="maximum number of open buy orders for each product")


class WatcherSettings(Section):
    """Price watchers."""

    shards: int = Field(1, ge=1, le=256, description="number of price watchers among which the symbols are split")
    poll_s: Seconds = Field(Decimal(1), description="wall seconds between reads of new exit plans")


class ReconcileSettings(Section):
    """How the books are reconciled with the exchange's records."""

    interval_s: Seconds = Field(
        Decimal(300), description="wall seconds between runs; a gap in a stream also starts one"
    )
    first_look_back_days: int = Field(
        7, ge=1, le=365, description="how far back the first run goes; later ones continue from there"
    )

    @property
    def patience_s(self) -> float:
        """Wall seconds within which runs must have explained a differing balance: three runs."""
        return 3 * float(self.interval_s)


class LedgerSettings(Section):
    """How often the ledger is checked for consistency and against the exchange."""

    check_interval_s: Seconds = Field(Decimal(3600), description="wall seconds between checks of the ledger")


def _traces_target(value: str) -> str:
    if value.startswith(("http://", "https://", "/")):
        return value
    raise ValueError("an http:// or https:// address, or an absolute path, is needed")


class TelemetrySettings(Section):
    """Metrics, each at http://host:port/metrics, and traces (docs/metrics.md). Port 0: no endpoint."""

    host: str = Field("127.0.0.1", min_length=1, description="address that the metrics endpoints listen on")
    port: int = Field(0, ge=0, le=65_535, description="port of a worker's metrics")
    sdk_port: int = Field(0, ge=0, le=65_535, description="port of the metrics of Temporal's SDK in a worker")
    api_port: int = Field(0, ge=0, le=65_535, description="port of the metrics of the API and the page")
    temporal_port: int = Field(
        0, ge=0, le=65_535, description="port of the metrics of the Temporal that `bottrader up` starts, on 127.0.0.1"
    )
    traces: Annotated[str, AfterValidator(_traces_target)] | None = Field(
        None,
        description="where spans go: a collector's address for OTLP over HTTP (http://127.0.0.1:4318), or a file's "
        "absolute path; not set: no traces",
    )
    look_s: Seconds = Field(Decimal(15), description="wall seconds between reads of the ledger for rates and ages")


class AdoptionSettings(Section):
    """External orders: placed by hand in the exchange's app, or by other programs."""

    protect: bool = Field(
        False,
        description="whether external buys, from the account's first start on, become trades with the rules of [exits]",
    )


def _split_spaces(value: object) -> object:
    """The environment's list of addresses, which may hold commas."""
    return value.split() if isinstance(value, str) else value


def _address(value: SecretStr) -> SecretStr:
    if "://" not in value.get_secret_value():
        raise ValueError("an address must be an Apprise URL, like tgram://token/chat or mailto://…")
    return value


NoticeUrl = Annotated[SecretStr, AfterValidator(_address)]


_How = Literal["on", "quiet", "off"]


class NoticeKinds(Section):
    """News of trading for the addresses: on (sent at once), quiet (together, at most once an hour) or off."""

    trade_opened: _How = Field("on", description="a buy, at its first fill")
    trade_closed: _How = Field("on", description="result, reason and fees of a closed trade")
    entry_refused: _How = Field(
        "on",
        description="entries refused by losses, numbers of open orders or trades, budget, position size or balance",
    )
    halted: _How = Field("on", description="entries are halted, by whom and why")
    resumed: _How = Field("on", description="entries are allowed again")


class NoticeSettings(Section):
    """Notices about incidents, through any service that Apprise supports (docs/notices.md). Wall seconds."""

    urls: Annotated[tuple[NoticeUrl, ...], BeforeValidator(_split_spaces)] = Field(
        (), description="Apprise URLs, each of which gets all notices; they contain passwords"
    )
    severity: Literal["INFO", "WARNING", "CRITICAL"] = Field("WARNING", description="the lowest severity that is sent")
    repeat_s: Seconds = Field(Decimal(600), description="a lasting CRITICAL incident is repeated after this time")
    repeat_for_s: Annotated[Decimal, Field(gt=0, le=2_592_000)] = Field(
        Decimal(86_400), description="for at most this long"
    )
    outage_after_s: Seconds = Field(
        Decimal(15), description="an outage of database, Temporal or exchange for this long is an incident"
    )
    unprotected_after_s: Seconds = Field(
        Decimal(15), description="a position without a price watcher for this long is an incident"
    )
    kinds: NoticeKinds = NoticeKinds()


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("a folder must be an absolute path, like /run/secrets")
    return value


class SecretSettings(Section):
    """Where files with secrets may belong to others and be readable by all."""

    readable_mounts: Annotated[
        tuple[Annotated[Path, AfterValidator(_absolute)], ...], BeforeValidator(split_commas)
    ] = Field((), description="folders where containers get their secrets; elsewhere such a file is refused")


class LoggingSettings(Section):
    """What is logged, and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="the lowest level that is logged")
    format: Literal["json", "console"] = Field("json", description="one JSON object per line, or text for a terminal")


class Settings(BaseSettings):
    """All settings, validated together."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    mode: Literal["paper", "live"] = Field("paper", description="live trades real money")
    account: Name = Field("main", description="name of the account, part of every order key")
    dry_run: Annotated[bool, LIVE] = Field(
        False, description="everything decides but no orders are sent, except exits of open trades"
    )
    entry_points: Literal["sighook", "webhook", "both"] = Field(
        "both",
        description="the roles of a worker with the role all: sighook decides (role strategy), webhook executes "
        "(orders, streams, watchers)",
    )
    speed: Annotated[
        float, BeforeValidator(plain_number), PaperOnly("real markets run at their own speed", instead="it needs 1")
    ] = Field(1.0, gt=0, le=10_000, description="market seconds per wall second; live needs 1")
    private_hosts: Hosts = Field(
        (),
        description="hosts of database and Temporal on a private network (containers) that live may use without TLS",
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
    telegram: TelegramSettings = TelegramSettings()
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
        """Names that are not set depend on the mode, so that new ledgers of paper and live share nothing in
        Temporal."""
        given = self.temporal.model_fields_set
        named = {name: value for name, value in asdict(names_of(self.mode)).items() if name not in given}
        values = {**dict(self.temporal), **named}
        self.__dict__["temporal"] = TemporalSettings.model_construct(set(given), **values)
        return self

    @model_validator(mode="after")
    def _as_a_whole(self) -> Self:
        limits = [*limit_problems(self.risk, self.triggers), *size_problems(self.triggers)]
        raise_all([*self._trigger_problems(), *self._row_problems(), *limits, *self._mode_problems()])
        return self

    def _trigger_problems(self) -> Iterator[Problem]:
        for name, trigger in self.triggers.items():
            try:
                self.exits.with_overrides(trigger.exits)
            except ValidationError as error:
                for finding in error.errors():
                    yield ("triggers", name, "exits"), trigger.exits, str(finding["msg"]).removeprefix("Value error, ")

    def _row_problems(self) -> Iterator[Problem]:
        """Settings that buy by a trigger without a row in `[triggers]`: such buys would all be refused."""
        if self.webhook.trigger not in self.triggers:
            missing = "needs a row in [triggers]: without it alerts that name no trigger can't buy"
            yield ("webhook", "trigger"), None, missing
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
            clause = "is a key of the real exchange, but mode = paper: remove it, or set mode = live"
            yield ("exchange", "key_file"), None, clause
        for name in ("rest", "stream", "user_stream"):
            if (address := getattr(self.exchange, name)) and "coinbase.com" in address.lower():
                clause = 'is the real exchange, but mode = paper: remove it, or set mode = "live"'
                yield ("exchange", name), address, clause

    def _open_ways(self) -> Iterator[Problem]:
        """Addresses of database and Temporal that live would use over an unprotected network."""
        advice = "live needs TLS, this machine, or one of private_hosts"
        for host in self.database.open_hosts():
            if host not in self.private_hosts:
                yield ("database", "url"), None, f"names a remote server without sslmode=verify-full: {advice}"
                break
        host = self.temporal.address.rpartition(":")[0]
        ciphered = self.temporal.tls or self.temporal.profile is not None
        if not ciphered and not on_this_machine(host) and host not in self.private_hosts:
            yield ("temporal", "address"), None, f"is a remote server without temporal.tls: {advice}"

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
        """Only the values from `load_settings`: the same call gives the same settings on every machine."""
        return (init_settings,)


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file, the environment and the defaults.

    Raises ConfigError with one sentence for each problem: a file that can't be read, an unknown key, a value out of
    range.
    """
    return build(read_sources(path, environ))


def read_sources(path: Path | None = None, environ: Mapping[str, str] | None = None) -> SettingSources:
    """The settings from file and environment. Raises ConfigError if something can't be read at all."""
    return SettingSources.read(Settings, path, environ)


def build(sources: SettingSources) -> Settings:
    """The settings merged from `sources`. Raises ConfigError with one sentence for each problem."""
    settings: Settings = sources.build(Settings)
    return settings
