"""An accepted close or cancel is in the ledger until done; why a remainder was dust; who requested a cancel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "commands",
        sa.Column(
            "accepted_at",
            sa.DateTime(timezone=True),
            comment="of a close or cancel: its workflow has promised it, and a new workflow goes on with it",
        ),
    )
    op.create_index(
        "ix_commands_accepted", "commands", ["subject"], postgresql_where=sa.text("accepted_at IS NOT NULL")
    )
    op.add_column("trades", sa.Column("dust_why", sa.Text(), comment="what was written off, with worth and minimum"))
    op.add_column(
        "attempts",
        sa.Column(
            "cancel_asked_at",
            sa.DateTime(timezone=True),
            comment="we asked for its cancel; one that ends cancelled without that is somebody else's",
        ),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_column("attempts", "cancel_asked_at")
    op.drop_column("trades", "dust_why")
    op.drop_index("ix_commands_accepted", "commands")
    op.drop_column("commands", "accepted_at")
