"""In which currency an amount is: the rate of a trade's close, and the quote currency of a trade record.

`trades.quote_rate` is what one unit of the trade's quote currency was worth in the account's own when it closed: limits
on losses count in that one. Trades of before have none; those of today get theirs at the next look.

`trade_records.currency` says what the amounts of a row are in, as the columns called `*_usd` hold whatever the product
is priced in. It is expand only: the columns keep their names while workers of before run, and lose `_usd` in a later
release.
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
    """Take back."""
    op.drop_column("trade_records", "currency")
    op.drop_column("trades", "quote_rate")
