"""Secrets from the settings, which are removed from logs and incidents.

Our own sentences never contain a setting's value. Texts of libraries sometimes do (an address with a password), and are
logged or stored unchanged: so every secret that is read is registered here, and all output is filtered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["hide", "hide_in", "without_secrets"]

_MASK = "***"
_SHORTEST = 6
"""Minimum length in characters; shorter ones would match ordinary words."""
_hidden: set[str] = set()


def hide(values: Iterable[str]) -> None:
    """Remove these from everything this process logs or stores from now on, also in their URL-encoded form.

    Secrets shorter than six characters are not removed.
    """
    for value in values:
        forms = {value, unquote(value), quote(value, safe=""), repr(value)[1:-1], *value.split()}
        _hidden.update(form for form in forms if len(form) >= _SHORTEST)


def without_secrets(text: str) -> str:
    """The text with secrets replaced by ***."""
    for value in sorted((value for value in _hidden if value in text), key=len, reverse=True):
        text = text.replace(value, _MASK)
    return text


def hide_in(value: Any) -> Any:
    """The same for a tree of plain values."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {hide_in(key): hide_in(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_in(item) for item in value]
    return value
