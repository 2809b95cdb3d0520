"""SQL checks of the ledger's rows: every derived column is recomputed from its sources and compared.

Each check is one statement over all rows of an account ($1). It returns the row's subject, its symbol and a sentence
with the row, the column, the stored and the right value. Required rows are searched for from the rows that require
them, so that a deleted row is noticed. Only rows written in the same transaction are compared; rows that two successive
transactions write are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from activities.ledger.order_checks import ATTEMPT, ATTEMPT_TOTALS, FILL, ORDER, ORDER_TOTALS
from activities.ledger.report_checks import (
    EXIT,
    EXIT_ROWS,
    LINK,
    LINK_MISSING,
    RECORD,
    RECORD_ROWS,
    TRANSFER,
    TRANSFER_MISSING,
)
from activities.ledger.trade_checks import CLOSED_HOLDS, EXIT_PLAN, POSITION_BOOK, TRADE, TRADE_MISSING

__all__ = ["CHECKS"]

CHECKS: Mapping[str, Sequence[str]] = {
    "ORDER_TOTALS": (ORDER_TOTALS,),
    "ATTEMPT_TOTALS": (ATTEMPT_TOTALS,),
    "ORDER": (ORDER,),
    "ATTEMPT": (ATTEMPT,),
    "FILL": (FILL,),
    "TRADE_MISSING": (TRADE_MISSING,),
    "POSITION_BOOK": (POSITION_BOOK,),
    "TRADE": (TRADE,),
    "EXIT_PLAN": (EXIT_PLAN,),
    "CLOSED_HOLDS": (CLOSED_HOLDS,),
    "TRADE_RECORD": (RECORD_ROWS, RECORD),
    "TRADE_EXIT": (EXIT_ROWS, EXIT),
    "TRANSFER": (TRANSFER, TRANSFER_MISSING),
    "LINKAGE": (LINK_MISSING, LINK),
}
"""The statements by the name of their check; docs/reports.md describes each."""
