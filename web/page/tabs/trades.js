/** Trades & P&L: figures and curves of what closed, then open trades, closed trades, or groups of closed ones. */

import { closeTrade } from "../actions.js";
import { address } from "../api.js";
import { Bars, Drawdown, Equity } from "../figures.js";
import { between, grouped, money, NONE, percent, price, quantity, size, tone, words } from "../format.js";
import { rounded } from "../decimal.js";
import { html, useMemo } from "../html.js";
import { useList } from "../list.js";
import { Age, Chips, State, Time, TradeKey, Workflow } from "../parts.js";
import { Product } from "../product.js";
import { endedSlowly, useRead } from "../read.js";
import { filter, openTrade, route } from "../route.js";
import { ended, mayAct, openTrades, session } from "../state.js";
import { number, Table } from "../table.js";

/** @typedef {import("../types.d.ts").TradeRow} TradeRow */
/** @typedef {import("../table.js").Column<TradeRow>} Column */
/** @typedef {import("../table.js").Column<any>} GroupColumn */

/** @type {Array<[string, string]>} */
const LISTS = [
  ["closed", "Closed"],
  ["symbol", "By symbol"],
  ["trigger", "By trigger"],
  ["exit", "By exit"],
  ["score", "By score"],
];

/** @type {Array<[string, string]>} */
const BUCKETS = [
  ["hour", "Hours"],
  ["week", "Weeks"],
];

// --- figures ----------------------------------------------------------------------------------------------------------

/** A float of a report, as a percentage with its interval. @param {any} interval */
function rate(interval) {
  if (!interval || interval.value === null) return NONE;
  const share = (/** @type {number} */ value) => `${(100 * value).toFixed(1)}`;
  const around = interval.low === null || interval.high === null ? "" : ` (${share(interval.low)} to ${share(interval.high)})`;
  return `${share(interval.value)} %${around}`;
}

/** A float of a report. @param {number | null | undefined} value @param {number} [places] */
function plain(value, places = 2) {
  return value === null || value === undefined ? NONE : value.toFixed(places).replace("-", "−");
}

/** @param {{name: string, tip: string, kind?: string, children?: any}} props */
function Tile({ name, tip, kind = "", children }) {
  return html`<div class="tile" title=${tip}><span>${name}</span><b class=${kind}>${children}</b></div>`;
}

/** @param {{currency: string, group: any, points: any[]}} props */
function Tiles({ currency, group, points }) {
  const linked = useRead("/api/linkage", {}, endedSlowly.value).data;
  const lowest = points.reduce((most, point) => (Number(point.drawdown) > Number(most) ? point.drawdown : most), "0");
  const share = linked && linked.filled ? `${((100 * linked.linked) / linked.filled).toFixed(1)} %` : NONE;
  return html`<div class="tiles">
    <${Tile} name="Net P&L" tip="Of closed trades, after the fees of both sides" kind=${tone(group?.pnl)}>${money(group?.pnl, { currency, signed: true, unit: true })}<//>
    <${Tile} name="Fees" tip="Of closed trades, both sides">${money(group?.fees, { currency, unit: true })}<//>
    <${Tile} name="Trades" tip="Closed trades, and how many of them won">${group ? `${group.trades} (${group.wins} won)` : NONE}<//>
    <${Tile} name="Win rate" tip="With its 95 % interval">${rate(group?.win_rate)}<//>
    <${Tile} name="Reward : risk, set → achieved" tip="As configured, and the average win to the average loss after fees">${plain(group?.configured)} → ${plain(group?.achieved?.value)}<//>
    <${Tile} name="Largest drawdown" tip="Of the sum of closed trades below its highest point">${money(lowest, { currency, unit: true })}<//>
    <${Tile} name="Linkage" tip=${linked ? `${linked.linked} of ${linked.filled} filled orders carry the decision behind them` : "Filled orders that carry the decision behind them"}>${share}<//>
  </div>`;
}

function Figures() {
  const { currency: chosen, bucket = "day" } = route.value.params;
  const all = useRead("/api/pnl", { by: "all" }, endedSlowly.value);
  const curve = useRead("/api/equity", { bucket }, endedSlowly.value);
  const series = curve.data?.series ?? [];
  const groups = (all.data?.groups ?? []).filter((/** @type {any} */ group) => group.currency);
  const currencies = groups.map((/** @type {any} */ group) => group.currency);
  const currency = currencies.includes(chosen) ? chosen : (currencies[0] ?? "USD");
  const group = groups.find((/** @type {any} */ found) => found.currency === currency);
  const points = series.find((/** @type {any} */ found) => found.currency === currency)?.points ?? [];
  const problem = all.problem || curve.problem;
  return html`<div class="figures" data-currency=${currency}>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${currencies.length > 1 && html`<${Chips} name="currency" label="Currency" values=${currencies.map((/** @type {string} */ name) => [name, name])} />`}
    <${Tiles} currency=${currency} group=${group} points=${points} />
    <div class="graphs">
      <${Equity} points=${points} currency=${currency} />
      <${Drawdown} points=${points} currency=${currency} />
      <${Bars} points=${points} currency=${currency} name=${bucket} />
    </div>
  </div>`;
}

// --- open trades ------------------------------------------------------------------------------------------------------

/** Who guards a trade now. @param {TradeRow} row */
function protectedBy(row) {
  const found = [row.watched ? "watcher" : "", row.protections ? `exchange (${row.protections})` : ""].filter(Boolean);
  return found.join(", ") || "nobody";
}

/** Trailing: where it arms, or the peak and the stop. @param {TradeRow} row */
function trailing(row) {
  if (row.trailing_stop !== null) return `${price(row.trailing_peak)} / ${price(row.trailing_stop)}`;
  return row.trailing_arms_at === null ? "off" : `arms ${price(row.trailing_arms_at)}`;
}

/** @type {Column[]} */
const OPEN = [
  {
    id: "key", title: "Trade", width: 122, card: "main",
    tip: "The trade's key; the arrows lead to the workflows of its entry and of its exits",
    value: (row) => row.entry_key,
    cell: (row) => html`<${TradeKey} id=${row.entry_key} /> <${Workflow} id=${row.workflow_id} /> <${Workflow} id=${row.exit_workflow_id} />`,
  },
  { id: "symbol", title: "Symbol", width: 96, card: "head", value: (row) => row.symbol, cell: (row) => row.symbol },
  { id: "state", title: "State", width: 104, card: "head", value: (row) => row.state, cell: (row) => html`<${State} state=${row.state} />` },
  { id: "held", title: "Held", width: 76, right: true, value: (row) => -Date.parse(row.opened_at), cell: (row) => html`<${Age} at=${row.opened_at} />` },
  { id: "size", title: "Left", width: 96, right: true, value: (row) => number(row.remaining), cell: (row) => size(row.remaining), cellTip: (row) => quantity(row.remaining) },
  { id: "entry", title: "Entry", width: 92, right: true, card: "main", value: (row) => number(row.entry_price), cell: (row) => price(row.entry_price) },
  { id: "bid", title: "Bid", width: 92, right: true, card: "main", value: (row) => number(row.bid), cell: (row) => price(row.bid), class: () => "live-price" },
  {
    id: "gain", title: "Would gain", width: 92, right: true, card: "main",
    tip: "At the bid, after the fees so far",
    value: (row) => number(row.unrealised_pnl),
    cell: (row) => money(row.unrealised_pnl, { currency: row.currency, signed: true }),
    class: (row) => tone(row.unrealised_pnl),
  },
  {
    id: "gain_fraction", title: "in %", width: 78, right: true, card: "head",
    value: (row) => number(row.would_gain_fraction),
    cell: (row) => percent(row.would_gain_fraction, { signed: true }),
    class: (row) => tone(row.would_gain_fraction),
  },
  { id: "stop", title: "Nearest stop", width: 96, right: true, card: "main", value: (row) => number(row.nearest_stop), cell: (row) => price(row.nearest_stop) },
  { id: "distance", title: "Distance", width: 76, right: true, tip: "From the bid down to the nearest stop, in percent of the bid", value: (row) => number(row.stop_distance), cell: (row) => percent(row.stop_distance) },
  { id: "risk", title: "At risk", width: 86, right: true, tip: "What is lost from the bid if it sells at the nearest stop, before fees", value: (row) => number(row.at_risk), cell: (row) => money(row.at_risk, { currency: row.currency }) },
  { id: "trailing", title: "Trailing", width: 150, tip: "Where it arms; once armed, highest bid / stop", cell: trailing },
  { id: "target", title: "Target", width: 92, right: true, value: (row) => number(row.take_profit), cell: (row) => price(row.take_profit) },
  {
    id: "protected", title: "Protected by", width: 124,
    tip: "The price watcher, orders that rest at the exchange, or nobody",
    value: protectedBy, cell: protectedBy, class: (row) => (row.watched === false && !row.protections ? "down" : ""),
  },
  { id: "trigger", title: "Trigger", width: 110, value: (row) => row.trigger, cell: (row) => row.trigger },
  { id: "score", title: "Score", width: 60, right: true, value: (row) => number(row.buy_score), cell: (row) => row.buy_score ?? NONE },
  { id: "price_age", title: "Price age", width: 84, right: true, grow: true, value: (row) => (row.price_at ? -Date.parse(row.price_at) : null), cell: (row) => html`<${Age} at=${row.price_at} />` },
];

/** @type {Column} */
const CLOSE = { id: "actions", title: "", width: 70, right: true, card: "head", cell: (row) => html`<${Close} row=${row} />` };
const OPEN_WITH_ACTIONS = [...OPEN, CLOSE];

/** @param {{row: TradeRow}} props */
function Close({ row }) {
  return html`<button type="button" class="small" disabled=${!mayAct.value} onClick=${() => closeTrade(row)}>Close</button>`;
}

const keyOf = (/** @type {TradeRow} */ row) => row.entry_key;
const open = (/** @type {TradeRow} */ row) => openTrade(row.entry_key);
const marked = (/** @type {TradeRow} */ row) => (row.watched === false && !row.protections ? "marked" : "");

/** @param {{tools: any}} props */
function Open({ tools }) {
  const { symbol, trigger } = route.value.params;
  const rows = useMemo(
    () =>
      openTrades.rows
        .filter((row) => (!symbol || row.symbol === symbol) && (!trigger || row.trigger === trigger))
        .sort((a, b) => (a.opened_at < b.opened_at ? 1 : a.opened_at > b.opened_at ? -1 : a.entry_key < b.entry_key ? 1 : -1)),
    [openTrades.map, openTrades.version, symbol, trigger],
  );
  return html`<${Table}
    name="open-trades"
    label="Open trades"
    rows=${rows}
    columns=${session.value?.role === "trade" ? OPEN_WITH_ACTIONS : OPEN}
    keyOf=${keyOf}
    onOpen=${open}
    rowClass=${marked}
    loading=${!openTrades.loaded.value}
    empty="There are no open trades."
    tools=${tools}
  />`;
}

// --- closed trades ----------------------------------------------------------------------------------------------------

/** @type {Column[]} */
const CLOSED = [
  { id: "closed", title: "Closed (UTC)", width: 128, card: "main", value: (row) => row.closed_at && Date.parse(row.closed_at), cell: (row) => html`<${Time} at=${row.closed_at} />` },
  {
    id: "key", title: "Trade", width: 122,
    value: (row) => row.entry_key,
    cell: (row) => html`<${TradeKey} id=${row.entry_key} /> <${Workflow} id=${row.workflow_id} /> <${Workflow} id=${row.exit_workflow_id} />`,
  },
  { id: "symbol", title: "Symbol", width: 96, card: "head", value: (row) => row.symbol, cell: (row) => row.symbol },
  { id: "size", title: "Size", width: 96, right: true, value: (row) => number(row.entry_size), cell: (row) => size(row.entry_size), cellTip: (row) => quantity(row.entry_size) },
  { id: "entry", title: "Entry", width: 92, right: true, card: "main", value: (row) => number(row.entry_price), cell: (row) => price(row.entry_price) },
  { id: "exit", title: "Exit", width: 92, right: true, card: "main", value: (row) => number(row.exit_price), cell: (row) => price(row.exit_price) },
  { id: "reason", title: "Reason", width: 116, card: "head", value: (row) => row.exit_reason, cell: (row) => words(row.exit_reason), cellTip: (row) => row.dust_why ?? "" },
  {
    id: "pnl", title: "Result", width: 92, right: true, card: "main", tip: "After the fees of both sides",
    value: (row) => number(row.pnl), cell: (row) => money(row.pnl, { currency: row.currency, signed: true }), class: (row) => tone(row.pnl),
  },
  {
    id: "fraction", title: "in %", width: 78, right: true, card: "head", tip: "Of what was paid, with fees",
    value: (row) => number(row.result_fraction), cell: (row) => percent(row.result_fraction, { signed: true }), class: (row) => tone(row.result_fraction),
  },
  {
    id: "risk", title: "in risk", width: 70, right: true, tip: "In units of risk: one is from the entry to the first hard stop",
    value: (row) => number(row.result_in_risk),
    cell: (row) => (row.result_in_risk === null ? NONE : grouped(rounded(row.result_in_risk, 2, true), true)),
    class: (row) => tone(row.result_in_risk),
    cellTip: (row) => `one unit of risk: ${money(row.unit_of_risk, { currency: row.currency, unit: true })}`,
  },
  {
    id: "slippage", title: "Slippage", width: 84, right: true, tip: "Of its exits: beyond the prices that made them due",
    value: (row) => number(row.slippage), cell: (row) => money(row.slippage, { currency: row.currency, signed: true }), class: (row) => tone(row.slippage),
  },
  { id: "fees", title: "Fees", width: 76, right: true, value: (row) => number(row.fees), cell: (row) => money(row.fees, { currency: row.currency }) },
  { id: "trigger", title: "Trigger", width: 110, value: (row) => row.trigger, cell: (row) => row.trigger },
  { id: "score", title: "Score", width: 60, right: true, value: (row) => number(row.buy_score), cell: (row) => row.buy_score ?? NONE },
  {
    id: "held", title: "Held", width: 84, right: true, grow: true,
    value: (row) => (row.closed_at ? Date.parse(row.closed_at) - Date.parse(row.opened_at) : null),
    cell: (row) => between(row.opened_at, row.closed_at),
  },
];

/** @param {{tools: any}} props */
function Closed({ tools }) {
  const { symbol, trigger } = route.value.params;
  const { rows, loading, problem, more } = useList("/api/trades", { state: "closed", symbol, trigger }, keyOf, ended.value);
  return html`${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <${Table}
      name="closed-trades"
      label="Closed trades"
      rows=${rows}
      columns=${CLOSED}
      keyOf=${keyOf}
      onOpen=${open}
      more=${more}
      loading=${loading}
      empty="No trade has closed yet."
      tools=${tools}
    />`;
}

// --- groups -----------------------------------------------------------------------------------------------------------

/** @type {GroupColumn[]} */
const GROUPS = [
  { id: "group", title: "Group", width: 150, card: "head", value: (row) => row.group, cell: (row) => row.group },
  { id: "currency", title: "Currency", width: 80, value: (row) => row.currency, cell: (row) => row.currency || NONE },
  { id: "trades", title: "Trades", width: 70, right: true, card: "head", value: (row) => row.trades, cell: (row) => String(row.trades) },
  { id: "wins", title: "Won", width: 60, right: true, value: (row) => row.wins, cell: (row) => String(row.wins) },
  { id: "rate", title: "Win rate (95 %)", width: 170, right: true, card: "main", value: (row) => row.win_rate.value, cell: (row) => rate(row.win_rate) },
  { id: "pnl", title: "Net P&L", width: 100, right: true, card: "main", value: (row) => number(row.pnl), cell: (row) => money(row.pnl, { currency: row.currency, signed: true }), class: (row) => tone(row.pnl) },
  { id: "fees", title: "Fees", width: 84, right: true, value: (row) => number(row.fees), cell: (row) => money(row.fees, { currency: row.currency }) },
  { id: "win", title: "Average win", width: 100, right: true, value: (row) => number(row.average_win), cell: (row) => money(row.average_win, { currency: row.currency, signed: true }), class: (row) => tone(row.average_win) },
  { id: "loss", title: "Average loss", width: 100, right: true, value: (row) => number(row.average_loss), cell: (row) => money(row.average_loss, { currency: row.currency, signed: true }), class: (row) => tone(row.average_loss) },
  { id: "set", title: "R:R set", width: 70, right: true, tip: "Reward to risk as configured", value: (row) => row.configured, cell: (row) => plain(row.configured) },
  { id: "achieved", title: "achieved", width: 78, right: true, card: "main", tip: "Average win to average loss, after fees", value: (row) => row.achieved.value, cell: (row) => plain(row.achieved.value) },
  { id: "slippage", title: "Slippage", width: 92, right: true, value: (row) => number(row.slippage), cell: (row) => money(row.slippage, { currency: row.currency, signed: true }), class: (row) => tone(row.slippage) },
  { id: "mean", title: "Mean result", width: 100, right: true, grow: true, tip: "Of the entry price, after fees", value: (row) => row.mean_fraction.value, cell: (row) => (row.mean_fraction.value === null ? NONE : `${plain(100 * row.mean_fraction.value)} %`) },
];

const groupKey = (/** @type {any} */ row) => `${row.group}/${row.currency}`;

/** @param {{by: string, tools: any}} props */
function Groups({ by, tools }) {
  const { data, loading, problem } = useRead("/api/pnl", { by }, endedSlowly.value);
  const rows = useMemo(() => (data?.groups ?? []).filter((/** @type {any} */ row) => row.trades > 0), [data]);
  const choose = (/** @type {any} */ row) => filter({ list: "closed", symbol: by === "symbol" ? row.group : null, trigger: by === "trigger" ? row.group : null });
  return html`${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <${Table}
      key=${by}
      name="groups"
      label=${`Groups by ${by}`}
      rows=${rows}
      columns=${GROUPS}
      keyOf=${groupKey}
      onOpen=${by === "symbol" || by === "trigger" ? choose : undefined}
      loading=${loading}
      empty="No trade has closed yet."
      tools=${tools}
    />`;
}

export function view() {
  const { list = "", symbol, trigger } = route.value.params;
  const tools = html`<button type="button" class="chip" aria-pressed=${list === ""} onClick=${() => filter({ list: null })}>Open</button>
    <${Chips} name="list" label="List" values=${LISTS} />
    <${Chips} name="bucket" label="Length of a point of the curves" values=${BUCKETS} />
    ${(list === "" || list === "closed") && html`<${Product} />`}
    ${trigger && html`<button type="button" class="chip" aria-pressed="true" onClick=${() => filter({ trigger: null })}>${trigger} ×</button>`}
    ${list === "closed" && html`<a class="chip" href=${address("/api/trades", { state: "closed", symbol, trigger, format: "csv" })} download="closed-trades.csv">CSV</a>`}`;
  return html`<div class="trades-tab">
    <${Figures} />
    ${list === "" && html`<${Open} tools=${tools} />`}
    ${list === "closed" && html`<${Closed} tools=${tools} />`}
    ${list !== "" && list !== "closed" && html`<${Groups} by=${list} tools=${tools} />`}
  </div>`;
}
