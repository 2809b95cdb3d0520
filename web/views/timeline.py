"""What happened to an order or a trade, and when, as the ledger has it: one line an event, oldest first.

The workflows' own timelines say more of what they waited for; these lines need no worker and outlive the workflows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from domain.text import shown
from domain.wording import level, money, percent, short
from web.views import Json, Row
from web.views.trades import Story

__all__ = ["order_timeline", "trade_timeline"]


def trade_timeline(story: Story) -> list[Json]:
    """Everything about a trade: `at` (UTC), `kind`, `order_key` (None: the trade as a whole) and `sentence`."""
    parts = story.parts
    lines = [line for order in (story.entry, *story.sells) for line in _of_order(order, parts["gates"])]
    lines += _of_attempts(parts["attempts"]) + _of_fills(parts["fills"])
    for row in parts["exits"]:
        if row["due_at"] is not None:
            bid = f" at {level(row['trigger_price'])}" if row["trigger_price"] is not None else ""
            lines.append(_line(row["due_at"], "due", row["order_key"], f"{row['reason']} is due{bid}"))
        net = f", {percent(row['achieved_net'])} after fees" if row["achieved_net"] is not None else ""
        sold = f"sold {money(row['size'])} at {level(row['average_price'])} by {row['reason']}{net}"
        lines.append(_line(row["at"], "exit", row["order_key"], sold))
    for row in parts["stop_changes"]:
        note = f" ({shown(row['note'])})" if row["note"] else ""
        sentence = f"stops moved by {shown(row['given_by'])}{note}: {shown(row['sentence'])}"
        lines.append(_line(row["at"], "stops", None, sentence))
    for row in parts["promises"]:
        note = f" ({shown(row['note'])})" if row["note"] else ""
        sentence = f"{row['kind']} by {shown(row['given_by'])}{note} accepted"
        lines.append(_line(row["accepted_at"], "command", None, sentence))
    lines += _of_incidents(parts["incidents"])
    trade = story.trade
    if trade is not None:
        for name, kind, sentence in (
            ("opened_at", "trade", "the trade opens with its first fill"),
            ("protected_at", "trade", "its exit rules are armed"),
            ("watched_at", "trade", "its price is watched"),
            ("closed_at", "trade", "the trade is closed"),
        ):
            if trade[name] is not None:
                lines.append(_line(trade[name], kind, None, sentence))
    return _sorted(lines)


def order_timeline(order: Row, parts: Mapping[str, Sequence[Row]]) -> list[Json]:
    """The same of one order; `parts` has its gates, attempts, fills, commands and incidents."""
    key = order["order_key"]
    lines = _of_order(order, [{**row, "order_key": key} for row in parts["gates"]])
    lines += _of_attempts([{**row, "order_key": key} for row in parts["attempts"]])
    lines += _of_fills([{**row, "order_key": key} for row in parts["fills"]])
    for row in parts["commands"]:
        note = f" ({shown(row['note'])})" if row["note"] else ""
        lines.append(_line(row["at"], "command", key, f"{row['kind']} by {shown(row['given_by'])}{note}"))
    lines += _of_incidents(parts["incidents"])
    return _sorted(lines)


def _of_order(order: Row, gates: Sequence[Row]) -> list[Json]:
    key, what = order["order_key"], f"{order['side']} {shown(order['symbol'])} {order['order_type']}"
    why = order["exit_reason"] or order["trigger"]
    lines = [_line(order["received_at"], "order", key, f"{what} {short(key)} by {shown(why)}")]
    ours = [row for row in gates if row["order_key"] == key]
    if order["gate"]:
        at = ours[-1]["at"] if ours else order["received_at"]
        reason = f": {shown(order['gate_sentence'])}" if order["gate_sentence"] else ""
        lines.append(_line(at, "gate", key, f"refused by {order['gate']}{reason}"))
    elif ours:
        count = sum(bool(row["passed"]) for row in ours)
        lines.append(_line(ours[-1]["at"], "gate", key, f"passed {count} gate{'' if count == 1 else 's'}"))
    if order["finished_at"] is not None:
        known = f", known from {order['status_source']}" if order["status_source"] else ""
        lines.append(_line(order["finished_at"], "end", key, f"{order['side']} {short(key)} {order['state']}{known}"))
    return lines


def _of_attempts(rows: Iterable[Row]) -> list[Json]:
    lines = []
    for row in rows:
        name = f"attempt {row['number']} of {short(row['order_key'])}"
        limit = f" at {money(row['limit_price'])}" if row["limit_price"] is not None else ""
        size = f" {money(row['size'])}" if row["size"] is not None else ""
        lines.append(_line(row["prepared_at"], "attempt", row["order_key"], f"{name}:{size}{limit} is sent"))
        if row["acknowledged_at"] is not None:
            known = f" as {shown(row['exchange_order_id'])}" if row["exchange_order_id"] else ""
            lines.append(_line(row["acknowledged_at"], "attempt", row["order_key"], f"{name}: acknowledged{known}"))
        if row["final_at"] is not None:
            text = f": {shown(row['refusal_text'])}" if row["refusal_text"] else ""
            refused = f" ({shown(row['refusal'])}{text})" if row["refusal"] else ""
            known = f", known from {row['status_source']}" if row["status_source"] else ""
            sentence = f"{name}: {row['status']}{refused}{known}"
            lines.append(_line(row["final_at"], "attempt", row["order_key"], sentence))
    return lines


def _of_fills(rows: Iterable[Row]) -> list[Json]:
    return [
        _line(
            row["at"],
            "fill",
            row["order_key"],
            f"{'bought' if row['side'] == 'BUY' else 'sold'} {money(row['size'])} at {money(row['price'])}, fees "
            f"{money(row['quote_fees'])}, by {row['ingest_via']}",
        )
        for row in rows
    ]


def _of_incidents(rows: Iterable[Row]) -> list[Json]:
    return [
        _line(row["at"], "incident", None, f"{row['severity']} {row['kind']}: {shown(row['sentence'])}") for row in rows
    ]


def _line(at: datetime | None, kind: str, key: str | None, sentence: str) -> Json:
    return {"at": at, "kind": kind, "order_key": key, "sentence": sentence}


_ORDER = ("order", "gate", "command", "attempt", "due", "fill", "end", "trade", "stops", "exit", "incident")


def _sorted(lines: list[Json]) -> list[Json]:
    """Oldest first; events of the same moment in the order in which they follow each other."""
    known = [line for line in lines if line["at"] is not None]
    return sorted(known, key=lambda line: (line["at"], _ORDER.index(line["kind"])))
