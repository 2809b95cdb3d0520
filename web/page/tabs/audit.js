/**
 * Throttle/Audit: what happened, newest first: orders and how they ended, gates with their numbers, protection, signals,
 * incidents, what people did, changed settings.
 */

import { money, NONE, price, quantity, size, words } from "../format.js";
import { html } from "../html.js";
import { useList } from "../list.js";
import { Chips, OrderKey, Side, Time, TradeKey } from "../parts.js";
import { Product } from "../product.js";
import { each5s } from "../read.js";
import { openOrder, route } from "../route.js";
import { audit, ended } from "../state.js";
import { number, Table } from "../table.js";
import { Severity, Subject, toldOf } from "./monitoring.js";

/** @typedef {import("../table.js").Column<any>} Column */

/** @type {Array<[string, string]>} */
const SOURCES = [
  ["order", "Orders"],
  ["signal", "Signals"],
  ["incident", "Incidents"],
  ["command", "People"],
  ["setting", "Settings"],
];

/** @param {any} row the gate or the reason, with the numbers that were compared */
function reasonOf(row) {
  return row.numbers ? `${row.sentence} (${row.numbers})` : row.sentence;
}

/** @param {any} row */
function sizeOf(row) {
  if (row.size !== null) return size(row.size);
  return row.quote_size === null ? NONE : money(row.quote_size, { currency: row.symbol?.split("-")[1], unit: true });
}

/** All digits of it. @param {any} row */
function wholeSizeOf(row) {
  return row.size === null ? `${quantity(row.quote_size)} ${row.symbol?.split("-")[1] ?? ""}` : quantity(row.size);
}

/** @type {Record<string, string>} */
const COLOURS = { REFUSED: "bad", REJECTED: "bad", FAILED: "bad", FILLED: "good" };

/** @param {{row: any}} props */
function Event({ row }) {
  const kind = row.severity === "CRITICAL" ? "bad" : (COLOURS[row.event.split("_").pop() ?? ""] ?? "");
  return html`<span class=${`state ${kind}`}>${row.event.replaceAll("_", " ")}</span>`;
}

/** @type {Column[]} */
const COLUMNS = [
  { id: "at", title: "At (UTC)", width: 128, card: "main", value: (row) => Date.parse(row.at), cell: (row) => html`<${Time} at=${row.at} />` },
  { id: "event", title: "Event", width: 190, card: "head", value: (row) => row.event, cell: (row) => html`<${Event} row=${row} />` },
  { id: "severity", title: "Severity", width: 84, hidden: true, value: (row) => row.severity, cell: (row) => (row.severity ? html`<${Severity} severity=${row.severity} />` : NONE) },
  { id: "symbol", title: "Symbol", width: 100, card: "head", value: (row) => row.symbol, cell: (row) => row.symbol ?? (row.subject ? html`<${Subject} subject=${row.subject} />` : NONE) },
  { id: "side", title: "Side", width: 54, value: (row) => row.side, cell: (row) => (row.side ? html`<${Side} side=${row.side} />` : NONE) },
  { id: "role", title: "Role", width: 96, value: (row) => row.role, cell: (row) => words(row.role) },
  { id: "order", title: "Order", width: 80, card: "main", value: (row) => row.order_key, cell: (row) => (row.order_key ? html`<${OrderKey} id=${row.order_key} />` : NONE) },
  { id: "trade", title: "Trade", width: 80, hidden: true, value: (row) => row.trade_key, cell: (row) => html`<${TradeKey} id=${row.trade_key} />` },
  { id: "price", title: "Price", width: 96, right: true, value: (row) => number(row.price), cell: (row) => price(row.price) },
  { id: "size", title: "Size", width: 112, right: true, value: (row) => number(row.size), cell: sizeOf, cellTip: wholeSizeOf },
  { id: "reason", title: "Reason", tip: "The gate or the reason, with the numbers that were compared", width: 320, grow: true, card: "main", value: reasonOf, cell: reasonOf, cellTip: reasonOf },
  { id: "status_source", title: "Source of status", width: 110, tip: "How an order's end was learned", value: (row) => row.status_source, cell: (row) => words(row.status_source) },
  { id: "told", title: "Told", width: 80, tip: "Messages that were sent, and to how many targets", cell: (row) => (row.about === "incident" ? toldOf(row) : NONE) },
  { id: "by", title: "By", width: 110, value: (row) => row.by, cell: (row) => row.by ?? NONE },
];

const keyOf = (/** @type {any} */ row) => row.id;
const open = (/** @type {any} */ row) => row.order_key && openOrder(row.order_key);
const marked = (/** @type {any} */ row) => (row.severity === "CRITICAL" && !row.resolved_at ? "marked" : "");

export function view() {
  const { about, symbol } = route.value.params;
  const version = `${each5s.value}/${ended.value}/${audit.value[0]?.id ?? 0}`;
  const { rows, loading, problem, more } = useList("/api/audit", { about, symbol }, keyOf, version);
  return html`${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <${Table}
      name="audit"
      label="Events"
      rows=${rows}
      columns=${COLUMNS}
      keyOf=${keyOf}
      onOpen=${open}
      rowClass=${marked}
      more=${more}
      loading=${loading}
      empty="Nothing has happened yet."
      tools=${html`<${Chips} name="about" label="What it is about" values=${SOURCES} /><${Product} />`}
    />`;
}
