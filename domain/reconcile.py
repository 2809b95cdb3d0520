"""Reconcile: differences between our journal and the exchange's records, and what to do about them (INGEST-3).

`compare` is the one place that decides, a pure function of the two views; nothing is read or written here. Its rules:
an order missing from a list does not count as ended: it is looked up, and its end in the order history counts once the
trade history adds up to it (`resolve`). Reports go through `domain.orders.merge`, so known totals are never undone.
Contradictory data (another side, negative sizes, an unknown product) becomes an incident; nothing is guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from domain.differences import Difference, Execution, Finding, Journal, Known, Records, Remedy, Seen
from domain.market import currencies
from domain.messages import StatusSource
from domain.money import ZERO
from domain.orders import AttemptStatus, merge, rounding

__all__ = ["compare", "execution_problem", "resolve"]


_JUST_NOW = timedelta(seconds=5)
"""An order acknowledged this shortly before the lists were requested may be missing from them."""

_CONFIRM_PATIENCE = timedelta(minutes=5)
"""How long the trade history may lag behind the order history."""


def execution_problem(item: Execution) -> tuple[Difference, str] | None:
    """Why an execution can't be booked as it is, or None."""
    pair = currencies(item.symbol)
    if pair is None:
        return Difference.UNKNOWN_PRODUCT, f"{item.symbol} is not a product of a base and a quote currency"
    if item.size <= 0 or item.price <= 0:
        return Difference.BAD_FILL, f"size {item.size} and price {item.price} must be above zero"
    if item.fee_currency not in pair:
        return Difference.FEE_IN_OTHER_CURRENCY, f"its fee is in {item.fee_currency}, neither {pair[0]} nor {pair[1]}"
    return None


# --- orders ----------------------------------------------------------------------------------------------------------


def compare(journal: Journal, records: Records) -> list[Finding]:
    """Every difference between the two views, orders by time, then executions.

    Matches are not listed.
    """
    by_client: dict[str, Known] = {item.client_order_id: item for item in journal.attempts}
    by_exchange: dict[str, Known] = {
        item.exchange_order_id: item for item in journal.attempts if item.exchange_order_id is not None
    }
    executions: dict[str, list[Execution]] = defaultdict(list)
    for execution in records.executions:
        executions[execution.exchange_order_id].append(execution)
    findings: list[Finding] = []
    met: set[str] = set()
    for seen in sorted(records.orders, key=lambda item: (item.at is None, item.at, item.exchange_order_id)):
        known = _match(seen, by_client, by_exchange)
        if known is not None:
            met.add(known.client_order_id)
        problem = _problem_of(seen, known, records.products)
        if problem is not None:
            findings.append(problem)
            if problem.difference is not Difference.FEE_IN_OTHER_CURRENCY:
                continue
        finding = _of_pair(seen, known, executions.get(seen.exchange_order_id, []), records.asked_at)
        if finding is not None:
            findings.append(finding)
    findings += [
        _unlisted(known, records.asked_at)
        for known in journal.attempts
        if known.client_order_id not in met and not known.report.final
    ]
    listed = {seen.exchange_order_id: seen for seen in records.orders}
    findings += _of_executions(executions, listed, by_exchange, journal, records.products)
    return findings


def _match(seen: Seen, by_client: Mapping[str, Known], by_exchange: Mapping[str, Known]) -> Known | None:
    """By our id if it is the same order, else by the exchange's id: an external order may carry one of our ids."""
    known = by_client.get(seen.client_order_id) if seen.client_order_id else None
    if known is not None and known.exchange_order_id in (None, seen.exchange_order_id):
        return known
    return by_exchange.get(seen.exchange_order_id)


def _problem_of(seen: Seen, known: Known | None, products: Collection[str] | None) -> Finding | None:
    """Why an order's report is unusable or needs attention."""

    def finding_of(difference: Difference, sentence: str, *, critical: bool = False) -> Finding:
        return Finding(
            difference, Remedy.INCIDENT, seen.exchange_order_id, seen.symbol, sentence, seen, known, critical=critical
        )

    name = f"order {seen.exchange_order_id}"
    if known is not None and seen.side is not known.side:
        return finding_of(
            Difference.CHANGED_SIDE,
            f"{name} was a {known.side} and is now reported as a {seen.side}: nothing of it is booked until a person "
            f"has checked it",
            critical=True,
        )
    if known is not None and seen.symbol != known.symbol:
        return finding_of(
            Difference.CHANGED_SYMBOL,
            f"{name} was of {known.symbol} and is now reported as {seen.symbol}: nothing of it is booked until a "
            f"person has checked it",
            critical=True,
        )
    if currencies(seen.symbol) is None or (known is None and products is not None and seen.symbol not in products):
        return finding_of(
            Difference.UNKNOWN_PRODUCT, f"{name} is of {seen.symbol}, a product that the exchange does not list"
        )
    totals = seen.report.totals
    if totals.size < 0 or totals.value < 0:
        return finding_of(
            Difference.BAD_FILL,
            f"{name} is reported to have traded {totals.size} for {totals.value}: sizes can't be negative",
            critical=True,
        )
    if seen.other_fees:
        fees = ", ".join(f"{amount} {currency}" for currency, amount in sorted(seen.other_fees.items()))
        return finding_of(
            Difference.FEE_IN_OTHER_CURRENCY,
            f"{name} of {seen.symbol} was charged {fees}: no P&L includes that; it will appear in the balances",
        )
    return None


def _of_pair(seen: Seen, known: Known | None, executions: Sequence[Execution], asked_at: datetime) -> Finding | None:
    """Compares the exchange's view of one order with ours."""

    def finding_of(difference: Difference, action: Remedy, sentence: str, *, critical: bool = False) -> Finding:
        return Finding(
            difference, action, seen.exchange_order_id, seen.symbol, sentence, seen, known, critical=critical
        )

    name = f"order {seen.exchange_order_id} ({seen.side} {seen.symbol})"
    if known is None:
        return finding_of(
            Difference.UNKNOWN_TO_US,
            Remedy.ADOPT,
            f"{name} was not placed by us: {seen.report.status}, {seen.report.totals.size} filled",
        )
    if known.report.status is AttemptStatus.ABSENT:
        return finding_of(
            Difference.LATE_APPEARANCE,
            Remedy.RECORD,
            f"{name} was recorded as absent but is at the exchange: {seen.report.status}, "
            f"{seen.report.totals.size} filled",
        )
    merged = merge(known.report, seen.report, settled=known.settled)
    if merged == known.report and known.exchange_order_id is not None:
        if seen.report.final and seen.report.totals.size < known.report.totals.size:
            return finding_of(
                Difference.OVERBOOKED,
                Remedy.LOOK_UP,
                f"{name} ended with {seen.report.totals.size} at the exchange, the ledger has "
                f"{known.report.totals.size}",
            )
        if seen.report != known.report:
            return finding_of(Difference.AHEAD, Remedy.NONE, f"{name}: the ledger's report is newer than the list")
        return None
    if seen.report.final and not known.report.final:
        return _ended(seen, known, executions, asked_at, looked_up=False)
    return finding_of(
        Difference.BEHIND,
        Remedy.RECORD,
        f"{name}: the exchange says {seen.report.status}, {seen.report.totals.size} filled; "
        f"the ledger has {known.report.status}, {known.report.totals.size}",
    )


def _ended(
    seen: Seen, known: Known | None, executions: Sequence[Execution], asked_at: datetime, *, looked_up: bool
) -> Finding:
    """An end in the order history counts when the trade history adds up to it."""
    name = f"order {seen.exchange_order_id} ({seen.side} {seen.symbol})"
    distinct = _distinct(executions)
    shown = sum((item.size for item in distinct), ZERO)
    size = seen.report.totals.size

    def finding_of(
        difference: Difference, action: Remedy, sentence: str, *, source: StatusSource | None = None
    ) -> Finding:
        from_ = seen if source is None else replace(seen, source=source)
        return Finding(difference, action, seen.exchange_order_id, seen.symbol, sentence, from_, known)

    if abs(shown - size) <= rounding(item.price for item in distinct).size:
        source = StatusSource.TRADE_HISTORY if size > 0 else StatusSource.ORDER_HISTORY
        proof = f"its executions add up to {shown}" if size > 0 else "and the trade history shows none of it"
        return finding_of(
            Difference.ENDED,
            Remedy.RECORD,
            f"{name} ended {seen.report.status} with {size} by the order history; {proof}",
            source=source,
        )
    sentence = (
        f"{name} ended {seen.report.status} with {size} by the order history, but its executions add up to {shown}"
    )
    if not looked_up:
        return finding_of(Difference.UNCONFIRMED, Remedy.LOOK_UP, sentence)
    if seen.at is not None and asked_at - seen.at > _CONFIRM_PATIENCE:
        # The order history's own word, after all patience: booked, and a person hears of the contradiction.
        return Finding(
            Difference.UNCONFIRMED,
            Remedy.RECORD,
            seen.exchange_order_id,
            seen.symbol,
            f"{sentence} for more than {_CONFIRM_PATIENCE.total_seconds() / 60:.0f} minutes; the order history is used",
            seen,
            known,
            critical=True,
        )
    return finding_of(Difference.UNCONFIRMED, Remedy.WAIT, f"{sentence}: it is checked again")


def _unlisted(known: Known, asked_at: datetime) -> Finding:
    """An attempt that is open as far as we know, and that no list contains."""
    subject = known.exchange_order_id or known.client_order_id
    name = f"order {subject} ({known.side} {known.symbol})"
    if known.exchange_order_id is None:
        why = "it was sent and its outcome is being looked up" if known.sent else "it has not been sent"
        return Finding(Difference.IN_FLIGHT, Remedy.NONE, subject, known.symbol, f"{name}: {why}", None, known)
    if known.acknowledged_at is not None and known.acknowledged_at > asked_at - _JUST_NOW:
        return Finding(
            Difference.IN_FLIGHT,
            Remedy.NONE,
            subject,
            known.symbol,
            f"{name} was accepted only a moment ago",
            None,
            known,
        )
    return Finding(
        Difference.VANISHED,
        Remedy.LOOK_UP,
        subject,
        known.symbol,
        f"{name} is neither among the open orders nor in the list: it is looked up",
        None,
        known,
    )


def resolve(finding: Finding, seen: Seen | None, executions: Sequence[Execution], asked_at: datetime) -> Finding:
    """The result of a look-up by the exchange's id for a finding with the action LOOK_UP; never LOOK_UP again."""
    known = finding.known
    name = f"order {finding.subject} ({finding.symbol})"
    if seen is None:
        return Finding(
            Difference.UNKNOWN_TO_EXCHANGE,
            Remedy.INCIDENT,
            finding.subject,
            finding.symbol,
            f"{name} is in our books but unknown to the exchange: nothing is changed until a person has checked it"
            if known is not None
            else f"an execution names {name}, which the exchange does not know: it is not booked",
            None,
            known,
            critical=True,
        )
    problem = _problem_of(seen, known, None)
    if problem is not None and problem.difference is not Difference.FEE_IN_OTHER_CURRENCY:
        return problem
    if known is None:
        adopted = _of_pair(seen, None, executions, asked_at)
        return adopted if adopted is not None else finding
    if finding.difference is Difference.OVERBOOKED:
        if seen.report.final and seen.report.totals.size < known.report.totals.size:
            return Finding(
                Difference.OVERBOOKED,
                Remedy.INCIDENT,
                finding.subject,
                finding.symbol,
                f"{name} ended with {seen.report.totals.size} at the exchange, asked twice, and the ledger has "
                f"{known.report.totals.size}: nothing is undone until a person has checked it",
                seen,
                known,
                critical=True,
            )
    elif seen.report.final:
        return _ended(seen, known, executions, asked_at, looked_up=True)
    if merge(known.report, seen.report, settled=known.settled) != known.report:
        return Finding(
            Difference.STILL_OPEN,
            Remedy.RECORD,
            finding.subject,
            finding.symbol,
            f"{name} is open: {seen.report.status}, {seen.report.totals.size} filled",
            seen,
            known,
        )
    return Finding(
        Difference.STILL_OPEN, Remedy.NONE, finding.subject, finding.symbol, f"{name} is unchanged", seen, known
    )


# --- executions ------------------------------------------------------------------------------------------------------


def _distinct(executions: Iterable[Execution]) -> list[Execution]:
    """Once per trade id, however often a list shows it."""
    return list({item.trade_id: item for item in executions}.values())


def _of_executions(
    executions: Mapping[str, Sequence[Execution]],
    listed: Mapping[str, Seen],
    by_exchange: Mapping[str, Known],
    journal: Journal,
    products: Collection[str] | None,
) -> list[Finding]:
    findings: list[Finding] = []
    for identity, items in executions.items():
        known, seen = by_exchange.get(identity), listed.get(identity)
        problems = _execution_problems(identity, items, known, seen, products)
        findings += problems
        if problems:
            continue
        symbol = items[0].symbol
        if known is None and seen is None:
            findings.append(
                Finding(
                    Difference.FILL_WITHOUT_ORDER,
                    Remedy.LOOK_UP,
                    identity,
                    symbol,
                    f"{len(items)} executions name order {identity}, which neither the journal nor the list has",
                    trade_ids=tuple(item.trade_id for item in items),
                )
            )
        missing = tuple(item.trade_id for item in items if (identity, item.trade_id) not in journal.booked)
        if identity in journal.derived and missing:
            findings.append(
                Finding(
                    Difference.FILLS_TO_SETTLE,
                    Remedy.SETTLE,
                    identity,
                    symbol,
                    f"{len(missing)} executions of order {identity} replace derived fills",
                    seen,
                    known,
                    trade_ids=missing,
                )
            )
    return findings


def _execution_problems(
    identity: str,
    items: Sequence[Execution],
    known: Known | None,
    seen: Seen | None,
    products: Collection[str] | None,
) -> list[Finding]:
    """One incident for each execution of an order that can't be booked as it is."""
    side = known.side if known is not None else seen.side if seen is not None else None
    name_of = known.symbol if known is not None else seen.symbol if seen is not None else None
    found: list[Finding] = []
    for item in items:
        problem = execution_problem(item)
        if problem is None and known is None and products is not None and item.symbol not in products:
            problem = Difference.UNKNOWN_PRODUCT, f"the exchange does not list {item.symbol}"
        if problem is None and side is not None and item.side is not side:
            problem = Difference.CHANGED_SIDE, f"it is a {item.side} and its order is a {side}"
        if problem is None and name_of is not None and item.symbol != name_of:
            problem = Difference.CHANGED_SYMBOL, f"it is of {item.symbol} and its order is of {name_of}"
        if problem is not None:
            found.append(
                Finding(
                    problem[0],
                    Remedy.INCIDENT,
                    f"{identity}/{item.trade_id}",
                    item.symbol,
                    f"execution {item.trade_id} of order {identity} can't be booked: {problem[1]}",
                    seen,
                    known,
                    critical=True,
                    trade_ids=(item.trade_id,),
                )
            )
    return found
