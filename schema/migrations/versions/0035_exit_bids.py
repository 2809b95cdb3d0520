"""The last bid in the price watcher's stream for each open trade's symbol: for exits while reads fail.

It is expand only: older workers neither write nor read it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "exit_bids",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("bid", sa.Numeric(), nullable=False, comment="quote per base"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="when it was received"),
        sa.PrimaryKeyConstraint("account", "symbol", name="pk_exit_bids"),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_table("exit_bids")
