"""The audit after a run: our books compared with the exchange's own, line by line. Pure: evidence in, a table out.

Every row has what it compared and the wrong subjects; one wrong subject fails the run. Rows without a promise
(incidents, gates that refused) are for information.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import orjson

from domain.ids import exit_workflow_id, external_workflow_id, order_workflow_id
from domain.messages import OrderIntent
from domain.orders import OrderRole
from domain.sharding import shard_of
from tests.chaos.harness_evidence import Evidence
from tests.chaos.harness_protection import (
    PlanNote,
    Position,
    Span,
    covered,
    gaps_between,
    length,
    percentile,
    spans_of,
    split_by_outages,
    stretches,
)
from tests.chaos.harness_recorder import true_time

__all__ = ["Audit", "AuditRow", "audit", "merged"]

ZERO = Decimal(0)
_SHOWN = 3
_LONG_SHOWN = 3
_LONGEST_P99 = 10.0
"""Seconds: the promise for the 99th percentile of unprotected time."""
_FEW = 100
_FEW_LONGEST = 30.0
"""With fewer positions the 99th percentile is the longest: then this is the limit."""
_TERMINATED_LONGEST = 75.0
"""The sweep runs each minute."""
_DIGITS = 60
_MARK_LOST = timedelta(seconds=1)
"""PostgreSQL flushes asynchronous commits at least three times a second."""
_AFTER_CUT = timedelta(seconds=5)
_OF_TRADES = ("OrderWorkflow", "ExitMonitorWorkflow", "ExternalOrderWorkflow")
_PROTECTIVE = ("STOP_LOSS", "OCO", "TAKE_PROFIT")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """`what` was compared, in `figures`; `wrong` names each subject that failed."""

    what: str
    figures: str
    wrong: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The word in the table's last column."""
        return f"{len(self.wrong)} WRONG" if self.wrong else "ok"


@dataclass(slots=True)
class Unprotected:
    """Seconds for which positions were unprotected: each one's longest stretch while at most one process was down or
    restarting (which the promise is about), while several were, and all stretches of its life together.
    """

    single: list[float] = field(default_factory=list)
    several: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)
    """Around a power cut: not judged, as nothing of ours can act meanwhile."""
    no_cut: str = ""
    by_hand: list[float] = field(default_factory=list)
    """Of trades whose monitor a person terminated, from then on: the sweep starts a new one within a minute."""
    by_cause: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    longest: list[tuple[float, str]] = field(default_factory=list)
    """Of single: the longest stretches, each with a sentence that says whose, when and why."""

    def add(self, other: Unprotected) -> None:
        """Add another run's positions."""
        self.single += other.single
        self.several += other.several
        self.total += other.total
        self.cut += other.cut
        self.by_hand += other.by_hand
        self.no_cut = self.no_cut or other.no_cut
        for cause, values in other.by_cause.items():
            self.by_cause[cause] += values
        self.longest += other.longest

    def rows(self) -> list[AuditRow]:
        """The promise, the effect of several faults at once, and the causes."""
        p99 = percentile(self.single, 99)
        wrong: tuple[str, ...] = ()
        if len(self.single) < _FEW:
            longest = max(self.single, default=0.0)
            wrong = (f"a stretch lasts {longest:.1f} s",) if longest > _FEW_LONGEST else ()
        elif p99 > _LONGEST_P99:
            wrong = (f"p99 is {p99:.1f} s, promised {_LONGEST_P99:g}",)
        causes = "; ".join(f"{cause} {_seconds(values)}" for cause, values in self.by_cause.items())
        return [
            AuditRow("seconds unprotected, one fault", f"{len(self.single)} positions: {_seconds(self.single)}", wrong),
            AuditRow("seconds unprotected, several", f"{len(self.several)} positions: {_seconds(self.several)}"),
            AuditRow("seconds unprotected, power cut", self._around_cuts()),
            AuditRow(
                "seconds unprotected, terminated by hand",
                f"{len(self.by_hand)} positions: {_seconds(self.by_hand)}",
                tuple(f"a stretch lasts {each:.1f} s" for each in self.by_hand if each > _TERMINATED_LONGEST),
            ),
            AuditRow("  in a position's whole life", f"{len(self.total)} positions: {_seconds(self.total)}"),
            AuditRow("  by cause", causes),
            *(AuditRow("    a long one", sentence) for _, sentence in sorted(self.longest, reverse=True)[:_LONG_SHOWN]),
        ]

    def _around_cuts(self) -> str:
        if self.cut:
            return f"{len(self.cut)} positions: {_seconds(self.cut)}"
        return f"not run: {self.no_cut}" if self.no_cut else "no cut"


def _seconds(values: Sequence[float]) -> str:
    p50, p99, longest = percentile(values, 50), percentile(values, 99), max(values, default=0.0)
    return f"p50 {p50:.2f} p99 {p99:.2f} max {longest:.2f}"


@dataclass(frozen=True, slots=True)
class Audit:
    """The table of a run, and its numbers for a table over many runs."""

    rows: tuple[AuditRow, ...]
    counts: Mapping[str, int]
    time: Unprotected

    @property
    def violations(self) -> list[str]:
        """All errors, a line each."""
        return [f"{row.what}: {subject}" for row in self.rows for subject in row.wrong]

    def text(self) -> str:
        """The table as text."""
        width = max(len(row.what) for row in self.rows)
        figures = max(len(row.figures) for row in self.rows)
        lines = [f"{row.what:<{width}}  {row.figures:<{figures}}  {row.verdict}" for row in self.rows]
        for row in self.rows:
            lines += [f"  {row.what}: {subject}" for subject in row.wrong[:_SHOWN]]
            if len(row.wrong) > _SHOWN:
                lines.append(f"  … and {len(row.wrong) - _SHOWN} more")
        return "\n".join(lines) + "\n"


def audit(evidence: Evidence) -> Audit:
    """Judge a run."""
    with localcontext() as context:
        context.prec = _DIGITS
        books = _Books(evidence)
        positions = _positions(books)
        time = _unprotected(books, positions)
        checks: tuple[Callable[[_Books], AuditRow], ...] = (
            _problems,
            _fills_once,
            _fill_sums,
            _sent_once,
            _sizes,
            _protected,
            _linkage,
            _balances,
            _fifo,
            _allocations,
            _positions_book,
            _entries,
            _workflows,
            _orphans,
            _incidents,
            _cuts,
        )
        rows = [check(books) for check in checks]
        rows.extend(time.rows())
        return Audit(
            rows=tuple(rows),
            counts={
                "entries": len(evidence.intents),
                "trades": len(evidence.trades),
                "closed": sum(row["state"] == "CLOSED" for row in evidence.trades),
                "orders": len(evidence.exchange_orders),
                "fills": len(evidence.exchange_fills),
                "requests": len(evidence.journal),
                "incidents": len(evidence.incidents),
                "exits by the exchange": sum(
                    row["protection_role"] in _PROTECTIVE and row["filled_size"] > 0 for row in evidence.orders
                ),
                "exits by signal": sum(
                    row["exit_reason"] == "SIGNAL_EXIT" and row["filled_size"] > 0 for row in evidence.orders
                ),
                "sells by hand": sum(books.sold(intent) for intent in evidence.sells),
            },
            time=time,
        )


def merged(audits: Sequence[Audit]) -> Audit:
    """One table over many runs: each row's wrong subjects together, seconds over all positions."""
    time = Unprotected()
    for found in audits:
        time.add(found.time)
    rows = []
    for place, row in enumerate(audits[0].rows[: -len(audits[0].time.rows())]):
        wrong = tuple(subject for found in audits for subject in found.rows[place].wrong)
        rows.append(AuditRow(row.what, f"{len(audits)} runs", wrong))
    rows.extend(time.rows())
    counts: Counter[str] = Counter()
    for found in audits:
        counts.update(found.counts)
    return Audit(tuple(rows), counts, time)


class _Books:
    """The evidence, indexed."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.orders = {row["order_key"]: row for row in evidence.orders}
        self.attempts = {row["client_order_id"]: row for row in evidence.attempts}
        self.by_exchange_id = {row["exchange_order_id"]: row for row in evidence.attempts if row["exchange_order_id"]}
        self.exchange_orders = {row["order_id"]: row for row in evidence.exchange_orders}
        self.trades = {row["entry_key"]: row for row in evidence.trades}
        self.fills_of: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in evidence.fills:
            self.fills_of[row["exchange_order_id"]].append(row)
        self.traded: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in evidence.exchange_fills:
            self.traded[row["order_id"]].append(row)

    def resting(self, entry_key: str | None = None) -> dict[str, Decimal]:
        """Protective orders that are open in both sides' books, by exchange id, with their unsold size."""
        found = {}
        for identity, order in self.exchange_orders.items():
            ours = self.orders.get(self.key_of(identity) or "")
            if ours is None or ours["finished"] or ours["protection_role"] not in _PROTECTIVE:
                continue
            if order["status"] == "OPEN" and entry_key in (None, ours["entry_key"]):
                (terms,) = order["order_configuration"].values()
                found[identity] = Decimal(terms["base_size"]) - Decimal(order["filled_size"])
        return found

    def sold(self, intent: OrderIntent) -> bool:
        """Whether a sell has filled."""
        order = self.orders.get(intent.order_key)
        return order is not None and bool(order["filled_size"] > 0)

    def key_of(self, exchange_order_id: str) -> str | None:
        """Our order's key, by the journal."""
        row = self.by_exchange_id.get(exchange_order_id)
        return None if row is None else str(row["order_key"])


# --- rows -----------------------------------------------------------------------------------------------------------


def _problems(books: _Books) -> AuditRow:
    return AuditRow("the run went to its end", f"{len(books.evidence.intents)} entries", tuple(books.evidence.problems))


def _fills_once(books: _Books) -> AuditRow:
    """Each execution of the exchange is one row, with its trade id, size, price and fee; there is no other row."""
    ours: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    wrong = []
    for row in books.evidence.fills:
        if row["trade_id"] is None:
            wrong.append(f"a fill of order {row['exchange_order_id']} has no trade id ({row['origin']})")
        else:
            ours[row["exchange_order_id"], row["trade_id"]].append(row)
    for fill in books.evidence.exchange_fills:
        found = ours.pop((fill["order_id"], fill["trade_id"]), [])
        if len(found) != 1:
            wrong.append(f"trade {fill['trade_id']} of order {fill['order_id']} is recorded {len(found)} times")
        elif not _same_fill(found[0], fill):
            wrong.append(f"trade {fill['trade_id']} is recorded as {found[0]['size']} at {found[0]['price']}")
    wrong += [f"trade {trade} of order {order} is recorded, the exchange knows nothing of it" for order, trade in ours]
    figures = f"{len(books.evidence.exchange_fills)} at the exchange, {len(books.evidence.fills)} recorded"
    return AuditRow("fills recorded exactly once", figures, tuple(wrong))


def _same_fill(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    numbers = (Decimal(theirs["size"]), Decimal(theirs["price"]), Decimal(theirs["commission"]))
    same = (ours["size"], ours["price"], ours["quote_fees"]) == numbers
    return bool(same and (ours["side"], ours["symbol"]) == (theirs["side"], theirs["product_id"]))


def _fill_sums(books: _Books) -> AuditRow:
    """Per order: size, value and fees are the exchange's, in fills, attempt and trade record."""
    wrong = []
    for identity, traded in books.traded.items():
        size = sum((Decimal(fill["size"]) for fill in traded), ZERO)
        value = sum((Decimal(fill["size"]) * Decimal(fill["price"]) for fill in traded), ZERO)
        fees = sum((Decimal(fill["commission"]) for fill in traded), ZERO)
        rows = books.fills_of.get(identity, [])
        booked = (_sum(rows, "size"), _sum(rows, "value"), _sum(rows, "quote_fees"))
        if booked != (size, value, fees):
            wrong.append(f"order {identity}: fills say {booked}, the exchange {(size, value, fees)}")
        attempt = books.by_exchange_id.get(identity)
        if attempt is None:
            wrong.append(f"order {identity} has fills and no attempt")
        elif (attempt["filled_size"], attempt["filled_value"], attempt["quote_fees"]) != (size, value, fees):
            wrong.append(f"order {identity}: the attempt says {attempt['filled_size']} for {attempt['filled_value']}")
    for key, order in books.orders.items():
        own = [row for row in books.evidence.attempts if row["order_key"] == key]
        if order["filled_size"] != _sum(own, "filled_size"):
            wrong.append(f"order {key} says {order['filled_size']}, its attempts {_sum(own, 'filled_size')}")
    return AuditRow("sums by order", f"{len(books.traded)} filled orders", tuple(wrong))


def _sent_once(books: _Books) -> AuditRow:
    """One exchange order per client order id, one body per id, and nothing that the journal doesn't have."""
    evidence = books.evidence
    wrong = []
    unmarked = _unmarked(books)
    placed = Counter(row["client_order_id"] for row in evidence.exchange_orders if row["client_order_id"])
    wrong += [f"{name} is {count} orders at the exchange" for name, count in placed.items() if count > 1]
    bodies: dict[str, set[bytes]] = defaultdict(set)
    requests: Counter[str] = Counter()
    for entry in evidence.journal:
        name = str(entry["client_order_id"])
        requests[name] += 1
        body = {part: entry[part] for part in ("product_id", "side", "order_configuration")}
        bodies[name].add(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
    for name, found in bodies.items():
        if len(found) > 1:
            wrong.append(f"{name} was sent with {len(found)} different bodies")
        attempt = books.attempts.get(name)
        if attempt is None:
            wrong.append(f"{name} was sent and is in no journal of ours")
        elif requests[name] - unmarked[name] > attempt["sends"]:
            wrong.append(f"{name} arrived {requests[name]} times, our journal says {attempt['sends']}")
    again = sum(count - 1 for count in requests.values())
    figures = f"{len(evidence.journal)} requests, {again} repeats of the identical body"
    return AuditRow("no order sent twice", figures, tuple(wrong))


def _sizes(books: _Books) -> AuditRow:
    """No order has filled more than its size, and no trade has sold more than it had."""
    wrong = []
    for intent in books.evidence.intents:
        bought = sum(
            (
                Decimal(row["filled_size"])
                for row in books.evidence.exchange_orders
                if row["client_order_id"].startswith(intent.order_key)
            ),
            ZERO,
        )
        if intent.base_size is not None and bought > intent.base_size:
            wrong.append(f"entry {intent.order_key} bought {bought} of {intent.base_size}")
    for key, trade in books.trades.items():
        if trade["sold_size"] > trade["bought_size"]:
            wrong.append(f"trade {key} sold {trade['sold_size']} of {trade['bought_size']}")
    uncovered = [row for row in books.evidence.allocations if row["buy_fill"] is None]
    wrong += [f"{row['size']} {row['symbol']} were sold uncovered" for row in uncovered]
    return AuditRow("nothing bought or sold too much", f"{len(books.trades)} trades", tuple(wrong))


def _protected(books: _Books) -> AuditRow:
    """A trade is closed with nothing left, or open with a plan that is armed (or exiting) and a running monitor."""
    running = {item.workflow_id for item in books.evidence.workflows if item.status == "RUNNING"}
    plans = {row["entry_key"]: row for row in books.evidence.plans}
    wrong, kept, shielded = [], 0, 0
    for key, trade in books.trades.items():
        shielded += bool(books.resting(key))
        plan = plans.get(key)
        if trade["state"] == "CLOSED":
            if trade["remaining"] != 0:
                wrong.append(f"trade {key} is closed with {trade['remaining']} left")
            if plan is None or plan["state"] != "DISARMED":
                wrong.append(f"trade {key} is closed, its plan is {plan and plan['state']}")
            continue
        kept += 1
        if plan is None or plan["state"] == "DISARMED":
            wrong.append(f"trade {key} is open without an armed plan")
        elif plan["quantity"] != trade["remaining"]:
            wrong.append(f"trade {key}: its plan guards {plan['quantity']} of {trade['remaining']}")
        if exit_workflow_id(key) not in running:
            wrong.append(f"trade {key} is open without a monitor")
        if order_workflow_id(key) not in running:
            wrong.append(f"trade {key} is open without its entry's workflow")
    for key, order in books.orders.items():
        if order["role"] == "ENTRY" and order["filled_size"] > 0 and key not in books.trades:
            wrong.append(f"entry {key} has filled and is no trade")
    wrong += _shields(books)
    figures = f"{len(books.trades) - kept} closed, {kept} open and guarded, {shielded} at the exchange too"
    return AuditRow("positions protected or closed", figures, tuple(wrong))


def _shields(books: _Books) -> list[str]:
    """Trades with protection have it at the exchange, for all of their size, or an open incident says that it can't be;
    a closed trade has nothing there.
    """
    wanted = {intent.order_key for intent in books.evidence.intents if intent.protection is not None}
    excused = {
        row["subject"]
        for row in books.evidence.incidents
        if row["kind"] == "PROTECTION_FAILED" and row["resolved_at"] is None
    }
    wrong = []
    for key, trade in books.trades.items():
        resting = books.resting(key)
        if trade["state"] == "CLOSED":
            if resting:
                wrong.append(f"trade {key} is closed, and its protection rests at the exchange")
        elif resting and sum(resting.values()) != trade["remaining"]:
            wrong.append(f"trade {key}: at the exchange rest {sum(resting.values())} of {trade['remaining']}")
        elif key in wanted and not resting and key not in excused:
            wrong.append(f"trade {key} is open without its protection at the exchange")
    return wrong


def _linkage(books: _Books) -> AuditRow:
    """Each filled order that the system placed has its link, with exactly its decision."""
    links = {row["order_key"]: row for row in books.evidence.links}
    intents = {intent.order_key: intent for intent in books.evidence.intents}
    filled = {key for identity in books.traded if (key := books.key_of(identity)) is not None}
    own = [key for key in filled if books.orders[key]["role"] != "EXTERNAL"]
    wrong = []
    for key in own:
        link, order = links.get(key), books.orders[key]
        if link is None:
            wrong.append(f"order {key} ({order['role']}) has no link")
            continue
        entry = intents.get(order["entry_key"])
        if entry is not None:
            wrong += _wrong_link(link, order, entry, books.trades.get(order["entry_key"]))
    wrong += [f"external order {key} has a link" for key in links if books.orders[key]["role"] == "EXTERNAL"]
    figures = f"{len(own)} filled orders of ours, {100 * sum(key in links for key in own) / max(len(own), 1):.1f} %"
    return AuditRow("linkage", figures, tuple(wrong))


def _wrong_link(
    link: Mapping[str, Any], order: Mapping[str, Any], entry: OrderIntent, trade: Mapping[str, Any] | None
) -> list[str]:
    key, decision = order["order_key"], entry.linkage
    found = []
    if str(link["snapshot_id"]) != decision.snapshot_id:
        found.append(f"order {key} is linked to snapshot {link['snapshot_id']}, not {decision.snapshot_id}")
    if link["entry_key"] != entry.order_key:
        found.append(f"order {key} is linked to trade {link['entry_key']}, not {entry.order_key}")
    if order["role"] == "ENTRY":
        if (link["trigger_type"], link["buy_score"]) != (decision.trigger, decision.buy_score):
            found.append(f"entry {key} is linked to {link['trigger_type']} with score {link['buy_score']}")
        if trade is not None and trade["state"] == "CLOSED" and link["exit_reason"] != trade["exit_reason"]:
            found.append(f"entry {key}: link says {link['exit_reason']}, trade {trade['exit_reason']}")
    elif link["exit_reason"] != order["exit_reason"]:
        found.append(f"exit {key}: link says {link['exit_reason']}, order {order['exit_reason']}")
    return found


def _balances(books: _Books) -> AuditRow:
    """The deposits plus the effect of the ledger's fills equal the exchange's balances, exactly, in each currency."""
    ours: dict[str, Decimal] = {name: row["deposited"] for name, row in books.evidence.balances.items()}
    for fill in books.evidence.fills:
        base, _, quote = fill["symbol"].partition("-")
        sign = 1 if fill["side"] == "BUY" else -1
        ours[base] = ours.get(base, ZERO) + sign * fill["size"] - fill["base_fees"]
        ours[quote] = ours.get(quote, ZERO) - sign * fill["value"] - fill["quote_fees"]
    theirs = {name: row["total"] for name, row in books.evidence.balances.items()}
    wrong = [
        f"{name}: ledger {ours.get(name, ZERO)}, exchange {theirs.get(name, ZERO)}"
        for name in sorted({*ours, *theirs})
        if ours.get(name, ZERO) != theirs.get(name, ZERO)
    ]
    protective: dict[str, Decimal] = defaultdict(Decimal)
    for identity, left in books.resting().items():
        protective[books.exchange_orders[identity]["product_id"].partition("-")[0]] += left
    held = [
        f"{name}: {row['hold']} still on hold, {protective[name]} of it for protection"
        for name, row in books.evidence.balances.items()
        if row["hold"] != protective[name]
    ]
    return AuditRow("balances by currency", f"{len(theirs)} currencies", tuple(wrong + held))


def _fifo(books: _Books) -> AuditRow:
    """Open lots less uncovered sells are the exchange's base balances."""
    wrong = []
    lots: dict[str, Decimal] = defaultdict(Decimal)
    for row in books.evidence.fills:
        if row["side"] == "BUY":
            lots[row["symbol"]] += row["lot_remaining"]
    for row in books.evidence.allocations:
        if row["buy_fill"] is None:
            lots[row["symbol"]] -= row["size"]
    for symbol, size in sorted(lots.items()):
        there = books.evidence.balances.get(symbol.partition("-")[0], {}).get("total", ZERO)
        if size != there:
            wrong.append(f"{symbol}: open lots {size}, exchange {there}")
    return AuditRow("FIFO remainders = base balances", f"{len(lots)} symbols", tuple(wrong))


def _allocations(books: _Books) -> AuditRow:
    """Each sell is matched completely, no lot is used beyond its size, oldest first."""
    fills = {row["id"]: row for row in books.evidence.fills}
    sold: dict[int, Decimal] = defaultdict(Decimal)
    used: dict[int, Decimal] = defaultdict(Decimal)
    for row in books.evidence.allocations:
        sold[row["sell_fill"]] += row["size"]
        if row["buy_fill"] is not None:
            used[row["buy_fill"]] += row["size"]
    wrong = []
    for identity, fill in fills.items():
        if fill["side"] == "SELL" and sold[identity] != fill["size"]:
            wrong.append(f"sell {fill['trade_id']}: {sold[identity]} of {fill['size']} is matched")
        if fill["side"] == "BUY" and used[identity] + fill["lot_remaining"] != fill["size"] - fill["base_fees"]:
            wrong.append(f"buy {fill['trade_id']}: used {used[identity]}, left {fill['lot_remaining']}")
    for symbol in sorted({row["symbol"] for row in books.evidence.fills}):
        lots = [row for row in books.evidence.fills if row["symbol"] == symbol and row["side"] == "BUY"]
        lots.sort(key=lambda row: (row["at"], row["id"]))
        touched = [row["lot_remaining"] < row["size"] for row in lots]
        whole = [row["lot_remaining"] > 0 for row in lots]
        first_open = whole.index(True) if True in whole else len(lots)
        if any(touched[first_open + 1 :]):
            wrong.append(f"{symbol}: a younger lot was sold before an older one")
    return AuditRow("FIFO allocations", f"{len(books.evidence.allocations)} allocations", tuple(wrong))


def _positions_book(books: _Books) -> AuditRow:
    """Each trade holds its own orders' buys less their sells; with the unowned pool that is the balance."""
    wrong = []
    by_trade: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    unowned: dict[str, Decimal] = defaultdict(Decimal)
    for fill in books.evidence.fills:
        entry = books.orders[fill["order_key"]]["entry_key"] if fill["order_key"] in books.orders else None
        if entry is None:
            unowned[fill["symbol"]] += fill["size"] if fill["side"] == "BUY" else -fill["size"]
        else:
            by_trade[entry, fill["side"]].append(fill)
    held: dict[str, Decimal] = defaultdict(Decimal)
    for key, trade in books.trades.items():
        bought, sold = by_trade[key, "BUY"], by_trade[key, "SELL"]
        ours = (trade["bought_size"], trade["bought_value"], trade["sold_size"], trade["sold_value"])
        theirs = (_sum(bought, "size"), _sum(bought, "value"), _sum(sold, "size"), _sum(sold, "value"))
        if ours != theirs:
            wrong.append(f"trade {key}: book {ours}, fills {theirs}")
        held[trade["symbol"]] += trade["remaining"] + trade["dust_size"]
        unowned[trade["symbol"]] += trade["external_size"]
    for symbol in sorted({*held, *unowned}):
        there = books.evidence.balances.get(symbol.partition("-")[0], {}).get("total", ZERO)
        if held[symbol] + unowned[symbol] != there:
            wrong.append(f"{symbol}: trades {held[symbol]} + unowned {unowned[symbol]}, exchange {there}")
    figures = f"{len(books.trades)} trades, {len(held)} symbols"
    return AuditRow("position book", figures, tuple(wrong))


def _entries(books: _Books) -> AuditRow:
    """Every intent that was handed in has a decision, and every admitted one has ended."""
    wrong, gates = [], Counter[str]()
    for intent in (*books.evidence.intents, *books.evidence.sells):
        what = f"{intent.role.value.lower()} {intent.order_key}"
        order = books.orders.get(intent.order_key)
        if order is None:
            wrong.append(f"{what} was handed in and has no row")
            continue
        if order["gate"] and intent.role is OrderRole.ENTRY:
            gates[order["gate"]] += 1
        if not order["finished"] and order["state"] != "REJECTED":
            wrong.append(f"{what} is still {order['state']}")
    sold = sum(books.sold(intent) for intent in books.evidence.sells)
    states = Counter(order["state"] for order in books.orders.values() if order["role"] == "ENTRY")
    figures = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    refused = ", ".join(f"{count} by {gate}" for gate, count in sorted(gates.items()))
    by_hand = f"; {sold} of {len(books.evidence.sells)} sells by hand filled"
    figures = f"{figures}{' (' + refused + ')' if refused else ''}{by_hand}"
    return AuditRow("entries decided and ended", figures, tuple(wrong))


def _workflows(books: _Books) -> AuditRow:
    """Ended workflows don't run, open ones do, none failed, none is stuck in a workflow task."""
    wrong = []
    states = {item.workflow_id: item for item in books.evidence.workflows}
    open_trades = {key for key, trade in books.trades.items() if trade["state"] != "CLOSED"}
    mistakes = {key for _, key in books.evidence.terminated}
    for item in books.evidence.workflows:
        key = item.workflow_id.partition("-")[2]
        if item.status == "RUNNING":
            order = books.orders.get(key)
            if item.kind == "ExitMonitorWorkflow" and key not in open_trades:
                wrong.append(f"{item.workflow_id} guards a trade that is closed")
            elif item.kind == "OrderWorkflow" and order is None:
                wrong.append(f"{item.workflow_id} has no order")
            elif item.kind == "OrderWorkflow" and order is not None and order["finished"] and key not in open_trades:
                wrong.append(f"{item.workflow_id} runs, its order is {order['state']}")
            if item.stuck_task > 1:
                wrong.append(f"{item.workflow_id}: its workflow task is tried for the {item.stuck_task}th time")
        elif item.status == "TERMINATED" and key in mistakes and key not in open_trades:
            continue  # it was about to end, and there was nothing left to guard
        elif item.status not in ("COMPLETED", "CONTINUED_AS_NEW"):
            wrong.append(f"{item.workflow_id} is {item.status}")
    for key, order in books.orders.items():
        state = states.get(order_workflow_id(key))
        if not order["finished"] and order["state"] != "REJECTED" and (state is None or state.status != "RUNNING"):
            wrong.append(f"order {key} is {order['state']} without a workflow")
    kinds = Counter(item.status for item in books.evidence.workflows)
    return AuditRow("no workflow stuck", ", ".join(f"{n} {s.lower()}" for s, n in kinds.items()), tuple(wrong))


def _orphans(books: _Books) -> AuditRow:
    """`temporal workflow list` shows as running only workflows of open orders and trades, and the system's own."""
    open_trades = {key for key, trade in books.trades.items() if trade["state"] != "CLOSED"}
    at_work = {key for key, order in books.orders.items() if not order["finished"]}
    wanted = {order_workflow_id(key) for key in open_trades | at_work} | {exit_workflow_id(key) for key in open_trades}
    wanted |= {external_workflow_id(key) for key in at_work}
    running = books.evidence.running
    wrong = [
        f"{item.workflow_id} runs and belongs to no open order or trade"
        for item in running
        if item.kind in _OF_TRADES and item.workflow_id not in wanted
    ]
    kinds = Counter(item.kind.removesuffix("Workflow") for item in running)
    figures = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
    figures += f" for {len(open_trades)} open trades"
    return AuditRow("running workflows, no orphan", figures, tuple(wrong))


def _incidents(books: _Books) -> AuditRow:
    kinds = Counter(row["kind"] for row in books.evidence.incidents)
    return AuditRow("incidents", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none")


def _cuts(books: _Books) -> AuditRow:
    cuts = [(until - since).total_seconds() for since, until in books.evidence.cuts]
    if cuts:
        back = ", ".join(f"{seconds:.1f} s" for seconds in cuts)
        return AuditRow("power cuts", f"all up again {back} later; {sum(_unmarked(books).values())} sends too young")
    return AuditRow("power cuts", f"not run: {books.evidence.no_cut}" if books.evidence.no_cut else "none")


def _unmarked(books: _Books) -> Counter[str]:
    """Arrivals whose mark a power cut, or a kill of PostgreSQL, may have lost, by client order id.

    An attempt's row is flushed before anything is sent; only the mark that it was sent is not, as the identical body
    may be sent again under its id. Up to 0.6 s of unflushed commits are lost when PostgreSQL is killed.
    """
    evidence = books.evidence
    lost = [*evidence.cuts, *evidence.database_kills]
    found: Counter[str] = Counter()
    for entry in evidence.journal if lost else ():
        at = true_time(datetime.fromisoformat(entry["time"]), evidence.skews)
        if any(since - _MARK_LOST <= at <= until for since, until in lost):
            found[str(entry["client_order_id"])] += 1
    return found


# --- protection ------------------------------------------------------------------------------------------------------


def _positions(books: _Books) -> list[Position]:
    evidence = books.evidence
    found: dict[str, Position] = {}
    for intent in evidence.intents:
        found[intent.order_key] = Position(intent.order_key, intent.symbol, intent.rules.soft_stop)
    size: dict[str, Decimal] = defaultdict(Decimal)
    for fill in evidence.exchange_fills:
        key = books.key_of(fill["order_id"])
        if key in found:
            size[key] += Decimal(fill["size"])
            at = true_time(datetime.fromisoformat(fill["trade_time"]), evidence.skews)
            found[key].bought.append((at, size[key]))
    booked: dict[str, Decimal] = defaultdict(Decimal)
    for note in evidence.fill_notes:
        if note["order_key"] in found:
            booked[note["order_key"]] += note["size"]
            found[note["order_key"]].booked.append((note["at"], booked[note["order_key"]]))
    for note in evidence.plan_notes:
        if note["entry_key"] in found:
            plan = PlanNote(note["at"], note["state"], note["quantity"], note["entry_price"])
            found[note["entry_key"]].plan.append(plan)
            found[note["entry_key"]].end = note["at"] if note["state"] == "DISARMED" else None
    for order in evidence.exchange_orders:
        key = books.key_of(order["order_id"])
        trade = books.orders[key]["entry_key"] if key in books.orders else None
        if order["side"] == "SELL" and trade in found:
            begin = true_time(datetime.fromisoformat(order["created_time"]), evidence.skews)
            ended = books.by_exchange_id[order["order_id"]]["final_at"] or evidence.at
            found[trade].exits.append((begin, max(begin, ended)))
    return list(found.values())


def _unprotected(books: _Books, positions: Iterable[Position]) -> Unprotected:
    evidence = books.evidence
    prices: dict[str, list[tuple[datetime, Decimal]]] = defaultdict(list)
    for note in evidence.prices:
        prices[note.symbol].append((note.at, note.bid))
    held: dict[str, list[Span]] = defaultdict(list)
    for lease in evidence.lease_notes:
        if lease["name"].startswith("price-watcher/") and lease["expires_at"] > lease["at"]:
            held[lease["name"]].append((lease["at"], lease["expires_at"]))
    since = min((note.at for note in evidence.prices), default=evidence.at)
    unwatched = {name: gaps_between(spans, since, evidence.at) for name, spans in held.items()}
    time = Unprotected(no_cut=evidence.no_cut)
    for position in positions:
        gaps = unwatched.get(_watcher(position.symbol, len(held)), [])
        spans = spans_of(position, gaps, prices[position.symbol], evidence.at)
        if not spans:
            continue
        for cause, found in spans.items():
            time.by_cause[cause].append(length(found))
        whole = stretches(span for found in spans.values() for span in found)
        around = [span for span in whole if any(s < span[1] and e + _AFTER_CUT > span[0] for s, e in evidence.cuts)]
        if around:
            time.cut.append(max(length([span]) for span in around))
        rest = [span for span in whole if span not in around]
        hit = min((at for at, key in evidence.terminated if key == position.entry_key), default=None)
        after = [span for span in rest if hit is not None and span[1] > hit]
        if hit is not None:
            time.by_hand.append(max((length([span]) for span in after), default=0.0))
        single, several = split_by_outages([span for span in rest if span not in after], evidence.outages)
        time.single.append(max((length([span]) for span in single), default=0.0))
        if single:
            time.longest.append(_in_words(position, max(single, key=lambda span: span[1] - span[0]), spans))
        if several:
            time.several.append(max(length([span]) for span in several))
        time.total.append(length(whole))
    return time


def _in_words(position: Position, stretch: Span, spans: Mapping[str, list[Span]]) -> tuple[float, str]:
    """A stretch's seconds, and whose it is, its start and end, and its causes."""
    seconds = length([stretch])
    parts = {cause: length(covered(stretch, found)) for cause, found in spans.items()}
    why = ", ".join(f"{cause} {part:.1f} s" for cause, part in parts.items() if part)
    begin, end = (moment.strftime("%H:%M:%S.%f")[:-5] for moment in stretch)
    return seconds, f"{seconds:.1f} s of {position.entry_key} ({position.symbol}), {begin} to {end} UTC: {why}"


def _watcher(symbol: str, shards: int) -> str:
    return f"price-watcher/main/{shard_of(symbol, max(shards, 1))}"


def _sum(rows: Iterable[Mapping[str, Any]], column: str) -> Decimal:
    return sum((row[column] for row in rows), ZERO)
