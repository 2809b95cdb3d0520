"""Records of older systems (`trade_records` and `trade_strategy_link`) for the import (docs/database.md).

Rows come as texts by column, from a CSV file or a database. A filled row is one fill, in the format that any import
reads; its other data (trigger, source, exit reason, linkage) is stored in `imported_records` and shown in its trade
record. FIFO allocations are recomputed from the fills, and compared.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from activities.database import Pool
from domain.money import ZERO, decimal_from

__all__ = ["KEPT_SOURCES", "OldRecords", "compare_results", "keep_old_records", "read_records"]

KEPT_SOURCES = frozenset({"sighook", "webhook", "manual", "websocket", "reconciled"})
"""Sources with the same meaning here; anything else becomes `import`."""

_FILLED = frozenset({"filled", "done", "closed", "completed", "settled", ""})
_UNKNOWN_TRIGGER: Mapping[str, Any] = {"trigger": "manual", "snapshot_id": None}

_KEEP = """
WITH given AS (
    SELECT n.* FROM jsonb_to_recordset($2::jsonb) AS n (
           order_id text, trigger jsonb, source text, exit_reason text, order_type text, client_order_id text,
           snapshot_id uuid, buy_score numeric, sell_score numeric, trigger_type text, sell_trigger text,
           indicator_breakdown jsonb, indicators_fired int)
      JOIN trade_records r ON r.account = $1 AND r.order_id = n.order_id AND r.ingest_via = 'import'
), kept AS (
    INSERT INTO imported_records (account, order_id, trigger, source, exit_reason, order_type, client_order_id,
           snapshot_id, buy_score, sell_score, trigger_type, sell_trigger, indicator_breakdown, indicators_fired)
    SELECT $1, given.* FROM given
        ON CONFLICT (account, order_id) DO UPDATE SET
           trigger = excluded.trigger, source = excluded.source, exit_reason = excluded.exit_reason,
           order_type = excluded.order_type,
           client_order_id = coalesce(excluded.client_order_id, imported_records.client_order_id),
           snapshot_id = coalesce(excluded.snapshot_id, imported_records.snapshot_id),
           buy_score = coalesce(excluded.buy_score, imported_records.buy_score),
           sell_score = coalesce(excluded.sell_score, imported_records.sell_score),
           trigger_type = coalesce(excluded.trigger_type, imported_records.trigger_type),
           sell_trigger = coalesce(excluded.sell_trigger, imported_records.sell_trigger),
           indicator_breakdown = CASE WHEN excluded.trigger_type IS NULL THEN imported_records.indicator_breakdown
                                      ELSE excluded.indicator_breakdown END,
           indicators_fired = CASE WHEN excluded.trigger_type IS NULL THEN imported_records.indicators_fired
                                   ELSE excluded.indicators_fired END
), shown AS (
    UPDATE trade_records r SET trigger = given.trigger, source = given.source, exit_reason = given.exit_reason,
           order_type = given.order_type
      FROM given WHERE r.account = $1 AND r.order_id = given.order_id
       AND (r.trigger, r.source, r.exit_reason, r.order_type)
           IS DISTINCT FROM (given.trigger, given.source, given.exit_reason, given.order_type)
    RETURNING 1
)
SELECT count(*) FROM shown
"""

_RESULTS = """
SELECT symbol, sell_order_id, sum(pnl) AS pnl FROM fifo_allocations
 WHERE account = $1 AND sell_order_id = ANY($2::text[]) GROUP BY 1, 2
"""
_CLOSE = Decimal("0.005")
"""Half a cent: closer results count as equal, because older systems used floating point."""

Row = Mapping[str, str | None]


@dataclass(slots=True)
class OldRecords:
    """The content of a table of records: fills as lines of JSON (`fifo.reading`), and the rest by order id.

    `lines` and `order_ids` are numbered like the rows, so a row without a fill is an empty line. `left_out`: rows that
    were not filled, by status. `sources`: those that became `import`. `bad_links`: linkage that can't be read.
    """

    lines: list[bytes] = field(default_factory=list)
    order_ids: list[str] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    bad_links: list[str] = field(default_factory=list)


def read_records(records: Iterable[Row], links: Iterable[Row] = ()) -> OldRecords:
    """Rows of `trade_records`, with the linkage of their orders. Pure."""
    found = OldRecords()
    for row in records:
        found.lines.append(_line(row, found))
        found.order_ids.append(_text(row, "order_id"))
    for number, row in enumerate(links, start=1):
        fact = found.facts.get(_text(row, "order_id"))
        if fact is not None:
            try:
                fact.update(_linkage(row))
            except ValueError as error:
                found.bad_links.append(f"row {number} of the linkage: {error}")
    return found


def _line(row: Row, found: OldRecords) -> bytes:
    """The row's fill; an empty line if it has none or is unclear."""
    status = _text(row, "status").lower()
    if status not in _FILLED:
        found.left_out[status] += 1
        return b"\n"
    order_id, source = _text(row, "order_id"), _text(row, "source").lower()
    if source not in KEPT_SOURCES:
        found.sources[source or "none"] += 1
        source = "import"
    found.facts[order_id] = {
        "order_id": order_id,
        "trigger": _trigger(_text(row, "trigger")),
        "source": source,
        "exit_reason": _text(row, "exit_reason") or None,
        "order_type": _text(row, "order_type").upper() or "UNKNOWN",
        "indicator_breakdown": {},
        "indicators_fired": 0,
    }
    fill = {
        "id": order_id,
        "time": _time(_text(row, "order_time")),
        "symbol": _text(row, "symbol").upper().replace("_", "-").replace("/", "-"),
        "side": _text(row, "side").lower(),
        "size": _text(row, "size"),
        "price": _text(row, "price"),
        "fee": _text(row, "total_fees_usd") or "0",
    }
    return orjson.dumps(fill) + b"\n"


def _text(row: Row, name: str) -> str:
    return (row.get(name) or "").strip()


def _time(text: str) -> str:
    """The time in the import's format: the old tables were in UTC, even without a zone."""
    text = text.replace(" ", "T", 1)
    moment = text.partition("T")[2]
    return text if not moment or any(sign in moment for sign in "Z+-") else f"{text}Z"


def _trigger(text: str) -> Mapping[str, Any]:
    """A trigger as stored, JSON or a bare name."""
    if not text:
        return _UNKNOWN_TRIGGER
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    return value if isinstance(value, dict) else {"trigger": str(value), "snapshot_id": None}


def _linkage(row: Row) -> dict[str, Any]:
    """Raises ValueError for an invalid number, id or JSON."""
    snapshot = _text(row, "snapshot_id")
    breakdown = _text(row, "indicator_breakdown")
    fired = _text(row, "indicators_fired")
    try:
        parts = orjson.loads(breakdown) if breakdown else {}
    except orjson.JSONDecodeError:
        raise ValueError("indicator_breakdown is not JSON") from None
    return {
        "client_order_id": _text(row, "client_order_id") or None,
        "snapshot_id": str(uuid.UUID(snapshot)) if snapshot else None,
        "buy_score": _score(row, "buy_score"),
        "sell_score": _score(row, "sell_score"),
        "trigger_type": _text(row, "trigger_type") or "unknown",
        "sell_trigger": _text(row, "sell_trigger") or None,
        "indicator_breakdown": parts,
        "indicators_fired": int(fired) if fired else 0,
    }


def _score(row: Row, name: str) -> Decimal | None:
    text = _text(row, name)
    return decimal_from(text) if text else None


async def keep_old_records(
    pool: Pool, account: str, found: OldRecords, known_as: Mapping[str, str] | None = None
) -> int:
    """Store the records' data beyond their imported fills; returns how many trade records changed.

    `known_as`: order ids under which a row's fill existed before. Idempotent. Raises the database's errors.
    """
    names = known_as or {}
    rows = [{**fact, "order_id": names.get(order_id, order_id)} for order_id, fact in found.facts.items()]
    changed: int = await pool.fetchval(_KEEP, account, rows, timeout=300.0)
    return changed


async def compare_results(
    pool: Pool, account: str, allocations: Iterable[Row], known_as: Mapping[str, str] | None = None
) -> dict[str, tuple[int, Decimal, Decimal]]:
    """Differences from the old system's FIFO results: by symbol the number of sells, its sum and ours, in quote
    currency.

    Sells that are not in the ledger, or have no cost there, are skipped. Raises ValueError for a result that is not a
    number, and the database's errors.
    """
    old: dict[str, Decimal] = {}
    for row in allocations:
        order_id = _text(row, "sell_order_id")
        order_id = (known_as or {}).get(order_id, order_id)
        old[order_id] = old.get(order_id, ZERO) + decimal_from(_text(row, "pnl_usd"))
    differing: dict[str, tuple[int, Decimal, Decimal]] = {}
    for result in await pool.fetch(_RESULTS, account, list(old)):
        before, now = old[result["sell_order_id"]], result["pnl"]
        if now is not None and abs(now - before) >= _CLOSE:
            count, theirs, ours = differing.get(result["symbol"], (0, ZERO, ZERO))
            differing[result["symbol"]] = count + 1, theirs + before, ours + now
    return differing
