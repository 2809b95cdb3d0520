"""The fiat currencies: the venue's accounts and lists separate them from crypto."""

__all__ = ["FIAT"]

FIAT = {
    "AUD": "Australian Dollar",
    "BRL": "Brazilian Real",
    "CAD": "Canadian Dollar",
    "CHF": "Swiss Franc",
    "EUR": "Euro",
    "GBP": "British Pound",
    "INR": "Indian Rupee",
    "JPY": "Japanese Yen",
    "SGD": "Singapore Dollar",
    "TRY": "Turkish Lira",
    "USD": "US Dollar",
}
