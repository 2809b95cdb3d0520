/** Small pieces that several views use. */

import { age, fullTime, short, time } from "./format.js";
import { html } from "./html.js";
import { filter, openOrder, openTrade, route } from "./route.js";
import { now, workflowAddress } from "./state.js";

/** How old something is; it runs by itself. @param {{at: string | null}} props */
export function Age({ at }) {
  return html`<time datetime=${at ?? ""} title=${fullTime(at)}>${age(at, now.value)}</time>`;
}

/** A time. @param {{at: string | null}} props */
export function Time({ at }) {
  return html`<time datetime=${at ?? ""} title=${fullTime(at)}>${time(at)}</time>`;
}

/** An order's key: opens the drawer. @param {{id: string}} props */
export function OrderKey({ id }) {
  return html`<button type="button" class="link mono" title=${`Order ${id}`} onClick=${() => openOrder(id)}>${short(id)}</button>`;
}

/** A trade's key: opens the drawer. @param {{id: string | null}} props */
export function TradeKey({ id }) {
  if (!id) return "–";
  return html`<button type="button" class="link mono" title=${`Trade ${id}`} onClick=${() => openTrade(id)}>${short(id)}</button>`;
}

/** A link to a workflow in Temporal's Web UI; nothing where there is none. @param {{id: string, text?: string}} props */
export function Workflow({ id, text = "↗" }) {
  const to = workflowAddress(id);
  return to && html`<a href=${to} target="_blank" rel="noreferrer noopener" title=${`Workflow ${id}`} aria-label=${`Workflow ${id}`}>${text}</a>`;
}

/** BUY or SELL. @param {{side: string | null}} props */
export function Side({ side }) {
  return html`<span class=${side === "BUY" ? "buy" : "sell"}>${side ?? "–"}</span>`;
}

/**
 * Chips of which one is chosen; the choice is in the address. Chosen again, it is taken away.
 * @param {{name: string, values: Array<[string, string]>, label: string}} props values: value and text
 */
export function Chips({ name, values, label }) {
  const chosen = route.value.params[name] ?? "";
  return html`<div class="chips" role="group" aria-label=${label}>
    ${values.map(
      ([value, text]) => html`<button
        type="button"
        class="chip"
        aria-pressed=${chosen === value}
        onClick=${() => filter({ [name]: chosen === value ? null : value })}
      >
        ${text}
      </button>`,
    )}
  </div>`;
}

/** A state in words, coloured by what it means. @param {{state: string}} props */
export function State({ state }) {
  const kind =
    state === "UNKNOWN" || state === "FAILED" || state === "REJECTED" ? "bad"
    : state === "FILLED" || state === "ACTIVE" || state === "PROTECTED" ? "good"
    : "";
  return html`<span class=${`state ${kind}`}>${state.replaceAll("_", " ")}</span>`;
}
