"""Address, key and timeouts of an account at Crypto.com Exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from exchange.cryptocom.signing import CryptocomKey
from exchange.streams import ReconnectSettings

__all__ = ["CryptocomConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptocomConfig:
    """Address, key and timeouts of an account. Durations in seconds of wall time."""

    rest_url: str = "https://api.crypto.com/exchange/v1"
    market_stream_url: str = "wss://stream.crypto.com/exchange/v1/market"
    user_stream_url: str = "wss://stream.crypto.com/exchange/v1/user"
    key_file: Path | None = None
    """A JSON file `{"api_key": …, "secret_key": …}`; or both below."""
    key_name: str | None = None
    key_secret: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """PEM file to trust instead of the public authorities."""
    connect_timeout: float = 3.0
    read_timeout: float = 8.0
    share: float = 1.0
    """This process's share of the venue's limits, which are by method and key: 0.5 is half of each; 0 = no limit."""
    connections: int = 32
    """Connections kept open at once; a quarter more is for exits alone."""
    late_acceptance_seconds: int = 150
    """The venue itself takes no request older than a minute by its clock, which may differ from ours."""
    products_seconds: float = 5.0
    """How long the list of products is used again: the venue gives all or none."""
    streams: ReconnectSettings = field(
        # The venue counts messages by calendar seconds from the connection on, and asks for a pause of one.
        default_factory=lambda: ReconnectSettings(settle=1.0)
    )

    def key(self) -> CryptocomKey | None:
        """The API key, or None if none is configured (public calls only).

        Raises:
            ApiKeyError: it is configured but can't be used.
        """
        if self.key_file is not None:
            return CryptocomKey.from_file(self.key_file)
        if self.key_name is not None or self.key_secret is not None:
            return CryptocomKey.of(self.key_name or "", self.key_secret or "")
        return None
