"""Allocations are found by the orders on both sides: a trade record's derived columns come from them at each fill."""

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
    """Take back."""
    op.drop_index("ix_fifo_allocations_buy_order_id", table_name="fifo_allocations")
    op.drop_index("ix_fifo_allocations_sell_order_id", table_name="fifo_allocations")
