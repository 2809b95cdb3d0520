"""The last settings of file, environment and defaults, so that a change is recorded once, also between two runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "setting_bases",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column(
            "said",
            postgresql.JSONB(),
            nullable=False,
            comment="live settings by key, as file, environment and defaults have them",
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_setting_bases")),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_table("setting_bases")
