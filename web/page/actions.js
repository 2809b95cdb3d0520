/** What may be done, each confirmed with the numbers that matter. */

import { act } from "./api.js";
import { add, multiply } from "./decimal.js";
import { confirm } from "./dialog.js";
import { age, money, percent, price, quantity, short } from "./format.js";
import { html } from "./html.js";
import { now, openOrders, openTrades, prices, summary } from "./state.js";

/** @typedef {import("./types.d.ts").OrderRow} OrderRow */
/** @typedef {import("./types.d.ts").TradeRow} TradeRow */

const path = (/** @type {string} */ kind, /** @type {string} */ key, /** @type {string} */ what) =>
  `/api/${kind}/${encodeURIComponent(key)}/${what}`;

/** @param {string | null} bid @param {string | null} at */
function bidLine(bid, at) {
  return bid === null ? "not known" : `${price(bid)}, ${age(at, now.value)} old`;
}

/** Cancel an order. @param {OrderRow} given */
export function cancelOrder(given) {
  const key = given.order_key;
  confirm({
    title: `Cancel ${given.side === "BUY" ? "the buy" : "the sell"} of ${given.symbol}?`,
    text:
      given.kind === "protection"
        ? "This order protects a trade at the exchange. The price watcher still guards the trade."
        : "What has filled stays, and is guarded.",
    lines: () => {
      const row = openOrders.get(key) ?? given;
      const known = prices.get(row.symbol);
      return [
        ["Order", `${short(key)} · ${row.order_type} · ${row.kind}`],
        ["Size", quantity(row.base_size ?? row.quote_size)],
        ["Filled", `${quantity(row.filled_size)} (${percent(row.filled_fraction, { places: 0 })})`],
        ["Limit", price(row.limit_price)],
        ["Bid", bidLine(known?.bid ?? row.bid, known?.at ?? row.price_at)],
      ];
    },
    action: "Cancel the order",
    danger: true,
    run: ({ note, key: name }) => act(path("orders", key, "cancel"), { note }, { key: name }),
  });
}

/** Sell a trade at MARKET. @param {TradeRow} given */
export function closeTrade(given) {
  const key = given.entry_key;
  confirm({
    title: `Close the trade of ${given.symbol}?`,
    text: "What remains is sold at MARKET; what is left of its entry is cancelled.",
    lines: () => {
      const row = openTrades.get(key) ?? given;
      const worth = row.bid === null ? null : multiply(row.remaining, row.bid);
      const { currency } = row;
      return [
        ["Trade", short(key)],
        ["Size", quantity(row.remaining)],
        ["Entry", price(row.entry_price)],
        ["Bid", bidLine(row.bid, row.price_at)],
        ["Worth at the bid", money(worth, { currency, unit: true })],
        [
          "Expected result",
          `${money(row.unrealised_pnl, { currency, signed: true, unit: true })} (${percent(row.would_gain_fraction, { signed: true })}), before the sale's fee and slippage`,
        ],
      ];
    },
    action: "Sell at MARKET",
    danger: true,
    run: ({ note, key: name }) => act(path("trades", key, "close"), { note }, { key: name }),
  });
}

/** Sell every trade and cancel every entry. */
export function flatten() {
  confirm({
    title: "Flatten: sell every trade and cancel every open entry?",
    text: "Everything that is open now is sold at MARKET or cancelled. What opens meanwhile stays, unless entries are halted first.",
    lines: () => [
      ["Open trades", String(openTrades.size)],
      ["Open entries", String(openOrders.rows.filter((row) => row.role === "ENTRY").length)],
      ...risks("exposure", "Worth at the bids"),
      ...gains(),
    ],
    check: "Halt entries first",
    word: "flatten",
    action: "Flatten",
    danger: true,
    run: ({ note, confirm: word, key, checked }) => act("/api/flatten", { note, confirm: word, halt: checked }, { key }),
  });
}

/** @param {"exposure" | "at_risk"} what @param {string} title @returns {Array<[string, any]>} */
export function risks(what, title) {
  return (summary.value?.risks ?? []).map((/** @type {any} */ risk) => [
    title,
    money(risk[what], { currency: risk.currency, unit: true }),
  ]);
}

/** What selling all open trades at their bids would bring, by currency. @returns {Array<[string, any]>} */
function gains() {
  /** @type {Map<string, string>} */
  const sums = new Map();
  let unknown = 0;
  for (const row of openTrades.rows) {
    if (row.unrealised_pnl === null) unknown += 1;
    else sums.set(row.currency, add(sums.get(row.currency) ?? "0", row.unrealised_pnl));
  }
  /** @type {Array<[string, any]>} */
  const found = [...sums].map(([currency, sum]) => [
    "Expected result",
    `${money(sum, { currency, signed: true, unit: true })}, before fees and slippage of the sales`,
  ]);
  return unknown ? [...found, ["Without a price", `${unknown} trades`]] : found;
}

/** Refuse new entries. */
export function halt() {
  confirm({
    title: "Halt entries?",
    text: "Every new entry is refused until somebody resumes. Open trades stay guarded, and exits go on.",
    action: "Halt entries",
    danger: true,
    run: ({ note, key }) => act("/api/halt", { note }, { key }),
  });
}

/** Let entries pass again. */
export function resume() {
  const found = summary.value?.switch;
  confirm({
    title: "Resume entries?",
    text: "New entries pass again, whoever or whatever halted them.",
    lines: () => [
      ["Halted by", found?.by || "–"],
      ["Why", found?.reason || "–"],
      ["Since", found?.since ? `${age(found.since, now.value)} ago` : "–"],
    ],
    word: "resume",
    action: "Resume entries",
    run: ({ note, confirm: word, key }) => act("/api/resume", { note, confirm: word }, { key }),
  });
}

/** @typedef {{kind: string, name: string, halted_by: string, since: string | null}} Group a strategy or a trigger */

/** Refuse the new entries of a strategy or trigger. @param {Group} group */
export function haltGroup({ kind, name }) {
  confirm({
    title: `Halt ${kind} ${name}?`,
    text: "Its new entries are refused until somebody resumes it. Its open trades stay guarded, and exits go on.",
    action: `Halt ${name}`,
    danger: true,
    run: ({ note, key }) => act("/api/halt", { note, [kind]: name }, { key }),
  });
}

/** Let them pass again. @param {Group} group */
export function resumeGroup({ kind, name, halted_by: by, since }) {
  confirm({
    title: `Resume ${kind} ${name}?`,
    text: "Its new entries pass again; its losses of today until now are not counted any more.",
    lines: () => [
      ["Halted by", by || "–"],
      ["Since", since ? `${age(since, now.value)} ago` : "–"],
    ],
    word: "resume",
    action: `Resume ${name}`,
    run: ({ note, confirm: word, key }) => act("/api/resume", { note, confirm: word, [kind]: name }, { key }),
  });
}

/** Say that an incident is over. @param {{id: number, sentence: string}} incident */
export function resolveIncident({ id, sentence }) {
  confirm({
    title: "Resolve this incident?",
    text: html`<p>${sentence}</p>`,
    action: "It is over",
    run: ({ note, key }) => act(`/api/incidents/${id}/resolve`, { note }, { key }),
  });
}
