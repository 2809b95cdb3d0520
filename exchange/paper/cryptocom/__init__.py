"""The paper exchange's protocol: Crypto.com Exchange v1's methods, envelopes, signatures, channels and quirks."""
