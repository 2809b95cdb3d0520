"""API keys whose account the venue has confirmed, so that a restarted paper process needn't wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "known_keys",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("key_mark", sa.Text(), primary_key=True, comment="a digest of the key's name; no secret"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_table("known_keys")
