"""People's reads of the ledger are in web/views, so that every place shows the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CLI = Path(__file__).parents[2] / "cli"
STATEMENT = re.compile(r"\b(SELECT\s|INSERT INTO\s|DELETE FROM\s|UPDATE \w+ SET\s)")
OF_THEIR_OWN = {
    "doctor.py",  # checks the server's state
    "import_old.py",  # reads an older system's tables
    "notices.py",  # resolves an incident
    "settings_left.py",  # determines the ledger's owner
}
"""Files that read the database for other purposes than showing the ledger to people, with the demo's audit."""


def test_the_command_line_reads_the_ledger_by_views() -> None:
    """No command has its own statement for such reads: the page would show something else."""
    found = {
        path.name
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value)
    }
    assert found == OF_THEIR_OWN
