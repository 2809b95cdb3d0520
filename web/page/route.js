/**
 * Where the page is: `#/open-orders?kind=exit&q=BTC&order=<key>`. The tab and its filters are in the address, so that
 * a link or a reload leads to the same view; `order` or `trade` is what the drawer shows.
 */

import { signal } from "./html.js";

/** @typedef {{tab: string, params: Record<string, string>}} Route */

export const TABS = ["open-orders", "executed-orders", "trades", "monitoring", "audit"];

export const route = signal(read());

/** @returns {Route} */
function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const tab = TABS.includes(path) ? path : TABS[0];
  return { tab, params: Object.fromEntries(new URLSearchParams(query)) };
}

addEventListener("hashchange", () => {
  route.value = read();
});

/** @param {Route} to @param {boolean} replace whether Back skips the present view */
function set({ tab, params }, replace) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== ""));
  history[replace ? "replaceState" : "pushState"](null, "", `#/${tab}${query.size ? `?${query}` : ""}`);
  route.value = read();
}

/** To a tab, without the filters of the present one. @param {string} tab @param {Record<string, string>} [params] */
export function go(tab, params = {}) {
  set({ tab, params }, false);
}

/** Filters of the present tab; "" or null takes one away. @param {Record<string, string | null>} params */
export function filter(params) {
  const { tab, params: old } = route.value;
  /** @type {Record<string, string>} */
  const merged = { ...old };
  for (const [name, value] of Object.entries(params)) merged[name] = value ?? "";
  set({ tab, params: merged }, true);
}

/** Show an order in the drawer. @param {string} key */
export function openOrder(key) {
  const { tab, params } = route.value;
  set({ tab, params: { ...params, order: key, trade: "" } }, Boolean(params.order || params.trade));
}

/** Show a trade in the drawer. @param {string} key */
export function openTrade(key) {
  const { tab, params } = route.value;
  set({ tab, params: { ...params, trade: key, order: "" } }, Boolean(params.order || params.trade));
}

/** Close the drawer. */
export function closeDrawer() {
  filter({ order: null, trade: null });
}
