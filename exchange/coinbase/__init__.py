"""Coinbase Advanced Trade behind the port."""

from exchange.coinbase.adapter import CoinbaseConfig, CoinbaseExchange
from exchange.coinbase.keys import ApiKey, ApiKeyError

__all__ = ["ApiKey", "ApiKeyError", "CoinbaseConfig", "CoinbaseExchange"]
