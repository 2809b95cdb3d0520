"""Computes a report's changes to the ledger: from the state returned by `ledger_state` to rows for `ledger_write`.

Pure. The report is merged into its attempt, the increase becomes a fill, and the fill is booked in both books (position
per trade, FIFO per symbol), in the trade record, the linkage, the open-order row and the exit plan. The exchange's
facts are never refused: contradictions become an incident.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import orjson

from activities.ledger.closing import exit_row
from activities.ledger.lots import allocation_write
from activities.ledger.rows import (
    AttemptTold,
    FillTold,
    OrderTold,
    StateTold,
    TotalsRow,
    TradeTold,
    report_of,
    totals_of,
)
from activities.ledger.writes import IncidentWrite, Writes
from domain.incidents import IncidentKind
from domain.messages import OrderUpdate, RecordResult, StatusSource
from domain.money import ZERO, average, divide, plain
from domain.orders import (
    AttemptStatus,
    FillStep,
    OrderRole,
    OrderState,
    Report,
    Side,
    Totals,
    TradeState,
    fill_between,
    merge,
    move_trade,
    order_state,
    total,
)
from domain.protection import ProtectionRole, leg_of
from fifo.matching import FillRecord, Lot
from fifo.replay import replay

__all__ = ["Booking", "LedgerState", "book", "ledger_state_of"]

_OVERSOLD = IncidentKind.OVERSOLD
_NEW = 2**63 - 1
"""The id of the fill being recorded: above all others, so it comes last among fills of the same time."""


@dataclass(frozen=True, slots=True)
class StoredLot:
    """A lot as stored, and the size that sells after the new fill would give back to it (base)."""

    fill: FillRecord
    stored: Decimal
    freed: Decimal


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Everything that recording an order's report depends on, as of one moment.

    `sells` are those after the new fill, `lots` the oldest open ones; `cut`: there are more.
    """

    order: OrderTold
    attempts: Sequence[AttemptTold]
    trade: TradeTold | None
    sells: Sequence[FillRecord]
    lots: Sequence[StoredLot]
    cut: bool


@dataclass(frozen=True, slots=True)
class Booking:
    """The rows to write (none if the report is not new), and the answer without the trade.

    `next_cover` is how much the order may still sell (base; 0 for a buy), so how many lots its next report needs. None
    if no report is expected, or the amount is not known.
    """

    writes: Writes
    result: RecordResult
    next_cover: Decimal | None

    @property
    def oversold(self) -> bool:
        """Whether by this report its trade has sold more than it had."""
        return any(item["kind"] == _OVERSOLD for item in self.writes.get("incidents", ()))


def ledger_state_of(text: str) -> LedgerState:
    """The state that `ledger_state` told."""
    told: StateTold = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    sells = [_fill(row, Side.SELL) for row in told["sells"]]
    lots = [StoredLot(_fill(row, Side.BUY), row["left"], row["freed"]) for row in told["lots"]]
    return LedgerState(told["order"], told["attempts"], told["trade"], sells, lots, told["cut"])


def _fill(row: FillTold, side: Side) -> FillRecord:
    return FillRecord(
        fill_id=int(row["id"]),
        order_id=row["order"],
        side=side,
        size=row["size"],
        value=row["value"],
        quote_fees=row["quote_fees"],
        base_fees=row["base_fees"],
        at=datetime.fromisoformat(row["at"]),
    )


def book(account: str, state: LedgerState, update: OrderUpdate) -> Booking | None:
    """Merge a report into an order's state.

    None if the state has too few lots for it. Raises LookupError for an attempt that is not in the state.
    """
    attempt = next((row for row in state.attempts if row["number"] == update.attempt), None)
    if attempt is None:
        raise LookupError(f"no attempt {update.attempt} of order {state.order['order_key']}")
    return _Bookkeeper(account, state, update, attempt).book()


class _Bookkeeper:
    """Books one report; `writes` collects the rows."""

    def __init__(self, account: str, state: LedgerState, update: OrderUpdate, attempt: AttemptTold) -> None:
        self.account = account
        self.state = state
        self.order = state.order
        self.trade = state.trade
        self.update = update
        self.attempt = attempt
        self.before = report_of(attempt)
        news = Totals(update.filled_size, update.filled_value, update.quote_fees, update.base_fees)
        self.after = merge(self.before, Report(update.status, news), settled=attempt["settled"] or ZERO)
        self.reports = [self.after if row is attempt else report_of(row) for row in state.attempts]
        self.sums = total(report.totals for report in self.reports)
        self.writes: Writes = {}
        self.incidents: list[IncidentWrite] = []
        self.leg: tuple[str, str] | None = None

    @property
    def exchange_order_id(self) -> str:
        return str(self.attempt["exchange_order_id"] or self.update.exchange_order_id or "")

    @property
    def side(self) -> Side:
        return Side(self.order["side"])

    def book(self) -> Booking | None:
        order, update, before, after = self.order, self.update, self.before, self.after
        finished = bool(order["finished"])
        state = order_state(self.reports, finished=finished, now=OrderState(order["state"]))
        fill = fill_between(before.totals, after.totals)
        first = fill is not None and totals_of(order).size == 0 and self.sums.size > 0
        if after != before or (update.exchange_order_id and not self.attempt["exchange_order_id"]):
            self._report(state, fill)
        has_trade = self.trade is not None
        if fill is not None:
            if not self._fill(fill):
                return None
            if first and order["role"] != OrderRole.EXTERNAL:
                self.writes["link"] = {
                    "order_id": self.exchange_order_id,
                    "client_order_id": self.attempt["client_order_id"],
                }
            if order["protection_role"] is not None and order["role"] == OrderRole.EXIT:
                self._name_the_leg(ProtectionRole(order["protection_role"]))
            if order["entry_key"] is not None and self.side is Side.BUY:
                self._grow(fill)
                has_trade = True
            elif order["entry_key"] is not None:
                self._shrink(fill)
        entry_final = bool(self.trade and self.trade["entry_final"])
        if (
            has_trade
            and finished
            and not entry_final
            and order["role"] == OrderRole.ENTRY
            and all(report.final for report in self.reports)
        ):
            # An entry that had ended before it filled after all has its final size once all its attempts have ended.
            self.writes["entry_final"] = True
        if after != before:
            self._records(fill)
        finished = self._ended(fill)
        if self.incidents:
            self.writes["incidents"] = self.incidents
        return Booking(self.writes, self._result(state, fill, first=first, finished=finished), self._next_cover())

    def _report(self, state: OrderState, fill: FillStep | None) -> None:
        after, update = self.after, self.update
        self.writes["attempt"] = {
            "client_order_id": self.attempt["client_order_id"],
            "status": after.status.value,
            "final": after.final,
            **_amounts(after.totals),
            "status_source": update.source.value,
            "exchange_order_id": update.exchange_order_id,
            "at": update.at,
            "reason": update.reason or None,
        }
        self.writes["order"] = {
            "state": state.value,
            **_amounts(self.sums),
            "status_source": update.source.value,
            "filled_at": update.at if fill is not None else None,
        }

    def _fill(self, fill: FillStep) -> bool:
        """The fill's own row, the trade record, and the FIFO book; False if the state has too few lots."""
        update, totals = self.update, self.after.totals
        if fill.size <= 0:
            self._incident(
                IncidentKind.CORRECTED_TOTALS,
                "WARNING",
                f"the exchange corrected value or fees of order {self.exchange_order_id} without a fill: "
                f"value {fill.value}, fees {fill.quote_fees}",
            )
        self.writes["fill"] = {
            "fill_key": f"{self.account}/{self.exchange_order_id}/{totals.size}/{totals.value}/{totals.quote_fees}",
            "client_order_id": self.attempt["client_order_id"],
            "exchange_order_id": self.exchange_order_id,
            "ingest_via": _via(update.source),
            "size": fill.size,
            "price": divide(fill.value, fill.size) if fill.size else ZERO,
            "value": fill.value,
            "quote_fees": fill.quote_fees,
            "base_fees": fill.base_fees,
            "at": update.at,
            "lot_remaining": max(fill.size - fill.base_fees, ZERO) if self.side is Side.BUY else None,
        }
        self.writes["record"] = {
            "order_id": self.exchange_order_id,
            "client_order_id": self.attempt["client_order_id"],
            "order_time": update.at,
            "price": divide(totals.value, totals.size) if totals.size else ZERO,
            "size": totals.size,
            "fees": totals.quote_fees,
            "status": self.after.status.value,
            "ingest_via": _via(update.source),
        }
        return self._match(fill)

    def _match(self, fill: FillStep) -> bool:
        """The FIFO book: after a late fill, the sells after it are matched again."""
        record = FillRecord(
            fill_id=_NEW,
            order_id=self.exchange_order_id,
            side=self.side,
            size=fill.size,
            value=fill.value,
            quote_fees=fill.quote_fees,
            base_fees=fill.base_fees,
            at=self.update.at,
        )
        known = self.state
        sells = list(known.sells)
        lots = [Lot(lot.fill, lot.stored + lot.freed) for lot in known.lots]
        stored = {lot.fill.fill_id: lot.stored for lot in known.lots}
        refresh_buys: set[str] = set()
        if self.side is Side.BUY:
            brought = max(fill.size - fill.base_fees, ZERO)
            refresh_buys.add(record.order_id)
            if sells and brought > 0:
                lots.append(Lot(record, brought))
                lots.sort(key=lambda lot: (lot.fill.at, lot.fill.fill_id))
                stored[_NEW] = brought
        elif fill.size > 0:
            sells.insert(0, record)
        wanted = sum((sell.size + sell.base_fees for sell in sells), ZERO)
        if known.cut and wanted > sum((lot.remaining for lot in lots), ZERO):
            return False
        allocations, touched = replay(sells, lots)
        left = {lot.fill.fill_id: Decimal(plain(lot.remaining)) for lot in lots} | touched
        changed = {number: size for number, size in left.items() if size != stored[number]}
        if known.sells:
            self.writes["take_back"] = [sell.fill_id for sell in known.sells]
        if changed:
            self.writes["lots"] = [{"id": number, "remaining": size} for number, size in changed.items()]
        if allocations:
            self.writes["allocations"] = [allocation_write(item) for item in allocations]
        # A lot that was given back and taken again as it was has other sells' profit all the same.
        concerned = {lot.fill.fill_id for lot in known.lots if lot.freed} | set(touched)
        refresh_buys |= {lot.fill.order_id for lot in lots if lot.fill.fill_id in concerned}
        if refresh_buys:
            self.writes["refresh_buys"] = sorted(refresh_buys)
        if sells:
            self.writes["refresh_sells"] = sorted({sell.order_id for sell in sells})
        return True

    def _name_the_leg(self, resting: ProtectionRole) -> None:
        """A protective order has filled: its leg is its role and its exit reason, everywhere it is told."""
        totals = self.after.totals
        role, reason = leg_of(resting, self.order["limit_price"], totals.size, totals.value)
        self.leg = (role.value, reason.value)
        self.writes["leg"] = {"role": role.value, "reason": reason.value}

    def _grow(self, fill: FillStep) -> None:
        now = self.trade
        state = TradeState(now["state"]) if now else TradeState.OPENING
        # A correction of value or fees alone is no reason to protect a trade again.
        if state is not TradeState.CLOSING and fill.size > 0:
            state = move_trade(state, TradeState.PROTECTED)
        size = (now["bought_size"] if now else ZERO) + fill.size
        value = (now["bought_value"] if now else ZERO) + fill.value
        self.writes["grow"] = {
            "state": state.value,
            "size": fill.size,
            "value": fill.value,
            "quote_fees": fill.quote_fees,
            "base_fees": fill.base_fees,
            "at": self.update.at,
            "entry_price": divide(value, size) if size else ZERO,
        }

    def _shrink(self, fill: FillStep) -> None:
        held = self.trade["remaining"] if self.trade else ZERO
        surplus = fill.size + fill.base_fees - held
        size, value, fees, base_fees = fill.size, fill.value, fill.quote_fees, fill.base_fees
        if surplus > 0:
            # The exchange sold more than the trade has. The fact stands in fills and in FIFO; the position book takes
            # what it can and names the rest.
            kept = max(size - surplus, ZERO)
            value = divide(value * kept, size) if size else ZERO
            fees = divide(fees * kept, size) if size else ZERO
            size, base_fees = kept, ZERO
            self._incident(
                _OVERSOLD,
                "CRITICAL",
                f"order {self.order['order_key']} sold {surplus} more than trade {self.order['entry_key']} had",
                {"surplus": str(surplus), "exchange_order_id": self.exchange_order_id},
            )
        self.writes["shrink"] = {"size": size, "value": value, "quote_fees": fees, "base_fees": base_fees}

    def _records(self, fill: FillStep | None) -> None:
        """Update the status columns: the trade record's, and the open-order row, which exists while the order is
        open."""
        attempt, after = self.attempt, self.after
        if fill is None and after.totals.size > 0:
            self.writes["record_status"] = {"order_id": self.exchange_order_id, "status": after.status.value}
        if self.order["order_type"] == "MARKET" and not attempt["limit_price"]:
            return
        if after.final:
            self.writes["passive_gone"] = attempt["client_order_id"]
            return
        self.writes["passive"] = {
            "client_order_id": attempt["client_order_id"],
            "order_id": self.exchange_order_id,
            "price": attempt["limit_price"],
            "size": attempt["size"],
            "filled_size": after.totals.size,
            "status": after.status.value,
        }

    def _ended(self, fill: FillStep | None) -> bool:
        """Whether the order has ended with this report, or had before."""
        others_live = any(row["live"] for row in self.state.attempts if row is not self.attempt)
        if self.order["finished"]:
            if fill is not None:
                # What an exit had sold when it ended was told too small: what it achieved is told anew.
                self._exit()
            return True
        if self.after.status is not AttemptStatus.FILLED or others_live:
            return False
        # Filled to the end: nothing can follow, so the order ends in the transaction that learned it.
        self._finish()
        return True

    def _finish(self) -> None:
        self.writes["finish"] = {"state": OrderState.FILLED.value}
        if self.order["role"] == OrderRole.ENTRY:
            self.writes["entry_final"] = True
        self._exit()

    def _exit(self) -> None:
        entry_key, trade = self.order["entry_key"], self.trade
        if self.order["role"] == OrderRole.EXIT and entry_key and trade is not None and self.sums.size > 0:
            role, reason = self.leg or (self.order["protection_role"], self.order["exit_reason"])
            self.writes["exit"] = exit_row(
                entry_key=entry_key,
                totals=self.sums,
                reason=reason,
                protection_role=role,
                limit_price=self.order["limit_price"],
                trigger_price=self.order["trigger_price"],
                due_at=self.order["due_at"],
                trade={
                    "bought_size": trade["bought_size"],
                    "bought_value": trade["bought_value"],
                    "bought_quote_fees": trade["bought_quote_fees"],
                    "rules": orjson.loads(trade["rules"] or "null"),  # told for every exit
                },
            )

    def _incident(
        self, kind: IncidentKind, severity: str, sentence: str, details: Mapping[str, object] | None = None
    ) -> None:
        self.incidents.append({"kind": kind, "severity": severity, "sentence": sentence, "details": details or {}})

    def _next_cover(self) -> Decimal | None:
        size: Decimal | None = self.attempt["size"]
        if self.after.final or self.order["finished"]:
            return None
        if self.side is Side.BUY:
            return ZERO
        return None if size is None else max(size - self.after.totals.size, ZERO)

    def _result(self, state: OrderState, fill: FillStep | None, *, first: bool, finished: bool) -> RecordResult:
        trade = self.trade
        return RecordResult(
            attempt=self.update.attempt,
            attempt_status=self.after.status,
            state=state,
            filled_size=self.sums.size,
            filled_value=self.sums.value,
            fees=self.sums.quote_fees,
            average_price=average(self.sums.value, self.sums.size),
            new_fill=fill is not None,
            first_fill=first,
            trade_remaining=trade["remaining"] if trade else None,
            trade_state=TradeState(trade["state"]) if trade else None,
            entry_final=trade["entry_final"] if trade else None,
            finished=finished,
        )


def _amounts(totals: Totals) -> TotalsRow:
    return {
        "filled_size": totals.size,
        "filled_value": totals.value,
        "quote_fees": totals.quote_fees,
        "base_fees": totals.base_fees,
    }


def _via(source: StatusSource) -> str:
    return "websocket" if source is StatusSource.WEBSOCKET else "rest"
