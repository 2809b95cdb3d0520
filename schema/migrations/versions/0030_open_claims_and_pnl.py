"""A sell's open claim and a trade's P&L are columns computed by the database: each was computed in several places.

It is expand only: workers of the previous release read and write as before. Both tables are rewritten, so orders and
trades are locked meanwhile: a second or two for 100,000 orders, and space for a second copy of both.

Three checks of `ledger_identity` had their prefix twice; they get the names in `schema.tables`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.texts import text_of

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_OPEN_CLAIM = """
CASE WHEN side = 'SELL'::text AND NOT finished
     THEN GREATEST(claimed_base - filled_size - base_fees, 0::numeric) ELSE 0::numeric END
"""
_PNL = """
trade_pnl(bought_size - bought_base_fees, bought_value + bought_quote_fees,
          sold_size + sold_base_fees, sold_value - sold_quote_fees)
"""

_MISNAMED = ("one_row", "mode_known", "stamped_by_known")


def upgrade() -> None:
    """Apply."""
    # Both in one statement, so that no worker holds one of them while it waits for the other.
    op.execute("LOCK TABLE orders, trades IN ACCESS EXCLUSIVE MODE")
    op.execute(text_of("functions", "trade_pnl", 1))
    op.add_column(
        "orders",
        sa.Column(
            "open_claim",
            sa.Numeric(),
            sa.Computed(_OPEN_CLAIM, persisted=True),
            comment="what a sell at work may still take, its fees in base among it",
        ),
    )
    op.add_column(
        "trades",
        sa.Column(
            "pnl",
            sa.Numeric(),
            sa.Computed(_PNL, persisted=True),
            comment="of what was sold, in quote currency, after all fees; 0 while nothing was",
        ),
    )
    for name in _MISNAMED:
        _rename("ck_ledger_identity_ck_ledger_identity", "ck_ledger_identity", name)


def downgrade() -> None:
    """Revert."""
    for name in _MISNAMED:
        _rename("ck_ledger_identity", "ck_ledger_identity_ck_ledger_identity", name)
    op.execute("LOCK TABLE orders, trades IN ACCESS EXCLUSIVE MODE")
    op.drop_column("trades", "pnl")
    op.drop_column("orders", "open_claim")
    op.execute("DROP FUNCTION trade_pnl")


def _rename(before: str, after: str, name: str) -> None:
    op.execute(f"ALTER TABLE ledger_identity RENAME CONSTRAINT {before}_{name} TO {after}_{name}")
