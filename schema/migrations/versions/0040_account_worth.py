"""What an account is worth in a quote currency, for entries whose size is a share of it."""

from __future__ import annotations

from alembic import op

from schema.texts import text_of

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(text_of("functions", "account_worth", 1))


def downgrade() -> None:
    """Revert."""
    op.execute("DROP FUNCTION account_worth(text, text, double precision, double precision)")
