/** Monitoring: incidents that last, health by part, streams, notices, signals and runs of the strategy. */

import { haltGroup, resolveIncident, resumeGroup } from "../actions.js";
import { age, between, fullTime, money, NONE, quantity, time, tone, words } from "../format.js";
import { html, useState } from "../html.js";
import { Age, OrderKey, Side, State, Workflow } from "../parts.js";
import { each5s, useRead } from "../read.js";
import { filter, openOrder, route } from "../route.js";
import { mayAct, now, session, summary } from "../state.js";
import { Small } from "../drawer/sections.js";

const KEY = /^[0-9a-f]{32}$/;

/** What an incident is about: a link where it is an order. @param {{subject: string | null, symbol?: string | null}} props */
export function Subject({ subject, symbol }) {
  if (!subject) return NONE;
  return KEY.test(subject) ? html`${symbol ? `${symbol} ` : ""}<${OrderKey} id=${subject} />` : subject;
}

/** @param {{severity: string}} props */
export function Severity({ severity }) {
  const kind = severity === "CRITICAL" ? "bad" : severity === "WARNING" ? "warn" : "";
  return html`<span class=${`state ${kind}`}>${severity}</span>`;
}

/** How many messages went to how many targets. @param {{messages: number, targets: number}} row */
export function toldOf({ messages, targets }) {
  return targets ? `${messages} to ${targets}` : "not told";
}

/** @param {{incidents: any[]}} props */
function Incidents({ incidents }) {
  const trades = session.value?.role === "trade";
  return html`<${Panel} title="Incidents" name="incidents" count=${incidents.length}>
    <${Small}
      label="Incidents"
      empty="No incident is open."
      head=${["since", "severity", "kind", "about", "what happened", "told", ...(trades ? [""] : [])]}
      rows=${incidents.map((row) => [
        html`<${Age} at=${row.at} />`,
        html`<${Severity} severity=${row.severity} />`,
        words(row.kind),
        html`<${Subject} subject=${row.subject} symbol=${row.symbol} />`,
        html`<span class="wide">${row.sentence}</span>`,
        toldOf(row),
        ...(trades ? [html`<button type="button" class="small" disabled=${!mayAct.value} onClick=${() => resolveIncident(row)}>Resolve</button>`] : []),
      ])}
    />
  <//>`;
}

/** What strategies and triggers use of their limits. @param {{limits: any}} props */
function Limits({ limits }) {
  const trades = session.value?.role === "trade";
  const { currency, groups } = limits;
  const sum = (/** @type {string | null} */ amount) => (amount === null ? "not known" : money(amount, { currency }));
  const of = (/** @type {any} */ used, /** @type {any} */ limit) => (limit === null ? NONE : `${used} of ${limit}`);
  const all = limits.open_trades_limit === null ? null : `${limits.open_trades} of ${limits.open_trades_limit} open trades and entries of the account`;
  return html`<${Panel} title=${`Limits of strategies and triggers, in ${currency}`} name="limits" count=${groups.length} note=${all}>
    <${Small}
      label="Limits"
      empty="No strategy or trigger has limits of its own."
      head=${["strategy or trigger", "open of budget", "open trades", "P&L today", "loss limit", "entries", ...(trades ? [""] : [])]}
      right=${[1, 2, 3, 4]}
      rows=${groups.map((/** @type {any} */ row) => [
        html`<span title=${row.triggers.join(", ")}>${row.kind} <b>${row.name}</b></span>`,
        row.budget === null ? NONE : of(sum(row.open_money), sum(row.budget)),
        of(row.open_trades, row.open_trades_limit),
        row.loss_limit === null ? NONE : html`<span class=${tone(row.pnl_today)}>${sum(row.pnl_today)}</span>`,
        row.loss_limit === null ? NONE : sum(`-${row.loss_limit}`),
        html`<${Standing} row=${row} />`,
        ...(trades ? [html`<${Switch} row=${row} />`] : []),
      ])}
    />
  <//>`;
}

/** Whether a strategy's or trigger's entries pass. @param {{row: any}} props */
function Standing({ row }) {
  if (!row.halted) return html`<span class="state good">allowed</span>`;
  return html`<span class="state bad">HALTED</span> <span class="wide">by ${row.halted_by}, <${Age} at=${row.since} /></span>`;
}

/** @param {{row: any}} props */
function Switch({ row }) {
  const [name, run] = row.halted ? ["Resume", resumeGroup] : ["Halt", haltGroup];
  return html`<button type="button" class="small" disabled=${!mayAct.value} onClick=${() => run(row)}>${name}</button>`;
}

/** Findings on each part. @param {{version: number}} props */
function Health({ version }) {
  const { data, problem } = useRead("/api/monitoring/health", {}, Math.floor(version / 3));
  const findings = data?.findings ?? [];
  const bad = findings.filter((/** @type {any} */ row) => row.verdict !== "ok").length;
  /** @type {Record<string, string>} */
  const kinds = { ok: "good", warn: "warn", fail: "bad" };
  return html`<${Panel} title="Health by part" name="health" count=${data ? bad : undefined} note=${data && `as of ${age(data.at, now.value)} ago`}>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${!data && !problem && html`<p class="none">Each part is being checked …</p>`}
    ${data &&
    html`<${Small}
      label="Health by part"
      head=${["part", "", "finding", "what to do"]}
      rows=${findings.map((/** @type {any} */ row) => [
        row.check,
        html`<span class=${`state ${kinds[row.verdict] ?? ""}`}>${row.verdict}</span>`,
        html`<span class="wide">${row.finding}</span>`,
        html`<span class="wide">${row.advice || NONE}</span>`,
      ])}
    />`}
  <//>`;
}

/** @param {{data: any}} props */
function Streams({ data }) {
  const check = data.ledger_check;
  const checkWords = check ? `${check.ok ? "ok" : `${check.violations} violations`}, ${age(check.at, now.value)} ago, took ${Number(check.seconds).toFixed(1)} s` : "none has run yet";
  return html`<${Panel} title="Streams, ledger, notices" name="streams">
    <${Small}
      label="Streams"
      empty="There are no streams."
      head=${["stream", "", "last message", "reconnects", "gaps", "unreadable"]}
      right=${[3, 4, 5]}
      rows=${data.streams.map((/** @type {any} */ row) => [
        row.name,
        html`<span class=${`state ${row.held && row.connected ? "good" : "bad"}`}>${!row.held ? "nobody reads it" : row.connected ? "connected" : "not connected"}</span>`,
        row.last_message_at ? html`<${Age} at=${row.last_message_at} />` : "none yet",
        row.connections === null ? NONE : String(Math.max(row.connections - 1, 0)),
        row.gaps ?? NONE,
        row.malformed ?? NONE,
      ])}
    />
    <${Small}
      label="Ledger and prices"
      head=${["", ""]}
      rows=${[
        ["Ledger check", html`<span class=${check && !check.ok ? "state bad" : ""}>${checkWords}</span>`],
        ["Oldest price of an open trade", data.prices?.oldest_at ? html`<${Age} at=${data.prices.oldest_at} />` : NONE],
        ["Orders of unknown outcome", String(data.counts.unknown_orders ?? 0)],
      ]}
    />
    <${Small}
      label="Notices"
      empty="No message has been sent to anybody yet."
      head=${["target of notices", "last sent", "failures in a row", "last error"]}
      right=${[2]}
      rows=${(data.notices ?? []).map((/** @type {any} */ row, /** @type {number} */ index) => [
        String(index + 1),
        row.last_delivered_at ? html`<${Age} at=${row.last_delivered_at} />` : "never",
        html`<span class=${row.failures ? "state bad" : ""}>${row.failures}</span>`,
        html`<span class="wide">${row.last_error ?? NONE}</span>`,
      ])}
    />
  <//>`;
}

/** @param {{signals: any[]}} props */
function Signals({ signals }) {
  return html`<${Panel} title="Signals" name="signals" count=${signals.length}>
    <${Small}
      label="Signals"
      empty="There has been no signal."
      head=${["at", "symbol", "side", "trigger", "source", "became", "why", "order"]}
      rows=${signals.map((row) => [
        html`<time title=${fullTime(row.at)}>${time(row.at)}</time>`,
        html`<${WhySymbol} symbol=${row.symbol} />`,
        html`<${Side} side=${row.side} />`,
        row.trigger,
        row.source,
        words(row.decision),
        html`<span class="wide">${row.sentence || NONE}</span>`,
        row.order_key ? html`<${OrderKey} id=${row.order_key} />` : NONE,
      ])}
    />
  <//>`;
}

/** A product; a click asks why it was traded or not. @param {{symbol: string}} props */
function WhySymbol({ symbol }) {
  return html`<button type="button" class="link" title=${`Why ${symbol} was traded or not`} onClick=${() => filter({ why: symbol })}>${symbol}</button>`;
}

/** @param {{runs: any[]}} props */
function Runs({ runs }) {
  return html`<${Panel} title="Runs of the strategy" name="runs" count=${runs.length}>
    <${Small}
      label="Runs"
      empty="The strategy has not run yet."
      head=${["at", "products", "buys", "sells", "took", "state"]}
      right=${[1, 2, 3, 4]}
      rows=${runs.map((row) => [
        html`<time title=${fullTime(row.at)}>${time(row.at)}</time>`,
        row.symbols,
        row.buys,
        row.sells,
        between(row.started_at, row.finished_at),
        row.finished_at ? "finished" : html`<span class="state warn">not finished</span>`,
      ])}
    />
  <//>`;
}

/** The product that is asked about; "": none. */
function whyOf() {
  return route.value.params.why ?? "";
}

/** Why a product was traded or not: what is typed, or chosen from a signal. */
function Why() {
  const asked = whyOf();
  const [typed, setTyped] = useState(asked);
  const ask = (/** @type {Event} */ event) => {
    event.preventDefault();
    filter({ why: typed.trim().toUpperCase() });
  };
  return html`<${Panel} title="Why was it traded, or not?" name="why">
    <form class="ask" onSubmit=${ask}>
      <input aria-label="Product" placeholder="BTC-USD" maxlength="40" value=${typed} onInput=${(/** @type {any} */ event) => setTyped(event.target.value)} />
      <button type="submit">Why?</button>
    </form>
    ${asked && html`<${Answers} symbol=${asked} />`}
  <//>`;
}

/** @param {{symbol: string}} props */
function Answers({ symbol }) {
  const { data, problem } = useRead(`/api/why/${encodeURIComponent(symbol)}`, { last: 3 }, each5s.value);
  if (!data) return html`<p class=${problem ? "problem" : "none"} role=${problem ? "alert" : "status"}>${problem || "Loading …"}</p>`;
  const order = data.orders[0];
  return html`${data.answers.map((/** @type {string} */ answer) => html`<p class="why">${answer}</p>`)}
    <${Small}
      label="Decisions"
      empty="No run has evaluated it."
      head=${["run", "decided", "trigger", "buy score", "sell score", "price", "why"]}
      right=${[3, 4, 5]}
      rows=${data.matrix.map((/** @type {any} */ row) => [
        html`<time title=${fullTime(row.at)}>${time(row.at)}</time>`,
        row.action,
        row.trigger ?? NONE,
        row.buy_score ?? NONE,
        row.sell_score ?? NONE,
        quantity(row.price),
        html`<span class="wide">${row.reason || NONE}</span>`,
      ])}
    />
    ${order &&
    html`<p class="last-order"><button type="button" class="link" onClick=${() => openOrder(order.order_key)}>The last order with its gates</button>
      <${State} state=${order.state} /> <${Workflow} id=${`order-${order.order_key}`} /></p>`}`;
}

/** @param {{title: string, name: string, count?: number, note?: string | null, children?: any}} props */
function Panel({ title, name, count, note, children }) {
  return html`<section class="panel" data-panel=${name}>
    <h3>${title}${count === undefined ? "" : html` <span class="number">${count}</span>`}${note ? html` <small>${note}</small>` : ""}</h3>
    ${children}
  </section>`;
}

export function view() {
  const version = `${each5s.value}/${summary.value?.counts.open_incidents ?? ""}`;
  const { data, problem } = useRead("/api/monitoring/summary", {}, version);
  if (!data) return html`<p class=${problem ? "problem" : "empty"} role=${problem ? "alert" : "status"}>${problem || "Loading …"}</p>`;
  return html`<div class="monitoring">
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <${Incidents} incidents=${data.incidents} />
    <${Limits} limits=${data.limits} />
    <${Health} version=${each5s.value} />
    <${Streams} data=${data} />
    <${Why} key=${whyOf()} />
    <${Signals} signals=${data.signals} />
    <${Runs} runs=${data.runs ?? []} />
  </div>`;
}
