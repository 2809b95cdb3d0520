"""Crypto.com Exchange behind the port."""

from exchange.cryptocom.adapter import CryptocomExchange
from exchange.cryptocom.config import CryptocomConfig
from exchange.cryptocom.signing import CryptocomKey

__all__ = ["CryptocomConfig", "CryptocomExchange", "CryptocomKey"]
