"""Checks the format of the API key file before it is used; its content is never shown."""

import json
from pathlib import Path

__all__ = ["key_file_problems"]


def key_file_problems(path: Path) -> list[str]:
    """Problems of an API key file in the exchange's own format ({"name", "privateKey"}), as sentences."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        return [f"the file can't be read ({reason})."]
    try:
        found = json.loads(text)
    except ValueError:
        return ["the file is not JSON: download the key file from the exchange again."]
    missing = [name for name in ("name", "privateKey") if not (isinstance(found, dict) and found.get(name))]
    if missing == ["name"] and found.get("id"):
        missing = []  # Ed25519 key files name the key `id`
    return [f'the file has no "{name}": download the key file from the exchange again.' for name in missing]
