"""The paper exchange's protocol: Coinbase Advanced Trade's paths, fields, tokens and quirks."""
