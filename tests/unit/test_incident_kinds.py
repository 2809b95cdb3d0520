"""Kinds of incidents: one word each, defined in one place."""

from __future__ import annotations

import ast
from pathlib import Path

from domain.differences import Difference
from domain.incidents import IncidentKind

ROOT = Path(__file__).parents[2]
_TELLS = frozenset({"report_incident", "report_once", "report_past", "resolve_incidents", "OpenIncident"})


def test_no_incident_is_told_by_a_word_of_its_own() -> None:
    """Incidents are opened and resolved by a kind of the enumeration, never by a text."""
    literal = []
    for path in sorted(path for room in ("activities", "workers", "cli") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", None)
            if isinstance(node, ast.Call) and name in _TELLS:
                kind = node.args[2] if len(node.args) > 2 else None
                if isinstance(kind, ast.Constant | ast.JoinedStr):
                    literal.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert literal == []


def test_stored_words_are_those_of_before() -> None:
    """People's rules for notices and older rows name kinds: some that are relied on, and no duplicates."""
    assert IncidentKind.EXIT_REFUSED.value == "EXIT_REFUSED"
    assert IncidentKind.STALE_PRICE.value == "stale_price"
    assert IncidentKind.DATABASE_AWAY.value == "database_away"
    assert IncidentKind.BALANCE_WITHDRAWAL.value == "BALANCE_WITHDRAWAL"
    words = [kind.value.lower() for kind in IncidentKind]
    assert len(words) == len(set(words))
    # A report that changed sides is reported by reconcile and by the ledger alike.
    shared = {kind.value for kind in IncidentKind} & {difference.value for difference in Difference}
    assert shared == {"CHANGED_SIDE"}
