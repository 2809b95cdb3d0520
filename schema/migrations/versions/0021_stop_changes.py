"""Changes of stops and targets by a person, with who and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def _allow(more: str) -> None:
    """Allow kinds of commands in addition to the first three. The old check's name had its prefix twice."""
    for name in ("ck_commands_kind_known", "ck_commands_ck_commands_kind_known"):
        op.execute(f"ALTER TABLE commands DROP CONSTRAINT IF EXISTS {name}")
    op.execute(
        f"ALTER TABLE commands ADD CONSTRAINT ck_commands_kind_known CHECK (kind IN ('order', 'close', 'cancel'{more}))"
    )


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "stop_changes",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("entry_key", sa.Text(), sa.ForeignKey("trades.entry_key"), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False, comment="as its way proves; see commands"),
        sa.Column("note", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.Column("sentence", sa.Text(), nullable=False, comment="from where to where"),
        sa.Column("rules_before", JSONB(), nullable=False),
        sa.Column("rules_after", JSONB(), nullable=False),
        sa.Column("bid", sa.Numeric(), comment="when it was changed; null: not known"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    op.create_index("ix_stop_changes_entry_key", "stop_changes", ["entry_key", "at"])
    _allow(", 'stops'")


def downgrade() -> None:
    """Revert."""
    op.execute("DELETE FROM commands WHERE kind = 'stops'")
    _allow("")
    op.drop_table("stop_changes")
