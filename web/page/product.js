/** A field for a product, kept in the address as `symbol`: the list is read for it alone. */

import { html } from "./html.js";
import { filter, route } from "./route.js";

export function Product() {
  const { symbol = "" } = route.value.params;
  const take = (/** @type {any} */ event) => filter({ symbol: event.target.value.trim().toUpperCase() });
  return html`<input
    type="search"
    class="product"
    placeholder="Product"
    aria-label="Only this product"
    maxlength="40"
    value=${symbol}
    onChange=${take}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" || event.key === "Enter") /** @type {HTMLElement} */ (event.target).blur();
    }}
  />`;
}
