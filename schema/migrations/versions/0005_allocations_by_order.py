"""Indexes of allocations by the orders on both sides: at each fill a trade record's columns are derived from them."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_fifo_allocations_sell_order_id", "fifo_allocations", ["account", "sell_order_id"])
    op.create_index("ix_fifo_allocations_buy_order_id", "fifo_allocations", ["account", "buy_order_id"])


def downgrade() -> None:
    """Revert."""
    op.drop_index("ix_fifo_allocations_buy_order_id", table_name="fifo_allocations")
    op.drop_index("ix_fifo_allocations_sell_order_id", table_name="fifo_allocations")
