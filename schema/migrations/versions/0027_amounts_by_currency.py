"""The currency of amounts: the rate at a trade's close, and the quote currency of a trade record.

`trades.quote_rate` is the value of one unit of the trade's quote currency in the account's own when it closed: loss
limits count in the latter. Older trades have none; today's get theirs at the next check.

`trade_records.currency` is the currency of a row's amounts, as the columns named `*_usd` are in the product's quote
currency. It is expand only: the columns keep their names while older workers run, and lose `_usd` in a later release.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "trades",
        sa.Column(
            "quote_rate",
            sa.Numeric(),
            comment="of a trade in another currency: what one unit was worth in the account's own at the close; "
            "null: unknown",
        ),
    )
    op.add_column(
        "trade_records",
        sa.Column(
            "currency",
            sa.Text(),
            sa.Computed("split_part(translate(symbol, '_', '-'), '-', 2)", persisted=True),
            comment="in which all amounts of the row are, those of the columns called _usd, too",
        ),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_column("trade_records", "currency")
    op.drop_column("trades", "quote_rate")
