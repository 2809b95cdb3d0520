"""The decisions of each round of market making on each symbol, with reasons."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _side(name: str) -> list[sa.Column[object]]:
    return [
        sa.Column(f"{name}_code", sa.Text(), nullable=False),
        sa.Column(f"{name}_sentence", sa.Text(), nullable=False),
        sa.Column(f"{name}_price", sa.Numeric(), nullable=True),
        sa.Column(f"{name}_size", sa.Numeric(), nullable=True),
        sa.Column(f"{name}_order_key", sa.Text(), nullable=True, comment="the quote that was to be placed"),
    ]


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "quote_rounds",
        sa.Column("snapshot_id", postgresql.UUID(as_uuid=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *_side("bid"),
        *_side("ask"),
        sa.Column("numbers", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column(
            "cancelled",
            postgresql.JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="order key and why it was taken away",
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "account", "symbol", name=op.f("pk_quote_rounds")),
    )
    op.create_index("ix_quote_rounds_at", "quote_rounds", ["account", "at"], unique=False)


def downgrade() -> None:
    """Revert."""
    op.drop_table("quote_rounds")
