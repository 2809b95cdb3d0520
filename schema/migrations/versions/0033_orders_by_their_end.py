"""An index for pages of ended orders, in the order of their ends (web/views/lists.py)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. External and refused orders have no end time and are ordered by when they were received."""
    op.create_index(
        "ix_orders_ended",
        "orders",
        ["account", sa.text("COALESCE(finished_at, received_at)"), "order_key"],
        postgresql_where=sa.text("finished"),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_index("ix_orders_ended", "orders")
