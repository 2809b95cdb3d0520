"""An index of open incidents by kind and subject, without the resolved ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "ix_incidents_open",
        "incidents",
        ["account", "kind", "subject"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_index("ix_incidents_open", table_name="incidents", postgresql_where=sa.text("resolved_at IS NULL"))
