/** Executed Orders: every order that has ended, however: filled, cancelled, expired, rejected or failed. */

import { address } from "../api.js";
import { NONE, between, money, percent, price, quantity, size, tone, words } from "../format.js";
import { html } from "../html.js";
import { useList } from "../list.js";
import { Chips, OrderKey, Side, State, Time, TradeKey, Workflow } from "../parts.js";
import { openOrder, route } from "../route.js";
import { ended } from "../state.js";
import { number, Table } from "../table.js";
import { KINDS, roleOf, SIDES, sizeOf, tradeOf, wholeSizeOf } from "./open_orders.js";

/** @typedef {import("../types.d.ts").OrderRow} OrderRow */
/** @typedef {import("../table.js").Column<OrderRow>} Column */

/** @type {Array<[string, string]>} */
const ENDS = [
  ["FILLED", "Filled"],
  ["CANCELLED", "Cancelled"],
  ["EXPIRED", "Expired"],
  ["REJECTED", "Rejected"],
  ["FAILED", "Failed"],
];

/** Why it ended so: the exit's reason, the gate or the exchange's refusal. @param {OrderRow} row */
function reasonOf(row) {
  return row.exit_reason ?? row.gate ?? row.refusal ?? row.sentence ?? "";
}

/** @param {OrderRow} row */
const quoteOf = (row) => row.symbol.split("-")[1];

/** @type {Column[]} */
const COLUMNS = [
  { id: "ended", title: "Ended", width: 112, card: "main", tip: "In UTC", value: (row) => row.ended_at && Date.parse(row.ended_at), cell: (row) => html`<${Time} at=${row.ended_at} />` },
  {
    id: "key", title: "Order", width: 96,
    value: (row) => row.order_key,
    cell: (row) => html`<${OrderKey} id=${row.order_key} /> <${Workflow} id=${row.workflow_id} />`,
  },
  { id: "symbol", title: "Symbol", width: 84, card: "head", value: (row) => row.symbol, cell: (row) => row.symbol },
  { id: "side", title: "Side", width: 40, card: "head", value: (row) => row.side, cell: (row) => html`<${Side} side=${row.side} />` },
  { id: "role", title: "Role", width: 68, card: "head", value: roleOf, cell: roleOf },
  { id: "type", title: "Type", width: 62, value: (row) => row.order_type, cell: (row) => words(row.order_type) + (row.post_only ? " post" : "") },
  { id: "filled", title: "Filled", width: 96, right: true, card: "main", value: (row) => number(row.filled_size), cell: (row) => size(row.filled_size), cellTip: (row) => quantity(row.filled_size) },
  { id: "size", title: "of", width: 112, right: true, tip: "The size that was asked for", value: (row) => number(row.base_size), cell: sizeOf, cellTip: wholeSizeOf },
  { id: "average", title: "Average", width: 100, right: true, card: "main", tip: "The average price of its fills", value: (row) => number(row.average_price), cell: (row) => price(row.average_price) },
  { id: "fees", title: "Fees", width: 56, right: true, value: (row) => number(row.fees), cell: (row) => money(row.fees, { currency: quoteOf(row) }) },
  { id: "status", title: "Status", width: 84, card: "head", value: (row) => row.public_state, cell: (row) => html`<${State} state=${row.public_state} />` },
  { id: "status_source", title: "Learned by", width: 84, tip: "How the order's end was learned", value: (row) => row.status_source, cell: (row) => words(row.status_source) },
  { id: "reason", title: "Reason", width: 130, grow: true, tip: "Why it sold, or the gate or refusal that ended it", value: reasonOf, cell: (row) => words(reasonOf(row)), cellTip: (row) => row.sentence ?? row.refusal_text ?? "" },
  {
    id: "result", title: "Result", width: 66, right: true, card: "main",
    tip: "Of an exit: what it brought after fees, in percent of the entry price",
    value: (row) => number(row.achieved_net),
    cell: (row) => percent(row.achieved_net, { signed: true }),
    class: (row) => tone(row.achieved_net),
  },
  { id: "trigger", title: "Trigger", width: 100, value: (row) => row.trigger, cell: (row) => row.trigger || NONE },
  { id: "trade", title: "Trade", width: 70, value: (row) => tradeOf(row), cell: (row) => html`<${TradeKey} id=${tradeOf(row)} />` },
  {
    id: "took", title: "Placed → filled", width: 104, right: true,
    tip: "From its being placed at the exchange to its last fill",
    cell: (row) => between(row.placed_at, row.last_fill_at),
  },
];

const keyOf = (/** @type {OrderRow} */ row) => row.order_key;
const open = (/** @type {OrderRow} */ row) => openOrder(row.order_key);

export function view() {
  const { state, kind, side, symbol } = route.value.params;
  const filters = { state, kind, side, symbol };
  const { rows, loading, problem, more } = useList("/api/executed-orders", filters, keyOf, ended.value);
  return html`${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <${Table}
      name="executed-orders"
      label="Executed orders"
      rows=${rows}
      columns=${COLUMNS}
      keyOf=${keyOf}
      onOpen=${open}
      more=${more}
      loading=${loading}
      empty="No order has ended yet."
      tools=${html`<${Chips} name="state" label="End" values=${ENDS} />
        <${Chips} name="kind" label="Role" values=${KINDS} />
        <${Chips} name="side" label="Side" values=${SIDES} />
        <a class="chip" href=${address("/api/executed-orders", { ...filters, format: "csv" })} download="executed-orders.csv">CSV</a>`}
    />`;
}
