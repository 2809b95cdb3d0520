"""A row of the matrix has the reason if nothing is done; an index of a run's decisions by snapshot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("market_snapshots", sa.Column("reason", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.create_index("ix_market_snapshots_at", "market_snapshots", ["at"], unique=False)
    op.create_index("ix_trade_signals_snapshot_id", "trade_signals", ["snapshot_id"], unique=False)


def downgrade() -> None:
    """Revert."""
    op.drop_index("ix_trade_signals_snapshot_id", table_name="trade_signals")
    op.drop_index("ix_market_snapshots_at", table_name="market_snapshots")
    op.drop_column("market_snapshots", "reason")
