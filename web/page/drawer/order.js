/** One order: why it was placed or not, how it ended, gates, attempts, fills, what happened when. */

import { cancelOrder } from "../actions.js";
import { fullTime, money, percent, price, quantity, words } from "../format.js";
import { html } from "../html.js";
import { Age, Side, State, Time, TradeKey, Workflow } from "../parts.js";
import { endedSlowly, useRead } from "../read.js";
import { mayAct, openOrders } from "../state.js";
import { currencyOf, Attempts, Facts, Fills, Gates, Indicators, Timeline, Why } from "./sections.js";

/** @param {{id: string}} props id: the order's key */
export function view({ id }) {
  const live = openOrders.get(id);
  const version = live ? `${live.state}/${live.filled_size}/${live.attempts}` : `ended/${endedSlowly.value}`;
  const { data, loading, problem } = useRead(`/api/orders/${encodeURIComponent(id)}`, {}, version);
  if (!data) return html`<p class=${problem ? "problem" : "none"} role=${problem ? "alert" : "status"}>${problem || (loading ? "Loading …" : "")}</p>`;
  const order = live ?? data.order;
  const currency = currencyOf(order.symbol);
  return html`<article class="drawer-body" data-order=${id}>
    <header class="drawer-head">
      <h2><${Side} side=${order.side} /> ${order.symbol} <small>${words(order.kind)}</small></h2>
      <p><${State} state=${order.public_state} />${order.state === order.public_state ? "" : html` <${State} state=${order.state} />`} <span class="mono key">${id}</span> <${Workflow} id=${order.workflow_id} text="Workflow ↗" /></p>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${live && order.kind !== "external" && mayAct.value && html`<div class="buttons"><button type="button" class="danger" onClick=${() => cancelOrder(order)}>Cancel</button></div>`}
    </header>
    <${Facts} facts=${factsOf(order, currency)} />
    <${Why} why=${data.why} />
    <${Indicators} decision=${data.decision} />
    <${Gates} gates=${data.gates} />
    <${Attempts} attempts=${data.attempts} />
    <${Fills} fills=${data.fills} currency=${currency} />
    <${Timeline} lines=${data.timeline} />
  </article>`;
}

/** @param {import("../types.d.ts").OrderRow} order @param {string} currency @returns {Array<[string, any]>} */
function factsOf(order, currency) {
  const open = ["NEW", "ACTIVE", "PARTIALLY_FILLED"].includes(order.public_state);
  return [
    ["Type", [order.order_type, order.time_in_force, order.post_only ? "post only" : ""].filter(Boolean).join(" · ")],
    ["Role", order.protection_role ?? order.role],
    ["Size", order.base_size === null ? order.quote_size && money(order.quote_size, { currency, unit: true }) : quantity(order.base_size)],
    ["Limit", order.limit_price && price(order.limit_price)],
    ["Filled", `${quantity(order.filled_size)}${order.filled_fraction ? ` (${percent(order.filled_fraction, { places: 0 })})` : ""}`],
    ["Average", order.average_price && price(order.average_price)],
    ["Fees", money(order.fees, { currency, unit: true })],
    ["Distance to touch", order.distance_to_touch && percent(order.distance_to_touch)],
    ["Trigger", order.trigger],
    ["Source", order.source],
    ["Exit reason", order.exit_reason],
    ["Result", order.achieved_net && `${percent(order.achieved_net, { signed: true })} after fees`],
    ["Status from", order.status_source],
    ["Trade", order.trade_state && html`<${TradeKey} id=${order.entry_key ?? order.order_key} />`],
    ["Received", html`<${Time} at=${order.received_at} />`],
    [open ? "Age" : "Ended", open ? html`<${Age} at=${order.received_at} />` : html`<time title=${fullTime(order.ended_at)}><${Time} at=${order.ended_at} /></time>`],
  ];
}
