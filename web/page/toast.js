/** Short messages at the edge of the page. Those of errors stay until they are closed. */

import { html, signal } from "./html.js";

/** @typedef {{id: number, text: string, kind: "good" | "bad"}} Toast */

const SECONDS = 8;
const MOST = 5;
let made = 0;
const toasts = signal(/** @type {Toast[]} */ ([]));

/** Tell something. @param {string} text a sentence @param {"good" | "bad"} [kind] */
export function tell(text, kind = "good") {
  made += 1;
  const id = made;
  toasts.value = [...toasts.value, { id, text, kind }].slice(-MOST);
  if (kind === "good") setTimeout(() => close(id), SECONDS * 1000);
}

/** @param {number} id */
function close(id) {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">
    ${toasts.value.map(
      (toast) => html`<div key=${toast.id} class=${`toast ${toast.kind}`}>
        <span>${toast.text}</span>
        <button type="button" class="quiet" aria-label="Close message" onClick=${() => close(toast.id)}>×</button>
      </div>`,
    )}
  </div>`;
}
