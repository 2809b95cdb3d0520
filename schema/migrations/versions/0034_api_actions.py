"""Actions requested by the API: who, what, when, and the answer (web/api/action_log.py)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "api_actions",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False, comment="who is logged in, or the program with the token"),
        sa.Column("key", sa.Text(), nullable=False, comment="the asker's own: the same one again is the same action"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="the trade, order or incident; empty: the account"),
        sa.Column("digest", sa.Text(), nullable=False, comment="the same key with another digest is refused"),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("status", sa.Integer(), comment="the answer's; null: none was given yet"),
        sa.Column("answer", postgresql.JSONB()),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("account", "given_by", "key", name="pk_api_actions"),
    )
    op.create_index("ix_api_actions_at", "api_actions", ["account", "at"])


def downgrade() -> None:
    """Revert."""
    op.drop_table("api_actions")
