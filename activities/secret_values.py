"""What this process knows that nobody may read in its output: secrets of the settings, taken out of logs and incidents.

Our own sentences never hold a setting's value. Texts of libraries do at times (an address with a password in it), and
are logged or stored as they come: so whoever reads a secret says it here, and what goes out is looked through.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["hide", "hide_in", "without_secrets"]

_MASK = "***"
_SHORTEST = 6
"""Characters; less would be found in words that mean something else."""
_hidden: set[str] = set()


def hide(values: Iterable[str]) -> None:
    """Take these out of all that this process logs or stores from now on, also as they are written in an address.

    What is shorter than six characters stays.
    """
    for value in values:
        forms = {value, unquote(value), quote(value, safe=""), repr(value)[1:-1], *value.split()}
        _hidden.update(form for form in forms if len(form) >= _SHORTEST)


def without_secrets(text: str) -> str:
    """The text with what is hidden as ***."""
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
