/**
 * One trade: candles with its fills and levels, why it bought, holds and sold, where each cent of its result comes from,
 * stops and target, attempts, fills, what happened when.
 */

import { closeTrade } from "../actions.js";
import { between, fullTime, grouped, money, percent, price, quantity, time, tone, words } from "../format.js";
import { rounded } from "../decimal.js";
import { html, useState } from "../html.js";
import { Age, OrderKey, State, Time, Workflow } from "../parts.js";
import { endedSlowly, useRead } from "../read.js";
import { mayAct, openTrades } from "../state.js";
import { Chart } from "./chart.js";
import { currencyOf, Attempts, Facts, Fills, Gates, Indicators, Part, Small, Timeline, Why } from "./sections.js";
import { Stops } from "./stops.js";

/** @param {{id: string}} props id: the key of the trade's entry, or of an order that sells of it */
export function view({ id }) {
  const live = openTrades.get(id);
  const version = live ? [live.state, live.entry_size, live.exits, live.remaining, live.hard_stop, live.soft_stop, live.trailing_stop, live.take_profit].join() : `closed/${endedSlowly.value}`;
  const { data, loading, problem } = useRead(`/api/trades/${encodeURIComponent(id)}`, {}, version);
  const [moving, setMoving] = useState(false);
  if (!data) return html`<p class=${problem ? "problem" : "none"} role=${problem ? "alert" : "status"}>${problem || (loading ? "Loading …" : "")}</p>`;
  const { entry } = data;
  const trade = live ?? openTrades.get(entry.order_key) ?? data.trade;
  const open = trade !== null && trade.state !== "CLOSED";
  const currency = currencyOf(entry.symbol);
  const acts = open && mayAct.value;
  return html`<article class="drawer-body" data-trade=${entry.order_key}>
    <header class="drawer-head">
      <h2>${entry.symbol} <small>trade by ${entry.trigger}</small></h2>
      <p>
        <${State} state=${trade ? trade.state : entry.public_state} />
        ${trade && trade.watched === false && html` <span class="state bad">NOT WATCHED</span>`}
        <span class="mono key">${entry.order_key}</span>
        <${Workflow} id=${entry.workflow_id} text="Entry ↗" /> ${trade && html`<${Workflow} id=${trade.exit_workflow_id} text="Exits ↗" />`}
      </p>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${acts &&
      html`<div class="buttons">
        <button type="button" class="quiet" aria-expanded=${moving} onClick=${() => setMoving(!moving)}>Move stops</button>
        <button type="button" class="danger" onClick=${() => closeTrade(trade)}>Close</button>
      </div>`}
    </header>
    ${acts && moving && html`<${Stops} trade=${trade} done=${() => setMoving(false)} />`}
    ${trade && html`<${Facts} facts=${factsOf(trade, currency)} />`}
    ${trade && html`<${Chart} trade=${trade} exits=${data.exits} />`}
    <${Why} why=${data.why} />
    ${data.result && html`<${Result} result=${data.result} lots=${data.lots} currency=${currency} />`}
    ${data.exits.length > 0 && html`<${Exits} exits=${data.exits} currency=${currency} />`}
    <${Indicators} decision=${data.decision} />
    <${Gates} gates=${data.gates} />
    <${Attempts} attempts=${data.attempts} />
    <${Fills} fills=${data.fills} currency=${currency} />
    ${data.stop_changes.length > 0 && html`<${Moves} moves=${data.stop_changes} />`}
    <${Timeline} lines=${data.timeline} />
  </article>`;
}

/** @param {import("../types.d.ts").TradeRow} trade @param {string} currency @returns {Array<[string, any]>} */
function factsOf(trade, currency) {
  const closed = trade.state === "CLOSED";
  const amount = (/** @type {string | null} */ text, signed = false) => text && html`<span class=${signed ? tone(text) : ""}>${money(text, { currency, signed, unit: true })}</span>`;
  const both = (/** @type {string | null} */ text, /** @type {string | null} */ fraction) =>
    text && html`<span class=${tone(text)}>${money(text, { currency, signed: true, unit: true })}${fraction ? ` (${percent(fraction, { signed: true })})` : ""}</span>`;
  const units = trade.result_in_risk && html`<span class=${tone(trade.result_in_risk)}>${grouped(rounded(trade.result_in_risk, 2, true), true)}</span>`;
  return [
    ["Bought", `${quantity(trade.entry_size)} at ${price(trade.entry_price)}`],
    ["Left", closed ? null : quantity(trade.remaining)],
    ["Bid", closed ? null : trade.bid && html`${price(trade.bid)} <small><${Age} at=${trade.price_at} /></small>`],
    ["Would gain", closed ? null : both(trade.unrealised_pnl, trade.would_gain_fraction)],
    ["At risk", closed ? null : amount(trade.at_risk)],
    ["Nearest stop", closed ? null : trade.nearest_stop && `${price(trade.nearest_stop)}${trade.stop_distance ? `, ${percent(trade.stop_distance)} away` : ""}`],
    ["Hard stop", closed ? null : trade.hard_stop && price(trade.hard_stop)],
    ["Soft stop", closed ? null : trade.soft_stop && price(trade.soft_stop)],
    ["Trailing", closed ? null : trade.trailing_stop ? `stop ${price(trade.trailing_stop)}, peak ${price(trade.trailing_peak)}` : trade.trailing_arms_at && `arms at ${price(trade.trailing_arms_at)}`],
    ["Target", closed ? null : trade.take_profit && price(trade.take_profit)],
    ["Protected by", closed ? null : [trade.watched ? "price watcher" : "", trade.protections ? `${trade.protections} at the exchange` : ""].filter(Boolean).join(", ") || "nobody"],
    ["Sold", trade.exit_price && `${quantity(trade.exit_size)} at ${price(trade.exit_price)}`],
    ["Exit", trade.exit_reason && words(trade.exit_reason)],
    ["Result", both(trade.pnl, trade.result_fraction)],
    ["In units of risk", units],
    ["Unit of risk", amount(trade.unit_of_risk ?? null)],
    ["Slippage", amount(trade.slippage ?? null, true)],
    ["Fees", amount(trade.fees)],
    ["Score", trade.buy_score],
    ["Opened", html`<${Time} at=${trade.opened_at} />`],
    [closed ? "Closed" : "Held", closed ? html`<time title=${fullTime(trade.closed_at)}>${time(trade.closed_at)} (held ${between(trade.opened_at, trade.closed_at)})</time>` : html`<${Age} at=${trade.opened_at} />`],
  ];
}

/** Where each cent comes from: the sum, then the lots. @param {{result: any, lots: any[], currency: string}} props */
function Result({ result, lots, currency }) {
  const line = (/** @type {string} */ name, /** @type {string} */ text) => [name, html`<span class=${tone(text)}>${money(text, { currency, signed: true })}</span>`];
  const minus = (/** @type {string} */ text) => (/[1-9]/.test(text) ? (text.startsWith("-") ? text.slice(1) : `-${text}`) : text);
  return html`<${Part} title="Where each cent comes from" name="result">
    <${Small}
      label="Parts of the result"
      head=${["", currency]}
      right=${[1]}
      rows=${[
        line("Entry price to the prices that made the exits due", result.price_gain),
        line("Slippage", result.slippage),
        line("Fees of the entry", minus(result.entry_fees)),
        line("Fees of the exits", minus(result.exit_fees)),
        [html`<b>P&L</b>`, html`<b class=${tone(result.pnl)}>${money(result.pnl, { currency, signed: true })}</b>`],
      ]}
    />
    <h4>Lot by lot (FIFO)</h4>
    <${Small}
      label="Lots"
      empty="The FIFO book has no lot of these sells yet."
      head=${["bought", "sold", "size", "buy price", "sell price", "fees", "P&L", "bought by"]}
      right=${[2, 3, 4, 5, 6]}
      rows=${lots.map((lot) => [
        html`<time title=${fullTime(lot.buy_time)}>${time(lot.buy_time)}</time>`,
        html`<time title=${fullTime(lot.sell_time)}>${time(lot.sell_time)}</time>`,
        quantity(lot.size),
        price(lot.buy_price),
        price(lot.sell_price),
        `${money(lot.buy_fees, { currency })} + ${money(lot.sell_fees, { currency })}`,
        html`<span class=${tone(lot.pnl)}>${money(lot.pnl, { currency, signed: true })}</span>`,
        lot.buy_order_key ? html`<${OrderKey} id=${lot.buy_order_key} />` : "no lot",
      ])}
    />
  <//>`;
}

/** @param {{exits: any[], currency: string}} props */
function Exits({ exits, currency }) {
  return html`<${Part} title="Exits" name="exits">
    <${Small}
      label="Exits"
      head=${["order", "reason", "target", "due at", "sold", "at", "gross", "net", "slippage", "fees", "due to sold"]}
      right=${[2, 3, 4, 5, 6, 7, 8, 9]}
      rows=${exits.map((row) => [
        html`<${OrderKey} id=${row.order_key} />`,
        words(row.reason),
        percent(row.target_fraction, { signed: true }),
        price(row.trigger_price),
        quantity(row.size),
        price(row.average_price),
        html`<span class=${tone(row.achieved_gross)}>${percent(row.achieved_gross, { signed: true })}</span>`,
        html`<span class=${tone(row.achieved_net)}>${percent(row.achieved_net, { signed: true })}</span>`,
        html`<span class=${tone(row.slippage)} title="quote per base">${price(row.slippage)}</span>`,
        money(row.fees, { currency }),
        between(row.due_at, row.at),
      ])}
    />
  <//>`;
}

/** @param {{moves: any[]}} props */
function Moves({ moves }) {
  return html`<${Part} title="Stops that were moved" name="moves">
    <${Small}
      label="Stops that were moved"
      head=${["at", "by", "from where to where", "note"]}
      rows=${moves.map((row) => [html`<time title=${fullTime(row.at)}>${time(row.at)}</time>`, row.given_by, row.sentence, row.note || "–"])}
    />
  <//>`;
}
