"""An index for pages of all products' signals, in the order of their times (web/views/audit.py)."""

from __future__ import annotations

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_trade_signals_account_at", "trade_signals", ["account", "at"])


def downgrade() -> None:
    """Revert."""
    op.drop_index("ix_trade_signals_account_at", "trade_signals")
