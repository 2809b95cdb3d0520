/** What the drawer of an order and that of a trade have in common. */

import { fullTime, money, price, quantity, short, time, words } from "../format.js";
import { html } from "../html.js";
import { OrderKey, Side, State } from "../parts.js";

/**
 * A table of few rows, drawn whole.
 * @param {{head: string[], rows: any[][], right?: number[], empty?: string, label: string}} props right: columns of numbers
 */
export function Small({ head, rows, right = [], empty = "Nothing.", label }) {
  if (!rows.length) return html`<p class="none">${empty}</p>`;
  const side = (/** @type {number} */ index) => (right.includes(index) ? "right" : "");
  return html`<div class="few-scroll">
    <table class="few" aria-label=${label}>
      <thead>
        <tr>
          ${head.map((title, index) => html`<th scope="col" class=${side(index)}>${title}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map((row) => html`<tr>${row.map((cell, index) => html`<td class=${side(index)}>${cell}</td>`)}</tr>`)}
      </tbody>
    </table>
  </div>`;
}

/** Names and values. @param {{facts: Array<[string, any]>}} props facts of null or undefined are left out */
export function Facts({ facts }) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${known.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** A part of the drawer with its title. @param {{title: string, name: string, children?: any}} props */
export function Part({ title, name, children }) {
  return html`<section class="part" data-part=${name}>
    <h3>${title}</h3>
    ${children}
  </section>`;
}

/** Every "why", in the server's sentences. @param {{why: Array<{about: string, title: string, sentences: string[]}>}} props */
export function Why({ why }) {
  return why.map(
    ({ about, title, sentences }) => html`<${Part} title=${title} name=${`why-${about}`}>
      ${sentences.map((sentence) => html`<p class="why">${sentence}</p>`)}
    <//>`,
  );
}

/** Indicators: value, fired, weight, contribution. @param {{decision: any}} props */
export function Indicators({ decision }) {
  const parts = Object.entries(decision?.indicator_breakdown ?? {});
  if (!parts.length) return null;
  parts.sort(([a, one], [b, two]) => Number(Boolean(two.fired)) - Number(Boolean(one.fired)) || (a < b ? -1 : 1));
  return html`<${Part} title="Indicators" name="indicators">
    <${Small}
      label="Indicators"
      head=${["indicator", "value", "fired", "weight", "contribution"]}
      right=${[1, 3, 4]}
      rows=${parts.map(([name, part]) => [
        html`<span title=${part.why ?? ""}>${name}</span>`,
        text(part.value),
        part.fired ? html`<b>yes</b>` : "no",
        text(part.weight),
        text(part.contribution),
      ])}
    />
  <//>`;
}

/** Gates in their order, with what they compared. @param {{gates: any[]}} props */
export function Gates({ gates }) {
  return html`<${Part} title="Gates" name="gates">
    <${Small}
      label="Gates"
      empty="No gate ran."
      head=${["", "gate", "compared"]}
      rows=${gates.map((gate) => [
        gate.passed ? html`<span class="state good">passed</span>` : html`<span class="state bad">REFUSED</span>`,
        html`<span title=${gate.order_key ? `of order ${gate.order_key}` : ""}>${words(gate.gate)}${gate.role === "EXIT" ? " (exit)" : ""}</span>`,
        Object.entries(gate.numbers ?? {})
          .filter(([, value]) => value !== "" && value !== "None" && value !== null)
          .map(([name, value]) => `${words(name)} ${value}`)
          .join(", ") || "–",
      ])}
    />
  <//>`;
}

/** What was sent to the exchange. @param {{attempts: any[]}} props */
export function Attempts({ attempts }) {
  return html`<${Part} title="Attempts" name="attempts">
    <${Small}
      label="Attempts"
      empty="Nothing was sent to the exchange."
      head=${["order", "#", "sent", "status", "size", "limit", "filled", "known from"]}
      right=${[1, 4, 5, 6]}
      rows=${attempts.map((row) => [
        row.order_key ? html`<${OrderKey} id=${row.order_key} />` : html`<span class="mono" title=${row.client_order_id}>${short(row.client_order_id)}</span>`,
        row.number,
        html`<time title=${fullTime(row.prepared_at)}>${time(row.prepared_at)}</time>`,
        html`<span title=${row.refusal_text ?? row.exchange_order_id ?? ""}><${State} state=${row.status} />${row.refusal ? ` ${words(row.refusal)}` : ""}</span>`,
        quantity(row.size),
        price(row.limit_price),
        quantity(row.filled_size),
        row.status_source ?? "–",
      ])}
    />
  <//>`;
}

/** Fills. @param {{fills: any[], currency: string}} props */
export function Fills({ fills, currency }) {
  return html`<${Part} title="Fills" name="fills">
    <${Small}
      label="Fills"
      empty="Nothing has filled."
      head=${["at", "side", "size", "price", "value", "fees", "by"]}
      right=${[2, 3, 4, 5]}
      rows=${fills.map((row) => [
        html`<time title=${fullTime(row.at)}>${time(row.at)}</time>`,
        html`<${Side} side=${row.side} />`,
        quantity(row.size),
        price(row.price),
        money(row.value, { currency }),
        money(row.quote_fees, { currency }),
        row.ingest_via,
      ])}
    />
  <//>`;
}

/** What happened and when, oldest first. @param {{lines: any[]}} props */
export function Timeline({ lines }) {
  return html`<${Part} title="Timeline" name="timeline">
    <ol class="timeline">
      ${lines.map(
        (line) => html`<li class=${`event-${line.kind}`}>
          <time title=${fullTime(line.at)} datetime=${line.at}>${time(line.at)}</time>
          <span>${line.sentence}</span>
        </li>`,
      )}
    </ol>
  <//>`;
}

/** @param {any} value of an indicator: text, a number or nothing */
function text(value) {
  return value === null || value === undefined || value === "" ? "–" : String(value);
}

/** The quote currency of a product: USD of BTC-USD. @param {string} symbol */
export function currencyOf(symbol) {
  return symbol.split(/[-_]/)[1] ?? "";
}
