"""Views with the names and columns of the previous systems, in a separate schema, `old` (docs/database.md).

People's scripts and notebooks read them; our own code doesn't.
"""

from __future__ import annotations

from alembic import op

from schema.texts import text_of

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_VIEWS = ("old.trade_records", "old.fifo_allocations", "old.passive_orders", "old.trade_strategy_link")


def upgrade() -> None:
    """Apply."""
    op.execute("CREATE SCHEMA IF NOT EXISTS old")
    for name in _VIEWS:
        op.execute(text_of("views", name, 1))


def downgrade() -> None:
    """Revert. The schema stays if somebody has added something of their own to it."""
    for name in _VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.execute(
        """DO $do$ BEGIN
               DROP SCHEMA old;
           EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
           END $do$"""
    )
