"""A report locks its trade's rows in the same order as exits, and takes the symbol's lock only for a fill.

`ledger_commit_2` differs from `ledger_commit` in two ways. It locks the plan and then the trade before it checks
whether the state is still the same: `ledger_write` would lock the trade first, unlike an exit's admission, and
overwrote what that had written in between. And a report without a fill, such as the end of an order that has sold
nothing more, changes no lots, so it doesn't wait for the symbol's lock.
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_COMMIT = """
CREATE FUNCTION ledger_commit_2(
    p_account text, p_symbol text, p_order_key text, p_mark text, p_since timestamptz, p_seen numeric, w jsonb,
    p_cover numeric, p_next numeric,
    OUT applied boolean, OUT state text, OUT mark text, OUT remaining numeric, OUT trade_state text,
    OUT entry_final boolean)
LANGUAGE plpgsql AS $$
-- p_mark: of the state that `w` was computed from, told for p_seen. Applied: the trade as it is now, and with p_next
-- the state from which the order's next report can be recorded. Not applied: the state as it is now, for p_cover.
DECLARE
    v_entry_key text;
BEGIN
    IF w ? 'fill' THEN
        PERFORM pg_advisory_xact_lock(72, hashtext(p_account || '/' || p_symbol));
    END IF;
    PERFORM 1 FROM attempts a WHERE a.order_key = p_order_key ORDER BY a.number FOR NO KEY UPDATE;
    SELECT o.entry_key INTO v_entry_key FROM orders o WHERE o.order_key = p_order_key FOR NO KEY UPDATE;
    IF w ?| ARRAY['grow', 'shrink', 'leg', 'entry_final'] THEN
        PERFORM 1 FROM exit_plans p WHERE p.entry_key = v_entry_key FOR NO KEY UPDATE;
        PERFORM 1 FROM trades t WHERE t.entry_key = v_entry_key FOR NO KEY UPDATE;
    END IF;
    -- Each statement from here on sees what was committed before the locks were had.
    applied := md5(ledger_state(p_account, p_order_key, p_since, p_seen)) IS NOT DISTINCT FROM p_mark;
    IF NOT applied THEN
        state := ledger_state(p_account, p_order_key, p_since, p_cover);
        mark := md5(state);
        RETURN;
    END IF;
    PERFORM ledger_write(p_account, p_order_key, w);
    SELECT t.remaining, t.state, t.entry_final INTO remaining, trade_state, entry_final
      FROM orders o JOIN trades t ON t.entry_key = o.entry_key WHERE o.order_key = p_order_key;
    IF p_next IS NOT NULL THEN
        state := ledger_state(p_account, p_order_key, NULL, p_next);
        mark := md5(state);
    END IF;
END
$$
"""


def upgrade() -> None:
    """Apply."""
    op.execute(_COMMIT)


def downgrade() -> None:
    """Revert."""
    op.execute("DROP FUNCTION ledger_commit_2")
