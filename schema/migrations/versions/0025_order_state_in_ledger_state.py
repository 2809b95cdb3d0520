"""What a report of an order is computed from tells the order's state, too.

A report that is told again after the order has ended must be answered with the end that stands: an expired order's
attempt is a cancelled one, and only the order's own row says which of the two it was.
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
    """Take back."""
    _told(_AFTER, _BEFORE)
