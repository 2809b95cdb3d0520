"""Why a trade was entered or not, why it was exited, and where its result comes from: one wording for the command
line, the API and the page.

Sentences come in sections (`about`, `title`, `sentences`); numbers come beside them, exact, for tables. Everything is
read from the ledger, so it is the same after a restart, and without Temporal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from domain.exits import ExitRules
from domain.money import EXACT, ZERO, average, divide, plain, round_half_even
from domain.orders import EntryPoint, OrderRole, OrderState, Side
from domain.text import shown
from domain.wording import cash, level, money, percent, rules_sentence, short, tidy
from web.views import Json, Ledger, Row
from web.views.strategy import decision_of
from web.views.trades import Story

__all__ = ["TradeReasons", "order_sections", "read_reasons", "result_of", "trade_sections", "unit_of_risk"]

_LOTS = """
SELECT b.order_key AS buy_order_key, s.order_key AS sell_order_key, a.buy_order_id, a.sell_order_id, a.size,
       a.buy_price, a.sell_price, a.size * a.buy_fee_per_unit AS buy_fees, a.size * a.sell_fee_per_unit AS sell_fees,
       a.cost_basis, a.net_proceeds, a.pnl, a.buy_time, a.sell_time
  FROM fifo_allocations a JOIN fills s ON s.id = a.sell_fill LEFT JOIN fills b ON b.id = a.buy_fill
 WHERE s.order_key IN (SELECT order_key FROM orders WHERE entry_key = $1 AND order_key <> $1)
 ORDER BY a.sell_time, a.id
"""
_PLACES = Decimal("1e-18")

Sections = list[Json]


@dataclass(frozen=True, slots=True)
class TradeReasons:
    """What `trade_sections` needs beside a trade's record."""

    decided: Row | None
    """The matrix's row behind the entry: at, action, reason; None: no strategy decided it, or it is no longer kept."""
    lots: list[Row]
    """FIFO allocations of the trade's sells, in the order of the sells: sizes in base, prices in quote per base, money
    in quote currency."""


async def read_reasons(ledger: Ledger, story: Story) -> TradeReasons:
    """The strategy's decision behind a trade, and the lots that its sells closed."""
    decided = await decision_of(ledger, story.entry["snapshot_id"], story.entry["symbol"])
    return TradeReasons(decided, await ledger.fetch(_LOTS, story.key))


# --- the result ------------------------------------------------------------------------------------------------------


def unit_of_risk(entry_price: Decimal | None, size: Decimal, first_hard_stop: Decimal | None) -> Decimal | None:
    """What a trade would lose between its entry and its first hard stop, before fees, in quote currency.

    Args:
        entry_price: quote per base.
        size: bought, in base.
        first_hard_stop: the loss at which it was to sell when it was entered, a fraction of the entry price.
    """
    if entry_price is None or first_hard_stop is None or size <= 0:
        return None
    return tidy(entry_price * size * first_hard_stop)


def result_of(story: Story) -> Json | None:
    """Where a trade's P&L comes from, in quote currency; None while nothing has been sold.

    `price_gain` + `slippage` - `entry_fees` - `exit_fees` = `pnl`, exactly: the way from the entry price to the prices
    that made the exits due, what selling brought beyond these, and the fees of both sides. `entry_fees` is the share of
    what was sold. `unit_of_risk`: see there; `result_in_risk`: `pnl` to it.
    """
    trade = story.trade
    if trade is None or trade["sold_size"] <= 0:
        return None
    bought, sold = trade["bought_size"] - trade["bought_base_fees"], trade["sold_size"] + trade["sold_base_fees"]
    share = Decimal(1) if sold >= bought else divide(sold, bought)
    entry_fees = round_half_even(EXACT.multiply(trade["bought_quote_fees"], share), _PLACES)
    exit_fees = trade["sold_quote_fees"]
    slippage = _slippage(story.parts["exits"])
    risk = unit_of_risk(average(trade["bought_value"], trade["bought_size"]), trade["bought_size"], _first_stop(story))
    return {
        "currency": _currency(trade["symbol"]),
        "sold_size": tidy(trade["sold_size"]),
        "price_gain": trade["pnl"] - slippage + entry_fees + exit_fees,
        "slippage": slippage,
        "entry_fees": entry_fees,
        "exit_fees": exit_fees,
        "pnl": trade["pnl"],
        "unit_of_risk": risk,
        "result_in_risk": tidy(divide(trade["pnl"], risk)) if risk else None,
    }


def _first_stop(story: Story) -> Decimal | None:
    """The hard stop with which a trade was entered, a fraction of the entry price; None if it is not kept."""
    changes = story.parts["stop_changes"]
    rules = story.entry["intent"].get("rules") or (changes[0]["rules_before"] if changes else None)
    if rules is None and story.trade is not None:
        rules = story.trade["rules"]
    given = (rules or {}).get("hard_stop")
    return None if given is None else Decimal(str(given))


def _slippage(exits: Sequence[Row]) -> Decimal:
    parts = (EXACT.multiply(row["slippage"], row["size"]) for row in exits if row["slippage"] is not None)
    return round_half_even(sum(parts, ZERO), _PLACES)


# --- in words --------------------------------------------------------------------------------------------------------


def trade_sections(story: Story, reasons: TradeReasons) -> Sections:
    """Why a trade was entered or not, why it is held, why it was exited, and where its result comes from."""
    if story.trade is None and story.entry["side"] == Side.SELL:
        # A sell of coins that no trade owns.
        return order_sections(story.entry, story.parts["gates"], reasons.decided, None)
    found = []
    if story.trade is None:
        found.append(_section("not_bought", "Why it did not buy", _not_bought(story, reasons)))
    else:
        found.append(_section("bought", "Why it bought", _bought(story, reasons)))
        if story.trade["state"] != "CLOSED":
            found.append(_section("held", "Why it holds", _held(story)))
        if story.parts["exits"] or story.trade["state"] == "CLOSED":
            found.append(_section("sold", "Why it sold", _sold(story)))
        if (result := result_of(story)) is not None:
            found.append(_section("result", "Where the result comes from", _result(story, result, reasons.lots)))
    return found


def order_sections(order: Row, gates: Sequence[Row], decided: Row | None, leaving: Row | None) -> Sections:
    """Why one order was placed or not, and how it ended.

    Args:
        order: its row, with `refusal_text`.
        gates: those that ran, in their order, with `passed`.
        decided: the matrix's row behind it, as in `TradeReasons`.
        leaving: of an exit: its row of `trade_exits`.
    """
    passed = not order["gate"]
    kind = "placed" if passed else "refused"
    title = "Why it was placed" if passed else "Why it was not placed"
    sentences = [] if passed else [_refused(order)]
    sentences += [_asked(order, decided), *_gates(order, gates)]
    found = [_section(kind, title, sentences)]
    if leaving is not None:
        found.append(_section("sold", "Why it sold", [_exit_sentence(leaving, _currency(order["symbol"]))]))
    elif passed:
        found.append(_section("ended", "How it stands", [_state(order)]))
    return found


def _section(about: str, title: str, sentences: Sequence[str]) -> Json:
    return {"about": about, "title": title, "sentences": [sentence for sentence in sentences if sentence]}


def _bought(story: Story, reasons: TradeReasons) -> list[str]:
    entry, trade = story.entry, story.trade
    gates = [row for row in story.parts["gates"] if row["order_key"] == story.key]
    found = [_asked(entry, reasons.decided), _indicators(entry), *_gates(entry, gates)]
    if trade is not None and trade["bought_size"] > 0:
        currency = _currency(trade["symbol"])
        price = level(average(trade["bought_value"], trade["bought_size"]))
        fees = f", fees {cash(trade['bought_quote_fees'])} {currency}"
        base = trade["bought_base_fees"]
        fees += f" and {money(base)} of what was bought" if base else ""
        found.append(f"It bought {money(trade['bought_size'])} at {price}{fees}.")
    return found


def _not_bought(story: Story, reasons: TradeReasons) -> list[str]:
    entry = story.entry
    gates = [row for row in story.parts["gates"] if row["order_key"] == story.key]
    first = _refused(entry) if entry["gate"] else _state(entry)
    return [first, _asked(entry, reasons.decided), _indicators(entry), *_gates(entry, gates)]


def _refused(order: Row) -> str:
    return f"It was refused by {order['gate']}: {order['gate_sentence'] or 'no reason is stored'}."


def _state(order: Row) -> str:
    """How an order that passed every gate stands or ended."""
    state, filled = order["state"], order["filled_size"]
    price = average(order["filled_value"], filled)
    so_far = f"filled {money(filled)} at {level(price)}, fees {cash(order['quote_fees'])} {_currency(order['symbol'])}"
    if order["refusal"] and not filled:
        text = f": {shown(order['refusal_text'])}" if order["refusal_text"] else ""
        return f"The exchange refused it ({shown(order['refusal'])}{text})."
    why = f": {shown(order['gate_sentence'])}" if order["gate_sentence"] else ""
    if not order["finished"]:
        if state == OrderState.UNKNOWN:
            return "It was sent, and its outcome is not known yet: the exchange is being asked."
        return f"It is {state}{f', {so_far}' if filled else ', nothing has filled yet'}{why}."
    return f"It ended {state}, {so_far if filled else 'nothing filled'}{why}."


def _asked(order: Row, decided: Row | None) -> str:
    """Who or what asked for an order."""
    intent: Json = order["intent"]
    by = f", requested by {shown(intent['asked_by'])}" if intent.get("asked_by") else ""
    if order["role"] == OrderRole.EXTERNAL:
        return "It was not placed by us: it was found at the exchange."
    if order["role"] == OrderRole.EXIT:
        due = f" of trade {short(order['entry_key'])}" if order["entry_key"] else ""
        at = f", made due by a bid of {level(Decimal(intent['trigger_price']))}" if intent.get("trigger_price") else ""
        role = f" ({order['protection_role']} at the exchange)" if order["protection_role"] else ""
        return f"It is the exit {order['exit_reason'] or order['trigger']}{role}{due}{at}{by}."
    if order["entry_point"] == EntryPoint.MARKET_MAKER:
        return "The market maker placed it as a quote."
    if order["entry_point"] == EntryPoint.MANUAL:
        return f"It was placed by hand{by}."
    named = {"buy score": order["buy_score"], "sell score": order["sell_score"]}
    scores = "".join(f", {name} {money(score)}" for name, score in named.items() if score is not None)
    source = f" ({shown(order['source'])})" if order["source"] != order["trigger"] else ""
    verb = "buy" if order["side"] == Side.BUY else "sell"
    reason = f": {shown(decided['reason'])}" if decided is not None and decided["reason"] else ""
    name, asked = f"{shown(order['trigger'])}{source}", f"{verb}{by}{scores}{reason}"
    return (
        f"The alert {name} asked to {asked}."
        if order["entry_point"] == EntryPoint.WEBHOOK
        else (f"{name} decided to {asked}.")
    )


def _indicators(order: Row) -> str:
    """The indicators that fired, with value and contribution, and those that didn't."""
    parts: dict[str, Json] = order["indicator_breakdown"] or {}
    fired = [_indicator(name, part) for name, part in sorted(parts.items()) if part.get("fired")]
    quiet = [shown(name) for name, part in sorted(parts.items()) if not part.get("fired")]
    found = [f"Fired: {', '.join(fired)}" if fired else "", f"not fired: {', '.join(quiet)}" if quiet else ""]
    sentence = "; ".join(part for part in found if part)
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def _indicator(name: str, part: Json) -> str:
    value = f" {shown(part['value'])}" if part.get("value") not in (None, "") else ""
    gives = f" (contributes {shown(part['contribution'])})" if part.get("contribution") not in (None, "") else ""
    return f"{shown(name)}{value}{gives}"


def _gates(order: Row, gates: Sequence[Row]) -> list[str]:
    passed = sum(bool(row["passed"]) for row in gates)
    if not gates:
        return []
    count = f"{passed} gate{'' if passed == 1 else 's'}"
    return [f"{count} passed before that one." if order["gate"] else f"It passed every gate ({passed})."]


def _held(story: Story) -> list[str]:
    trade = story.trade
    if trade is None:
        return []
    rules, entry = ExitRules.model_validate(trade["rules"]), average(trade["bought_value"], trade["bought_size"])
    sentence = rules_sentence(rules, entry)
    found = [f"{money(trade['remaining'])} are held: {sentence}."]
    if trade["stop"] is not None:
        found.append(f"Trailing is armed: highest bid {level(trade['peak'])}, stop {level(trade['stop'])}.")
    if trade["plan_state"] == "EXITING":
        found.append("An exit is at work.")
    moved = story.parts["stop_changes"]
    if moved:
        last = moved[-1]
        found.append(
            f"Stops were moved by {shown(last['given_by'])} at {shown(last['at'])}: {shown(last['sentence'])}."
        )
    return found


def _sold(story: Story) -> list[str]:
    trade = story.trade
    if trade is None:
        return []
    found = [_exit_sentence(row, _currency(trade["symbol"])) for row in story.parts["exits"]]
    if trade["external_size"] > 0:
        found.append(f"{money(trade['external_size'])} were taken by sells that were not ours.")
    if trade["dust_why"]:
        found.append(f"The rest was written off: {shown(trade['dust_why'])}.")
    if not found:
        found.append("It closed without an exit of ours.")
    return found


def _exit_sentence(row: Row, currency: str) -> str:
    """One exit: its reason and target, the bid that made it due, what it achieved, slippage and fees."""
    target = f", target {percent(row['target_fraction'])}" if row["target_fraction"] is not None else ""
    due = ""
    if row["trigger_price"] is not None:
        when = f" at {shown(row['due_at'])}" if row["due_at"] is not None else ""
        due = f" It was due at a price of {level(row['trigger_price'])}{when}."
    gain = ""
    if row["achieved_gross"] is not None:
        gain = f" Achieved {percent(row['achieved_gross'])} before fees, {percent(row['achieved_net'])} after fees."
    slipped = ""
    if row["slippage"] is not None:
        amount = row["slippage"] * row["size"]
        slipped = f" Slippage {cash(amount)} {currency} ({money(row['slippage'])} a unit)."
    attempts = f", {row['attempts']} attempt{'' if row['attempts'] == 1 else 's'}" if row["attempts"] else ""
    return (
        f"Sold {money(row['size'])} at {level(row['average_price'])} by {row['reason']}{target}{attempts}."
        f"{due}{gain}{slipped} Fees {cash(row['fees'])} {currency}."
    )


def _result(story: Story, result: Json, lots: Sequence[Row]) -> list[str]:
    currency = result["currency"]
    signed = {name: _signed(result[name]) for name in ("price_gain", "slippage")}
    sums = (
        f"P&L {cash(result['pnl'])} {currency} = {signed['price_gain']} from the entry price to the prices that made "
        f"the exits due, {signed['slippage']} slippage, -{cash(result['entry_fees'])} fees of the entry, "
        f"-{cash(result['exit_fees'])} fees of the exits."
    )
    found = [sums]
    if result["result_in_risk"] is not None:
        found.append(
            f"That is {plain(round(result['result_in_risk'], 2))} units of risk: one is "
            f"{cash(result['unit_of_risk'])} {currency}, from the entry to the first hard stop."
        )
    if lots:
        found.append(_of_lots(story, lots, currency))
    return found


def _of_lots(story: Story, lots: Sequence[Row], currency: str) -> str:
    """What the FIFO book says of the same sells: it matches the product's oldest lots, whosever they were."""
    total = sum((row["pnl"] for row in lots if row["pnl"] is not None), ZERO)
    others = sorted({short(row["buy_order_key"]) for row in lots if row["buy_order_key"] not in (None, story.key)})
    unmatched = any(row["buy_price"] is None for row in lots)
    text = f"By FIFO these sells closed {len(lots)} lot{'' if len(lots) == 1 else 's'}, P&L {cash(total)} {currency}"
    if others:
        text += f", some of them bought by other orders ({', '.join(others)})"
    return f"{text}{', and some of it has no lot' if unmatched else ''}."


def _signed(amount: Decimal) -> str:
    text = cash(amount)
    return text if text.startswith("-") else f"+{text}"


def _currency(symbol: str) -> str:
    return symbol.replace("_", "-").rpartition("-")[2]
