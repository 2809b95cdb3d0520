"""Files with an exchange's API key, for any venue. A secret never appears in an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from domain.errors import BotTraderError

__all__ = ["ApiKeyError", "key_document"]


class ApiKeyError(BotTraderError, ValueError):
    """The key can't be used; the message says why and what to do. `code` is for programs."""

    code = "BAD_API_KEY"


def key_document(path: Path | str, venue: str, form: str) -> Mapping[str, object]:
    """The JSON object in a key's file; `form` says what it should look like.

    Raises:
        ApiKeyError: the file is missing, unreadable or not a JSON object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise ApiKeyError(
            f"the API key file can't be read ({problem.strerror}): correct the path or download it again"
        ) from None
    except ValueError:
        raise ApiKeyError(f"the API key file is not JSON: download it again from {venue}") from None
    if not isinstance(content, dict):
        raise ApiKeyError(f"the API key file is not a JSON object: it should be {form}")
    return content
