"""Totals settled by executions stay settled; a correction of value or fees alone does not reopen a closed trade."""

from __future__ import annotations

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_before = import_module("schema.migrations.versions.0011_ledger_in_one_call")


def _replaced(function: str, *changes: tuple[str, str]) -> str:
    """The function of migration 0011 with these changes; its name and arguments stay."""
    text = function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} is not once in the function")
        text = text.replace(old, new)
    return text


_STATE = _replaced(
    _before._STATE,
    ("'base_fees', base_fees) ORDER BY number)", "'base_fees', base_fees, 'settled', settled_size) ORDER BY number)"),
)
_WRITE = _replaced(
    _before._WRITE,
    (
        "dust_size = 0, closed_at = NULL;",
        """dust_size = CASE WHEN excluded.bought_size > 0 THEN 0 ELSE t.dust_size END,
               closed_at = CASE WHEN excluded.bought_size > 0 THEN NULL ELSE t.closed_at END;""",
    ),
    (
        "state = CASE WHEN p.state = 'DISARMED' THEN 'ARMED' ELSE p.state END,",
        """state = CASE WHEN p.state = 'DISARMED' AND (w #>> '{grow,size}')::numeric > 0 THEN 'ARMED'
                            ELSE p.state END,""",
    ),
)


def upgrade() -> None:
    """Apply."""
    comment = "up to here the exchange's own executions say what was paid"
    op.add_column("attempts", sa.Column("settled_size", sa.Numeric(), nullable=True, comment=comment))
    op.execute(
        """
        UPDATE attempts a SET settled_size = a.filled_size
         WHERE a.filled_size > 0 AND EXISTS (
                   SELECT 1 FROM fills f WHERE f.order_key = a.order_key AND f.client_order_id = a.client_order_id)
           AND NOT EXISTS (
                   SELECT 1 FROM fills f WHERE f.order_key = a.order_key AND f.client_order_id = a.client_order_id
                      AND f.origin = 'derived')
        """
    )
    op.execute(_STATE)
    op.execute(_WRITE)


def downgrade() -> None:
    """Revert."""
    op.execute(_replaced(_before._STATE))
    op.execute(_replaced(_before._WRITE))
    op.drop_column("attempts", "settled_size")
