"""The API and the page's server: who may ask, what they see, and what they may have done (docs/api.md)."""
