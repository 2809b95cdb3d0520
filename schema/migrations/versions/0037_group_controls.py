"""Halts of a strategy's or a trigger's entries (activities/orders/group_controls.py)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "group_controls",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("halted", sa.Boolean(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), comment="when a halt ends by itself; null: by a resume only"),
        sa.Column("reason", sa.Text()),
        sa.Column("changed_by", sa.Text()),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("account", "kind", "name", name=op.f("pk_group_controls")),
        sa.CheckConstraint("kind IN ('strategy', 'trigger')", name=op.f("ck_group_controls_kind_known")),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_table("group_controls")
