"""The state that a report is computed from includes the order's own state.

A repeated report after the order's end must be answered with the recorded end: the attempt of an expired order is a
cancelled one, and only the order's own row has the difference.
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_BEFORE = "''finished'', v_order.finished,"
_AFTER = "''finished'', v_order.finished, ''state'', v_order.state,"


def _told(before: str, after: str) -> None:
    op.execute(
        f"""DO $do$ BEGIN
                EXECUTE replace(pg_get_functiondef('ledger_state'::regproc), '{before}', '{after}');
            END $do$"""
    )


def upgrade() -> None:
    """Apply."""
    _told(_BEFORE, _AFTER)


def downgrade() -> None:
    """Revert."""
    _told(_AFTER, _BEFORE)
