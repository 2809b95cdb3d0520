"""Indexes of fills and closed trades for the gates, however long the ledger becomes."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_fills_recorded_at", "fills", ["account", "recorded_at"], unique=False)
    op.drop_index("ix_trades_closed_at", table_name="trades")
    op.create_index("ix_trades_closed_at", "trades", ["account", "closed_at"], unique=False)


def downgrade() -> None:
    """Revert."""
    op.drop_index("ix_trades_closed_at", table_name="trades")
    op.create_index("ix_trades_closed_at", "trades", ["closed_at"], unique=False)
    op.drop_index("ix_fills_recorded_at", table_name="fills")
