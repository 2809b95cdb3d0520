"""Accounts of one ledger share nothing (RISK-7): every query of market data and decisions names its account."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("activities", "workers", "web", "cli", "research")
_TABLE = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(candles|exit_bids|market_prices|market_state|market_snapshots|trade_signals)\b(?:\s+(\w+))?"
)
# A snapshot's id is derived from its account, so it implies it.
_APART = re.compile(r"\baccount\b|\bsnapshot_id = ")


# What people see and type is restricted by account: a resolved key is the account's own, a key's start is not.
_SEEN = ("web", "cli", "research")
_OF_TRADING = re.compile(r"\b(?:FROM|JOIN|UPDATE)\s+(?:orders|trades|attempts|fills|exit_plans|incidents|commands)\b")
# A computed part is a key that was looked up; a sub-select uses its statement's rows.
_ASKED_FOR = re.compile(
    r"\b(?:account|(?:order|entry)_key|subject|snapshot_id)(?: = (?:\$\d|ANY ?\(\$\d|\w\.\w+_key\))| …)"
)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every text in a module with its line; of an f-string the constant parts, joined."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


@pytest.mark.parametrize("room", ROOMS)
def test_no_statement_sees_another_accounts_market_or_decisions(room: str) -> None:
    """If a statement names such a table, its account follows, before the next one or by its alias."""
    open_to_all = []
    for path in sorted((ROOT / room).rglob("*.py")):
        for line, text in texts(path):
            found = list(_TABLE.finditer(text))
            for number, match in enumerate(found):
                end = found[number + 1].start() if number + 1 < len(found) else len(text)
                named = _APART.search(text, match.end(), end) or re.search(
                    rf"\b{match[2]}\.(account|snapshot_id)\b", text
                )
                if match[1] == "market_state" or not named:
                    open_to_all.append(f"{path.relative_to(ROOT)}:{line} {match[0]}")
    assert open_to_all == []


@pytest.mark.parametrize("room", _SEEN)
def test_nobody_sees_or_names_another_accounts_orders_and_trades(room: str) -> None:
    """A statement on them with a condition, and each condition that completes a statement, names the account or a whole
    key.
    """
    open_to_all = []
    for path in sorted((ROOT / room).rglob("*.py")):
        if path.parent.name == "demo":
            continue  # that module has its own ledger
        for line, text in texts(path):
            completes = text.lstrip().startswith("WHERE ") and "$" in text
            condition = completes or (_OF_TRADING.search(text) and "WHERE " in text)
            if condition and not _ASKED_FOR.search(text):
                open_to_all.append(f"{path.relative_to(ROOT)}:{line} {text[:80]}")
    assert open_to_all == []
