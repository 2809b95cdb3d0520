"""Candles, prices, the matrix and its decisions get their account (RISK-7): accounts of one ledger shared them.

This is the expanding step: workers of the previous release continue while they are replaced. If one account has written
all rows, they are that account's; the column's default also assigns the rows that those workers write; the old keys
stay beside the new ones, as their writes name them; and `market_state`, whose rows they read whole, is a view without
the new column. A second account's first start removes the old keys (`activities.identity`).

If several accounts wrote, a row of the matrix gets its run's account. The account of candles and prices is unknown, so
they are deleted: each account's market data are read from its own venue again. Workers of the previous release continue
to read, but the rows that they write belong to no account (''), and they can't keep market data: stop them before such
a ledger is upgraded.

The contracting step follows in the next release: the view, the defaults of `account`, rows of the account '', the keys
uq_candles_of_one_account and uq_market_prices_of_one_account, and the indexes ix_market_snapshots_symbol_at and
ix_trade_signals_symbol_at are removed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_TABLES = ("candles", "market_state", "market_snapshots", "trade_signals")
_WRITERS = """
SELECT substr(name, length('market-data/') + 1) FROM leases WHERE starts_with(name, 'market-data/')
UNION SELECT account FROM strategy_runs
"""
_ONLY_ONE = "SELECT min(account) FROM account_identities HAVING count(*) = 1"
_OF_ONE = """
CREATE VIEW market_state AS
SELECT symbol, price, bid, ask, change_24h, quote_volume_24h, at FROM market_prices WHERE account = """
_OF_ALL = """
CREATE VIEW market_state AS
SELECT DISTINCT ON (symbol) symbol, price, bid, ask, change_24h, quote_volume_24h, at
  FROM market_prices ORDER BY symbol, at DESC NULLS LAST
"""


def upgrade() -> None:
    """Apply."""
    # All in one statement, so that no worker holds one of them while it waits for another.
    op.execute(f"LOCK TABLE {', '.join(_TABLES)} IN ACCESS EXCLUSIVE MODE")
    accounts = _accounts()
    only = accounts[0] if len(accounts) == 1 else None
    for table in _TABLES:
        op.add_column(table, sa.Column("account", sa.Text(), server_default=only or "", nullable=False))
    op.add_column(
        "candles",
        sa.Column(
            "settled",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="the venue's records told it once it was over: only they change it",
        ),
    )
    if only is None:
        _tell_apart()
    op.drop_constraint("pk_candles", "candles")
    op.create_primary_key("pk_candles", "candles", ["account", "symbol", "seconds", "start"])
    op.drop_constraint("pk_market_state", "market_state")
    op.rename_table("market_state", "market_prices")
    op.create_primary_key("pk_market_prices", "market_prices", ["account", "symbol"])
    for table in ("market_snapshots", "trade_signals"):
        op.create_index(f"ix_{table}_account_symbol_at", table, ["account", "symbol", "at"])
    if only is not None:
        op.create_index("uq_candles_of_one_account", "candles", ["symbol", "seconds", "start"], unique=True)
        op.create_index("uq_market_prices_of_one_account", "market_prices", ["symbol"], unique=True)
        op.execute(_OF_ONE + "'" + only.replace("'", "''") + "'")
        return
    op.execute(_OF_ALL)
    # Rows without an account are written only if several accounts wrote, by workers of the previous release.
    for table in ("candles", "market_prices", *(() if accounts else ("market_snapshots", "trade_signals"))):
        op.alter_column(table, "account", server_default=None)


def _accounts() -> list[str]:
    """The accounts that wrote market data or a matrix; if none did, the ledger's account if it has one."""
    connection = op.get_bind()
    found = list(connection.execute(sa.text(_WRITERS)).scalars())
    return found or list(connection.execute(sa.text(_ONLY_ONE)).scalars())


def _tell_apart() -> None:
    op.execute("DELETE FROM candles")
    op.execute("DELETE FROM market_state")
    op.execute(
        "UPDATE market_snapshots m SET account = r.account FROM strategy_runs r WHERE r.snapshot_id = m.snapshot_id"
    )
    op.execute(
        """UPDATE trade_signals s SET account = coalesce(s.details ->> 'account',
               (SELECT r.account FROM strategy_runs r WHERE r.snapshot_id = s.snapshot_id), '')"""
    )


def downgrade() -> None:
    """Revert. Of several accounts' rows for one key, the newest price and the candle with the most volume are kept."""
    for table in ("market_snapshots", "trade_signals"):
        op.drop_index(f"ix_{table}_account_symbol_at", table_name=table)
    op.execute("DROP INDEX IF EXISTS uq_candles_of_one_account, uq_market_prices_of_one_account")
    op.execute("DROP VIEW market_state")
    op.execute(
        """DELETE FROM market_prices p USING market_prices o WHERE o.symbol = p.symbol
              AND (coalesce(o.at, '-infinity'), o.account) > (coalesce(p.at, '-infinity'), p.account)"""
    )
    op.execute(
        """DELETE FROM candles c USING candles o
            WHERE (o.symbol, o.seconds, o.start) = (c.symbol, c.seconds, c.start)
              AND (o.volume, o.account) > (c.volume, c.account)"""
    )
    op.drop_constraint("pk_market_prices", "market_prices")
    op.rename_table("market_prices", "market_state")
    op.create_primary_key("pk_market_state", "market_state", ["symbol"])
    op.drop_constraint("pk_candles", "candles")
    op.create_primary_key("pk_candles", "candles", ["symbol", "seconds", "start"])
    op.drop_column("candles", "settled")
    for table in _TABLES:
        op.drop_column(table, "account")
