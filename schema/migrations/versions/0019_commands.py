"""A command and who gave it are in the ledger before it is sent through Temporal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "commands",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "subject",
            sa.Text(),
            nullable=False,
            comment="the trade or order; of an order that is asked for, its digest",
        ),
        sa.Column(
            "given_by",
            sa.Text(),
            nullable=False,
            comment="as its way proves: log-in, sender, user of the machine",
        ),
        sa.Column("note", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.CheckConstraint("kind IN ('order', 'close', 'cancel')", name="ck_commands_kind_known"),
    )
    op.create_index("ix_commands_at", "commands", ["account", "at"])


def downgrade() -> None:
    """Revert."""
    op.drop_table("commands")
