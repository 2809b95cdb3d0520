"""The currency of a stored rate.

`risk.currency` may be changed while today's trades are counted: a rate in the old currency is wrong for the new one.
Older rates have no currency and are read again, today's at the next check.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "trades", sa.Column("quote_rate_currency", sa.Text(), comment="in which quote_rate is; null: not known")
    )


def downgrade() -> None:
    """Revert."""
    op.drop_column("trades", "quote_rate_currency")
