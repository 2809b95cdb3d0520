"""Orders: admission, attempts at the exchange, limits and the account's controls."""
