"""Address, key and timeouts of an account at Coinbase."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from exchange.coinbase.keys import ApiKey
from exchange.streams import ReconnectSettings

__all__ = ["CoinbaseConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinbaseConfig:
    """Address, key and timeouts of an account. Durations in seconds of wall time; rates in requests a second."""

    rest_address: str = "api.coinbase.com"
    """host or host:port; always https."""
    stream_url: str = "wss://advanced-trade-ws.coinbase.com"
    user_stream_url: str = "wss://advanced-trade-ws-user.coinbase.com"
    key_file: Path | None = None
    """Coinbase's own JSON file; or name and secret below."""
    key_name: str | None = None
    key_secret: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """PEM file to trust instead of the public authorities."""
    connect_timeout: float = 3.0
    read_timeout: float = 8.0
    private_rate: float = 30.0
    """This process's share of the account's rate; 0 = no limit."""
    threads: int = 32
    page_size: int = 250
    late_acceptance_seconds: int = 150
    clock_look_seconds: float = 600.0
    """Seconds between checks of the venue's clock; each refused token causes another."""
    streams: ReconnectSettings = field(default_factory=ReconnectSettings)

    def key(self) -> ApiKey | None:
        """The API key, or None if none is configured (public calls only).

        Raises:
            ApiKeyError: it is configured but can't be used.
        """
        if self.key_file is not None:
            return ApiKey.from_file(self.key_file)
        if self.key_name is not None or self.key_secret is not None:
            return ApiKey.of(self.key_name or "", self.key_secret or "")
        return None
