/** What the page knows, as signals: a component that reads one is drawn again when it changes. */

import { computed, signal } from "./html.js";
import { add, divide, multiply, signOf, subtract } from "./decimal.js";

/** @typedef {import("./types.d.ts").OrderRow} OrderRow */
/** @typedef {import("./types.d.ts").TradeRow} TradeRow */
/** @typedef {import("./types.d.ts").EventRow} EventRow */
/** @typedef {import("./types.d.ts").Price} Price */

/**
 * Rows by key. Reading `map`, `size` or `rows` in a component or an effect subscribes it; the map is never copied.
 * @template Row
 */
export class Rows {
  /** @param {(row: Row) => string} keyOf */
  constructor(keyOf) {
    this.keyOf = keyOf;
    /** @type {Map<string, Row>} */
    this._map = new Map();
    this._version = signal(0);
    this._keysVersion = signal(0);
    /** Whether the first read has arrived. */
    this.loaded = signal(false);
  }

  /** A number that changes with the rows; reading it subscribes. */
  get version() {
    return this._version.value;
  }

  /** The same, of the keys only: it stays where rows change and none comes or goes. */
  get keysVersion() {
    return this._keysVersion.value;
  }

  /** To be read only. */
  get map() {
    this._version.value;
    return this._map;
  }

  get size() {
    return this.map.size;
  }

  /** All rows as a new array. */
  get rows() {
    return [...this.map.values()];
  }

  /** @param {string} key */
  get(key) {
    return this.map.get(key);
  }

  /** These rows instead of all. @param {Iterable<Row>} rows */
  replace(rows) {
    this._map = new Map();
    for (const row of rows) this._map.set(this.keyOf(row), row);
    this.loaded.value = true;
    this._changed(true);
  }

  /** Rows that changed, and keys that are gone. @param {{changed?: Row[], gone?: string[]}} news */
  apply({ changed = [], gone = [] }) {
    if (!changed.length && !gone.length) return;
    let keys = false;
    for (const key of gone) keys = this._map.delete(key) || keys;
    const before = this._map.size;
    for (const row of changed) this._map.set(this.keyOf(row), row);
    this._changed(keys || this._map.size !== before);
  }

  /** As before the first read. */
  clear() {
    this._map = new Map();
    this.loaded.value = false;
    this._changed(true);
  }

  /** @param {boolean} keys */
  _changed(keys) {
    this._version.value += 1;
    if (keys) this._keysVersion.value += 1;
  }
}

/** Who is logged in; null: nobody. */
export const session = signal(/** @type {import("./types.d.ts").Session | null} */ (null));
export const about = computed(() => session.value?.about ?? null);
/** The newest summary: counts, switch, today. */
export const summary = signal(/** @type {import("./types.d.ts").Summary | null} */ (null));
export const openOrders = new Rows((/** @type {OrderRow} */ row) => row.order_key);
export const openTrades = new Rows((/** @type {TradeRow} */ row) => row.entry_key);
export const prices = new Rows((/** @type {Price} */ row) => row.symbol);
/** The newest events, newest first; at most 500. */
export const audit = signal(/** @type {EventRow[]} */ ([]));
/** How many times orders or trades have ended since the page was loaded: lists of ended ones read again when it changes. */
export const ended = signal(0);
/** "": data is current; "grey": none for 5 s; "banner": none for 15 s (actions are refused); "away": the ledger is unreachable. */
export const stale = signal(/** @type {"" | "grey" | "banner" | "away"} */ ("grey"));
/** The page's clock in ms, renewed each second. */
export const now = signal(Date.now());

/** Whether this person may act now: the role trade, and current data. */
export const mayAct = computed(
  () => session.value?.role === "trade" && (stale.value === "" || stale.value === "grey"),
);

/** The address of a workflow in Temporal's Web UI; null where there is none. @param {string} id */
export function workflowAddress(id) {
  const found = about.value;
  if (!found?.temporal_ui) return null;
  return `${found.temporal_ui}/namespaces/${encodeURIComponent(found.namespace)}/workflows/${encodeURIComponent(id)}`;
}

/**
 * A trade at another bid; the numbers that depend on it are computed anew, exactly.
 * @param {TradeRow} row @param {Price} price @returns {TradeRow}
 */
export function tradeAt(row, price) {
  const { bid, at } = price;
  // Without an earlier bid the numbers that depend on it are not known either.
  if (bid === null || row.bid === null || row.bid === bid || row.state === "CLOSED") return row;
  const found = { ...row, bid, price_at: at };
  if (row.unrealised_pnl !== null) {
    found.unrealised_pnl = add(row.unrealised_pnl, multiply(row.remaining, subtract(bid, row.bid)));
    const cost = multiply(row.remaining, row.entry_price ?? "0");
    found.would_gain_fraction = divide(found.unrealised_pnl, cost);
  }
  if (row.nearest_stop !== null) {
    const down = subtract(bid, row.nearest_stop);
    found.stop_distance = divide(down, bid);
    found.at_risk = signOf(down) < 0 ? "0" : multiply(down, row.remaining); // what is due sells at the bid
  }
  return found;
}

/**
 * An open order at other prices.
 * @param {OrderRow} row @param {Price} price @returns {OrderRow}
 */
export function orderAt(row, price) {
  const { bid, ask, at } = price;
  if (row.bid === bid && row.ask === ask) return row;
  const touch = row.side === "BUY" ? bid : ask;
  let distance = null;
  if (row.limit_price !== null && touch) {
    const behind = row.side === "BUY" ? subtract(touch, row.limit_price) : subtract(row.limit_price, touch);
    distance = divide(behind, touch);
  }
  return { ...row, bid, ask, price_at: at, distance_to_touch: distance };
}
