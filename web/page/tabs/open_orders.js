/** Open Orders: every order that has not ended: entries, exits, protection, quotes, and orders placed elsewhere. */

import { cancelOrder } from "../actions.js";
import { money, NONE, percent, price, quantity, size, words } from "../format.js";
import { html, useMemo } from "../html.js";
import { Age, Chips, OrderKey, Side, State, TradeKey, Workflow } from "../parts.js";
import { openOrder, route } from "../route.js";
import { mayAct, openOrders, session } from "../state.js";
import { number, Table } from "../table.js";

/** @typedef {import("../types.d.ts").OrderRow} OrderRow */
/** @typedef {import("../table.js").Column<OrderRow>} Column */

/** @type {Array<[string, string]>} */
export const KINDS = [
  ["entry", "Entries"],
  ["exit", "Exits"],
  ["protection", "Protection"],
  ["quote", "Quotes"],
  ["external", "External"],
];

/** @type {Array<[string, string]>} */
export const SIDES = [
  ["BUY", "Buys"],
  ["SELL", "Sells"],
];

/** @type {Record<string, string>} */
const PROTECTION = { TAKE_PROFIT: "TP", STOP_LOSS: "SL", OCO: "OCO", PRIMARY: "stop" };

/** What an order is for: entry, exit, SL, TP, OCO, quote, external. @param {OrderRow} row */
export function roleOf(row) {
  return row.protection_role ? (PROTECTION[row.protection_role] ?? words(row.protection_role)) : row.kind;
}

/** The trade of an order; null: none yet. @param {OrderRow} row */
export function tradeOf(row) {
  return row.role === "ENTRY" ? (row.trade_state ? row.order_key : null) : row.entry_key;
}

/** The size that was asked for; of a buy by amount, the amount. @param {OrderRow} row */
export function sizeOf(row) {
  if (row.base_size !== null) return size(row.base_size);
  return row.quote_size === null ? NONE : money(row.quote_size, { currency: row.symbol.split("-")[1], unit: true });
}

/** All digits of it, for the tooltip. @param {OrderRow} row */
export function wholeSizeOf(row) {
  return row.base_size === null ? `${quantity(row.quote_size)} ${row.symbol.split("-")[1] ?? ""}` : quantity(row.base_size);
}

/** What this table shows of a state: UNKNOWN is NEW to the outside, and marked here. @param {OrderRow} row */
function shownState(row) {
  return row.state === "UNKNOWN" ? "UNKNOWN" : row.public_state;
}

/** @type {Column[]} */
const COLUMNS = [
  {
    id: "key", title: "Order", width: 96, card: "main",
    tip: "The order's key; the arrow leads to its workflow",
    value: (row) => row.order_key,
    cell: (row) => html`<${OrderKey} id=${row.order_key} /> <${Workflow} id=${row.workflow_id} />`,
  },
  { id: "symbol", title: "Symbol", width: 84, card: "head", value: (row) => row.symbol, cell: (row) => row.symbol },
  { id: "side", title: "Side", width: 40, card: "head", value: (row) => row.side, cell: (row) => html`<${Side} side=${row.side} />` },
  { id: "role", title: "Role", width: 68, card: "head", tip: "SL, TP and OCO rest at the exchange and protect a trade", value: roleOf, cell: roleOf },
  { id: "type", title: "Type", width: 62, value: (row) => row.order_type, cell: (row) => words(row.order_type) + (row.post_only ? " post" : "") },
  { id: "limit", title: "Limit", width: 100, right: true, card: "main", value: (row) => number(row.limit_price), cell: (row) => price(row.limit_price) },
  { id: "size", title: "Size", width: 112, right: true, card: "main", value: (row) => number(row.base_size), cell: sizeOf, cellTip: wholeSizeOf },
  {
    id: "filled", title: "Filled", width: 56, right: true, card: "main",
    value: (row) => number(row.filled_fraction),
    cell: (row) => percent(row.filled_fraction, { places: 1 }),
    cellTip: (row) => quantity(row.filled_size),
  },
  {
    id: "distance", title: "To touch", width: 66, right: true,
    tip: "How far the limit is behind its side's best price, in percent of that",
    value: (row) => number(row.distance_to_touch),
    cell: (row) => percent(row.distance_to_touch),
    cellTip: (row) => `bid ${price(row.bid)}, ask ${price(row.ask)}`,
  },
  {
    id: "state", title: "State", width: 112, card: "head",
    tip: "UNKNOWN: it was sent, and its outcome is being asked for",
    value: shownState,
    cell: (row) => html`<${State} state=${shownState(row)} />`,
  },
  { id: "attempt", title: "Attempt", width: 62, right: true, value: (row) => row.attempts, cell: (row) => String(row.attempts) },
  { id: "trigger", title: "Trigger", width: 100, value: (row) => row.trigger, cell: (row) => row.trigger },
  { id: "source", title: "Source", width: 70, value: (row) => row.source, cell: (row) => row.source || NONE },
  { id: "trade", title: "Trade", width: 70, value: (row) => tradeOf(row), cell: (row) => html`<${TradeKey} id=${tradeOf(row)} />` },
  { id: "age", title: "Age", width: 70, right: true, grow: true, card: "main", value: (row) => -Date.parse(row.received_at), cell: (row) => html`<${Age} at=${row.received_at} />` },
];

/** @type {Column} */
const ACTIONS = { id: "actions", title: "", width: 64, right: true, card: "head", cell: (row) => html`<${Cancel} row=${row} />` };
const WITH_ACTIONS = [...COLUMNS, ACTIONS];

/** @param {{row: OrderRow}} props */
function Cancel({ row }) {
  if (row.kind === "external") return null;
  return html`<button type="button" class="small" disabled=${!mayAct.value} onClick=${() => cancelOrder(row)}>Cancel</button>`;
}

const keyOf = (/** @type {OrderRow} */ row) => row.order_key;
const open = (/** @type {OrderRow} */ row) => openOrder(row.order_key);
const marked = (/** @type {OrderRow} */ row) => (row.state === "UNKNOWN" ? "marked" : "");

/** As the API sorts them. @param {OrderRow} a @param {OrderRow} b */
function newestFirst(a, b) {
  if (a.received_at !== b.received_at) return Date.parse(b.received_at) - Date.parse(a.received_at) || (a.received_at < b.received_at ? 1 : -1);
  return a.order_key < b.order_key ? 1 : -1;
}

export function view() {
  const { kind, side } = route.value.params;
  const order = useMemo(() => openOrders.rows.sort(newestFirst).map(keyOf), [openOrders.keysVersion]);
  const map = openOrders.map;
  const rows = useMemo(
    () =>
      order
        .map((key) => /** @type {OrderRow} */ (map.get(key)))
        .filter((row) => (!kind || row.kind === kind) && (!side || row.side === side)),
    [order, openOrders.version, kind, side],
  );
  return html`<${Table}
    name="open-orders"
    label="Open orders"
    rows=${rows}
    columns=${session.value?.role === "trade" ? WITH_ACTIONS : COLUMNS}
    keyOf=${keyOf}
    onOpen=${open}
    rowClass=${marked}
    loading=${!openOrders.loaded.value}
    empty="There are no open orders."
    tools=${html`<${Chips} name="kind" label="Role" values=${KINDS} /><${Chips} name="side" label="Side" values=${SIDES} />`}
  />`;
}
