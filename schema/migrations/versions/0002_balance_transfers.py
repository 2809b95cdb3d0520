"""Changes of balances that no fill explains: opening balances, deposits, withdrawals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "balance_transfers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False, comment="what no fill explains; below zero: it left"),
        sa.Column("expected", sa.Numeric(), nullable=False, comment="what the books added up to before"),
        sa.Column("found", sa.Numeric(), nullable=False, comment="what the exchange held"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('opening', 'deposit', 'withdrawal', 'rounding')",
            name=op.f("ck_balance_transfers_kind_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_balance_transfers")),
    )
    op.create_index("ix_balance_transfers_currency", "balance_transfers", ["account", "currency"], unique=False)
    op.create_index(
        "uq_balance_transfers_opening",
        "balance_transfers",
        ["account", "currency"],
        unique=True,
        postgresql_where=sa.text("kind = 'opening'"),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_index(
        "uq_balance_transfers_opening", table_name="balance_transfers", postgresql_where=sa.text("kind = 'opening'")
    )
    op.drop_index("ix_balance_transfers_currency", table_name="balance_transfers")
    op.drop_table("balance_transfers")
