"""Settings: where Temporal, the database and the exchange are."""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from workers.errors import UnreachableError, UserError
from workers.settings.postgres_address import asyncpg_address, parsed, plain_address
from workers.settings.types import Name, PaperOnly, PlainFile, Seconds, SecretFile, Section, on_this_machine

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = [
    "COINBASE_REST",
    "COINBASE_STREAM",
    "COINBASE_USER_STREAM",
    "DatabaseSettings",
    "ExchangeSettings",
    "TemporalSettings",
]

COINBASE_REST = "api.coinbase.com"
COINBASE_STREAM = "wss://advanced-trade-ws.coinbase.com"
COINBASE_USER_STREAM = "wss://advanced-trade-ws-user.coinbase.com"


class TemporalSettings(Section):
    """Temporal's address, namespace and task queues."""

    address: str = Field("127.0.0.1:7233", pattern=r"^[^\s:/]+:\d{1,5}$", description="gRPC address, host:port")
    namespace: str = Field(
        "default", min_length=1, max_length=200, description="namespace of all workflows; live: bottrader-live"
    )
    profile: str | None = Field(
        None, description="profile in the temporal command's own configuration, for TLS and login"
    )
    retention_days: int = Field(30, ge=1, le=365, description="days that Temporal keeps closed workflows")
    tls: bool = Field(False, description="TLS to the server (Temporal Cloud needs it)")
    tls_client_cert_file: PlainFile | None = Field(None, description="PEM file of our certificate for the server")
    tls_client_key_file: SecretFile | None = Field(None, description="PEM file of that certificate's private key")
    tls_ca_file: PlainFile | None = Field(None, description="PEM file of the authority of the server's certificate")
    tls_server_name: str | None = Field(
        None, min_length=1, max_length=253, description="name in the server's certificate, if not its address"
    )
    api_key: SecretStr | None = Field(None, description="API key of Temporal Cloud")
    orders_queue: Name = Field("orders", description="task queue of orders, exits, and the ledger; live: live-orders")
    streams_queue: Name = Field(
        "streams", description="task queue of the exchange's streams and bulk reads; live: live-streams"
    )
    watchers_queue: Name = Field("watchers", description="task queue of price watchers; live: live-watchers")
    strategy_queue: Name = Field(
        "strategy", description="task queue of market data, strategy and quotes; live: live-strategy"
    )
    connect_timeout_s: Seconds = Field(Decimal(10), description="wall seconds to wait for the first connection")

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.tls_client_cert_file is None) != (self.tls_client_key_file is None):
            raise ValueError("tls_client_cert_file and tls_client_key_file go together: set both or neither")
        return self


class DatabaseSettings(Section):
    """The ledger's PostgreSQL."""

    url: SecretStr | None = Field(None, description="postgresql://user:password@host:port/database")
    password_file: SecretFile | None = Field(None, description="file with the password, instead of one in the address")
    pool_size: int = Field(
        10, ge=1, le=200, description="maximum number of connections of a process; one more listens for notifications"
    )
    statement_timeout_s: Seconds = Field(Decimal(30), description="maximum wall seconds of a statement")

    @field_validator("url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or plain_address(value.get_secret_value()):
            return value
        try:
            url = parsed(value.get_secret_value())
        except ValueError:
            raise ValueError("an address is written like postgresql://user:password@host:5432/bottrader") from None
        if url.get_backend_name() != "postgresql":
            raise ValueError("the ledger needs PostgreSQL: the address begins with postgresql://")
        return value

    @property
    def dsn(self) -> str:
        """The address for asyncpg and libpq. Raises UnreachableError(NO_DATABASE) when none is set."""
        if self.url is not None and self.password_file is None:
            return asyncpg_address(self.url.get_secret_value())
        return self._url().set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def sqlalchemy_url(self) -> "URL":
        """The address for SQLAlchemy's asyncio engine. Raises UnreachableError(NO_DATABASE) when none is set."""
        return self._url().set(drivername="postgresql+asyncpg")

    def open_hosts(self) -> list[str]:
        """Remote hosts in the address without verified TLS (sslmode=verify-full); an address without a host could be
        any.
        """
        if self.url is None:
            return []
        url = parsed(self.url.get_secret_value())
        named = url.query.get("host", url.host or "")
        hosts = [host for part in ((named,) if isinstance(named, str) else named) for host in part.split(",")]
        if url.query.get("sslmode") == "verify-full":
            return []
        return [host for host in hosts if not host.startswith("/") and not on_this_machine(host)]

    def _url(self) -> "URL":
        if self.url is None:
            raise UnreachableError(
                "NO_DATABASE",
                "No database is configured: set DATABASE_URL or start the local stack with `bottrader up`.",
            )
        url = parsed(self.url.get_secret_value())
        if self.password_file is None:
            return url
        try:
            return url.set(password=self.password_file.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise UserError("NO_FILE", f"database.password_file: can't be read ({error.strerror}).") from None


# Compared as they are: what only looks like the venue (another port, a login before an @, an ending) isn't it.
_VENUE_ADDRESS = PaperOnly(f"only {COINBASE_REST} is the exchange", lambda address: address == COINBASE_REST)
_VENUE_STREAM = PaperOnly(
    f"only {COINBASE_STREAM} and {COINBASE_USER_STREAM} are the exchange's",
    lambda address: address.rstrip("/") in {COINBASE_STREAM, COINBASE_USER_STREAM},
)
# Libraries read %2e, or a full stop of another script, as a dot: what isn't written plainly may be anybody.
_PLAIN_ADDRESS = re.compile(
    r"(?:[a-z]+://)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?"
)


class ExchangeSettings(Section):
    """The venue's addresses, keys and timeouts. Without addresses, live mode uses the venue's own; paper mode needs
    them.
    """

    venue: Literal["coinbase"] = Field(
        "coinbase", description="the exchange; the paper exchange uses the same protocol"
    )
    rest: Annotated[str | None, _VENUE_ADDRESS] = Field(None, description="REST host[:port], always over TLS")
    stream: Annotated[str | None, _VENUE_STREAM] = Field(None, description="address of the market streams, wss://…")
    user_stream: Annotated[str | None, _VENUE_STREAM] = Field(None, description="address of the user stream, wss://…")
    ca_file: Annotated[
        PlainFile | None,
        PaperOnly("the exchange is verified with the system's own certificate authorities"),
    ] = Field(None, description="PEM file of the certificate authority to trust (paper exchange)")
    key_file: SecretFile | None = Field(None, description="API key file in the exchange's own JSON format")
    connect_timeout_s: Seconds = Field(Decimal(5), description="wall seconds to open a connection")
    timeout_s: Seconds = Field(Decimal(10), description="wall seconds for a whole REST call")
    private_requests_per_s: int = Field(
        30, ge=1, le=1000, description="the account's REST rate, for all processes together"
    )
    public_requests_per_s: int = Field(10, ge=1, le=1000, description="the address's public REST rate")

    @field_validator("rest", "stream", "user_stream")
    @classmethod
    def _is_plain(cls, value: str | None) -> str | None:
        if value is not None and not _PLAIN_ADDRESS.fullmatch(value):
            raise ValueError("is not an address: only letters, digits, dots, hyphens, a port and a path are allowed")
        return value

    @field_validator("stream", "user_stream")
    @classmethod
    def _is_websocket(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("wss://", "ws://")):
            raise ValueError("a stream's address starts with wss:// (ws:// for a paper exchange)")
        return value

    @field_validator("rest")
    @classmethod
    def _is_host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return value.removeprefix("https://").rstrip("/")
