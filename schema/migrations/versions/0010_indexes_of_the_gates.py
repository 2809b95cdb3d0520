"""What the gates read of fills and closed trades is found by index, however long the ledger has become."""

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
    """Take back."""
    op.drop_index("ix_trades_closed_at", table_name="trades")
    op.create_index("ix_trades_closed_at", "trades", ["closed_at"], unique=False)
    op.drop_index("ix_fills_recorded_at", table_name="fills")
