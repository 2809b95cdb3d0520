"""Coinbase Advanced Trade behind the port."""

from exchange.coinbase.adapter import CoinbaseExchange
from exchange.coinbase.config import CoinbaseConfig
from exchange.coinbase.keys import ApiKey
from exchange.keys import ApiKeyError

__all__ = ["ApiKey", "ApiKeyError", "CoinbaseConfig", "CoinbaseExchange"]
