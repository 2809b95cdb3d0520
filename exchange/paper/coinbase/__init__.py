"""The paper exchange's wire: Coinbase Advanced Trade's paths, fields, tokens and quirks."""
