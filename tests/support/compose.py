"""Read the compose file as Docker Compose would: anchors, merge keys and ${VARIABLE} with its default."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.temporal.yml"

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:?-)(?P<default>[^}]*))?\}")


def load(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with variables from `environment` only."""
    tree = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    resolved: dict[str, Any] = _resolve(tree, environment or {})
    return resolved


def _resolve(node: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _resolve(value, environment) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolve(value, environment) for value in node]
    if isinstance(node, str):
        return _VARIABLE.sub(lambda match: _value(match, environment), node)
    return node


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    given = environment.get(match["name"])
    if match["operator"] == "-":
        return match["default"] if given is None else given
    return given or match["default"] or ""
