"""Where people's reads of the ledger stand: in web/views, so that every place that shows them shows the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CLI = Path(__file__).parents[2] / "cli"
STATEMENT = re.compile(r"\b(SELECT\s|INSERT INTO\s|DELETE FROM\s|UPDATE \w+ SET\s)")
OF_THEIR_OWN = {
    "doctor.py",  # asks the server how it is
    "import_old.py",  # reads an older system's tables
    "notices.py",  # an incident is dealt with
    "settings_left.py",  # finds out whose ledger it is
}
"""Files that talk to the database about something else than what people see of the ledger, with the demo's audit."""


def test_the_command_line_reads_the_ledger_by_views() -> None:
    """No command has a statement of its own for what people see of the ledger: the page would show something else."""
    found = {
        path.name
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value)
    }
    assert found == OF_THEIR_OWN
