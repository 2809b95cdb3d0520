"""The audit: what happened in an account, from every table that has it, as one list, newest first.

Each source is read by its own index from the place where the page before ended, and the newest of all of them make the
page; so a deep page costs what the first one does.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from domain.money import average
from domain.text import shown
from domain.wording import compared, percent, tidy
from web.views import Json, Ledger, Row
from web.views.lists import Place

__all__ = ["AUDIT_SOURCES", "described_event", "read_audit"]

_ENDED_AT = "coalesce(o.finished_at, o.received_at)"
_PAGE = """($3::text IS NULL OR {symbol} = $3) AND {at} <= coalesce($4::timestamptz, 'infinity')
    AND ({at}, {id}) < (coalesce($4::timestamptz, 'infinity'), coalesce($5::text, '') COLLATE "C")"""


def _branch(columns: str, table: str, condition: str, *, at: str, name: str, symbol: str) -> str:
    """One source: its newest events behind the place."""
    page = _PAGE.format(symbol=symbol, at=at, id=f'({name}) COLLATE "C"')
    return f"""(SELECT {at}, ({name}) COLLATE "C", {columns} FROM {table}
  WHERE {condition} AND {page} ORDER BY {at} DESC, 2 DESC LIMIT $2)"""  # noqa: S608 - our own texts


_NOTHING = "NULL::text"
_SOURCES = {
    # Behind at and id: about, event, symbol, order_key, sentence, by, severity, incident, details.
    "order": [
        _branch(
            f"""'order', (CASE WHEN o.protection_role IS NULL THEN 'ORDER_' ELSE 'SLTP_' END)
                || (CASE WHEN o.gate IS NULL THEN o.state ELSE 'REFUSED' END),
                o.symbol, o.order_key, {_NOTHING}, {_NOTHING}, {_NOTHING}, NULL::bigint, NULL::jsonb""",
            "orders o",
            "o.account = $1 AND o.finished",
            at=_ENDED_AT,
            name="'order-end/' || o.order_key",
            symbol="o.symbol",
        ),
        _branch(
            f"""'order', (CASE WHEN o.role = 'EXTERNAL' THEN 'ORDER_FOUND'
                               WHEN o.protection_role IS NOT NULL THEN 'SLTP_PLACED' ELSE 'ORDER_PLACED' END),
                o.symbol, o.order_key, {_NOTHING}, nullif(o.intent ->> 'asked_by', ''), {_NOTHING}, NULL::bigint,
                NULL::jsonb""",
            "orders o",
            "o.account = $1 AND o.gate IS NULL",
            at="o.received_at",
            name="'order/' || o.order_key",
            symbol="o.symbol",
        ),
    ],
    "signal": [
        _branch(
            f"""'signal', 'SIGNAL_' || upper(s.decision), s.symbol, s.order_key,
                s.trigger || coalesce(': ' || nullif(s.details ->> 'sentence', ''), ''), s.source, {_NOTHING},
                NULL::bigint, jsonb_build_object('side', s.side)""",
            "trade_signals s",
            "s.account = $1",
            at="s.at",
            name="'signal/' || lpad(s.id::text, 20, '0')",
            symbol="s.symbol",
        )
    ],
    "incident": [
        _branch(
            f"""'incident', i.kind,
                coalesce(io.symbol, CASE WHEN i.subject ~ '^[A-Z0-9]+-[A-Z0-9]+$' THEN i.subject END), io.order_key,
                i.sentence, {_NOTHING}, i.severity, i.id,
                jsonb_build_object('subject', i.subject, 'resolved_at', i.resolved_at)""",
            "incidents i LEFT JOIN orders io ON io.order_key = i.subject AND io.account = i.account",
            "i.account = $1",
            at="i.at",
            name="'incident/' || lpad(i.id::text, 20, '0')",
            symbol="coalesce(io.symbol, i.subject)",
        )
    ],
    "command": [
        _branch(
            f"""'command', 'COMMAND_' || upper(c.kind), co.symbol, co.order_key, sc.sentence, c.given_by, {_NOTHING},
                NULL::bigint, jsonb_build_object('note', c.note)""",
            """commands c LEFT JOIN orders co ON co.order_key = c.subject AND co.account = c.account
               LEFT JOIN stop_changes sc ON sc.id = c.id""",
            "c.account = $1 AND c.kind <> 'order'",
            at="c.at",
            name="'command/' || c.id",
            symbol="co.symbol",
        ),
        _branch(
            f"""'command', 'API_' || upper(a.kind), ao.symbol, ao.order_key,
                coalesce(a.answer ->> 'sentence', a.answer ->> 'detail', 'no answer is recorded'), a.given_by,
                {_NOTHING}, NULL::bigint, jsonb_build_object('note', a.body ->> 'note', 'status', a.status)""",
            "api_actions a LEFT JOIN orders ao ON ao.order_key = a.subject AND ao.account = a.account",
            # A close, a cancel or a move of stops that was done is the command's event.
            "a.account = $1 AND (a.kind NOT IN ('close', 'cancel', 'stops') OR a.status >= 400)",
            at="a.at",
            name="'action/' || md5(a.given_by || '/' || a.key)",
            symbol="ao.symbol",
        ),
    ],
    "setting": [
        _branch(
            f"""'setting', 'SETTING_CHANGED', {_NOTHING}, {_NOTHING}, g.key, g.changed_by, {_NOTHING}, NULL::bigint,
                jsonb_build_object('old', g.old, 'new', g.new, 'note', g.why)""",
            "setting_changes g",
            "g.account = $1",
            at="g.at",
            name="'setting/' || lpad(g.id::text, 20, '0')",
            symbol=_NOTHING,
        )
    ],
}
AUDIT_SOURCES = tuple(_SOURCES)
_EVENTS = """
WITH page AS (
    SELECT * FROM ({branches}) e (at, id, about, event, symbol, order_key, sentence, by, severity, incident, details)
     ORDER BY at DESC, id DESC LIMIT $2)
SELECT p.*, o.side, o.role, o.protection_role, o.exit_reason, o.trigger, o.gate, o.gate_sentence, o.refusal,
       o.base_size, o.quote_size, o.limit_price, o.filled_size, o.filled_value, o.status_source, o.entry_key,
       x.achieved_net, n.messages, n.targets,
       CASE WHEN o.gate IS NOT NULL THEN (SELECT g.numbers FROM gate_results g WHERE g.order_key = o.order_key
           AND NOT g.passed ORDER BY g.position DESC LIMIT 1) END AS numbers
  FROM page p LEFT JOIN orders o ON o.order_key = p.order_key AND o.account = $1
  LEFT JOIN trade_exits x ON x.order_key = p.order_key AND p.id LIKE 'order-end/%'
  LEFT JOIN LATERAL (SELECT sum(times)::int AS messages, count(*)::int AS targets FROM notices
                      WHERE incident_id = p.incident) n ON true
 ORDER BY p.at DESC, p.id DESC
"""


async def read_audit(
    ledger: Ledger,
    account: str,
    *,
    about: Collection[str] = AUDIT_SOURCES,
    symbol: str | None = None,
    after: Place | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` events of an account, newest first: of these sources, and of one product or all."""
    branches = "\nUNION ALL\n".join(branch for name in AUDIT_SOURCES if name in about for branch in _SOURCES[name])
    if not branches:
        return []
    at, key = (after.at, after.key) if after else (None, None)
    return await ledger.fetch(_EVENTS.format(branches=branches), account, limit, symbol, at, key)


def described_event(row: Row) -> Json:
    """An event as JSON: prices in quote per base, sizes in base."""
    details: Json = row["details"] or {}
    ended = row["id"].startswith("order-end/")
    filled = row["filled_size"] if ended else None
    price = average(row["filled_value"], filled) if filled else row["limit_price"]
    return {
        "id": row["id"],
        "at": row["at"],
        "about": row["about"],
        "event": row["event"],
        "severity": row["severity"],
        "symbol": row["symbol"],
        "subject": details.get("subject"),
        "side": row["side"] or details.get("side"),
        "role": row["protection_role"] or row["role"],
        "order_key": row["order_key"],
        "trade_key": row["entry_key"],
        "price": tidy(price),
        "size": tidy(filled or row["base_size"]),
        "quote_size": tidy(row["quote_size"]),
        "gate": row["gate"] if ended else None,
        "sentence": _sentence(row, details, ended=ended),
        "numbers": compared(row["numbers"]) if ended and row["numbers"] else None,
        "status_source": row["status_source"] if ended else None,
        "by": row["by"],
        "incident": row["incident"],
        "resolved_at": details.get("resolved_at"),
        "messages": row["messages"] or 0,
        "targets": row["targets"] or 0,
    }


def _sentence(row: Row, details: Json, *, ended: bool) -> str:
    if row["about"] == "setting":
        note = f" ({details['note']})" if details.get("note") else ""
        return f"{row['sentence']}: {_value(details.get('old'))} → {_value(details.get('new'))}{note}"
    if row["about"] != "order":
        note = f" ({details['note']})" if details.get("note") else ""
        return f"{row['sentence'] or ''}{note}".strip()
    if not ended:
        return str(row["exit_reason"] or row["trigger"])
    if row["gate"]:
        return f"{row['gate']}: {row['gate_sentence'] or ''}".rstrip(": ")
    gain: Decimal | None = row["achieved_net"]
    parts = [
        row["exit_reason"] or row["trigger"],
        f"{percent(gain)} after fees" if gain is not None else "",
        f"refused by the exchange: {row['refusal']}" if row["refusal"] else "",
        row["gate_sentence"] or "",
    ]
    return ", ".join(part for part in parts if part)


def _value(value: object) -> str:
    """A setting's value; None: it was not set."""
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(shown(part) for part in value) or "none"
    return shown(value)
