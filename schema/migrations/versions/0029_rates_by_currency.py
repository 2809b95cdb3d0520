"""In which currency a stored rate is.

`risk.currency` may be changed while trades of the day are counted: a rate in the one of before says nothing about the
new one. Rates of before have no currency and are learnt again, those of today at the next look.
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
    """Take back."""
    op.drop_column("trades", "quote_rate_currency")
