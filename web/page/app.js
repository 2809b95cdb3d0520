/** The page: who is logged in, the tab and the drawer that the address names, and the keyboard. */

import { get, Problem, sentence } from "./api.js";
import { Dialogs } from "./dialog.js";
import { html, render, signal, useEffect, useState } from "./html.js";
import { LogIn } from "./login.js";
import { closeDrawer, go, route } from "./route.js";
import { about, session, stale } from "./state.js";
import { follow } from "./stream.js";
import { keyboard } from "./table.js";
import * as openOrdersTab from "./tabs/open_orders.js";
import { Toasts } from "./toast.js";
import { applyTheme, help, TABS, tellFault, Top } from "./top.js";

/** @typedef {{view: (props: any) => any}} View */

/** Views are loaded when they are first shown; the first one comes with the page. @type {Record<string, () => Promise<View>>} */
const VIEWS = {
  "open-orders": async () => openOrdersTab,
  "executed-orders": () => import("./tabs/executed_orders.js"),
  trades: () => import("./tabs/trades.js"),
  monitoring: () => import("./tabs/monitoring.js"),
  audit: () => import("./tabs/audit.js"),
  order: () => import("./drawer/order.js"),
  trade: () => import("./drawer/trade.js"),
};

/** @type {Map<string, View>} */
const loaded = new Map([["open-orders", openOrdersTab]]);

/** A view by name, with its properties. @param {{name: string, props?: object}} given */
function Lazy({ name, props = {} }) {
  const [, again] = useState(0);
  const [problem, setProblem] = useState("");
  const view = loaded.get(name)?.view;
  useEffect(() => {
    if (loaded.has(name)) return;
    setProblem("");
    VIEWS[name]().then(
      (found) => {
        loaded.set(name, found);
        again((old) => old + 1);
      },
      () => setProblem("This part of the page could not be loaded: reload the page."),
    );
  }, [name]);
  if (view) return html`<${view} key=${name} ...${props} />`;
  return html`<p class="empty">${problem || "Loading …"}</p>`;
}

function Drawer() {
  const { order, trade } = route.value.params;
  const name = order ? "order" : "trade";
  const id = order || trade;
  if (!id) return null;
  return html`<aside class="drawer" aria-label=${name === "order" ? "Order" : "Trade"}>
    <button type="button" class="quiet close" aria-label="Close" title="Close ( Esc )" onClick=${closeDrawer}>×</button>
    <${Lazy} key=${`${name} ${id}`} name=${name} props=${{ id }} />
  </aside>`;
}

function Shell() {
  const live = about.value?.mode === "live";
  return html`<div class=${`shell ${live ? "live" : ""} ${stale.value ? "old" : ""}`}>
    <${Top} />
    <div class="main">
      <main class="content"><${Lazy} key=${route.value.tab} name=${route.value.tab} /></main>
      <${Drawer} />
    </div>
    <footer class="foot">
      <span>${about.value ? `Account ${about.value.account}` : ""}</span>
      <span>
        Charts: TradingView Lightweight Charts™, Copyright © 2025 TradingView, Inc.
        ${" "}<a href="https://www.tradingview.com/" target="_blank" rel="noreferrer noopener">tradingview.com</a>
      </span>
    </footer>
  </div>`;
}

/** "": being asked; "in": see `session`; else why it can't be asked. */
const start = signal("");

function App() {
  if (session.value) return html`<${Shell} /><${Dialogs} /><${Toasts} />`;
  if (start.value === "") return html`<p class="empty">Loading …</p>`;
  if (start.value !== "in") return html`<p class="banner" role="alert">${start.value}</p>`;
  return html`<${LogIn} />`;
}

let waitsForTab = 0;

/** @param {KeyboardEvent} event */
function pressed(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (!session.value || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (target.closest("input, select, textarea")) return;
  const { key } = event;
  const after = waitsForTab > performance.now();
  waitsForTab = 0;
  if (after) {
    const tab = TABS.find((found) => found.key === key);
    if (tab) go(tab.id);
    return;
  }
  if (key === "Enter" && target.closest("button, a, summary")) return;
  /** @type {Record<string, () => void>} */
  const what = {
    g: () => (waitsForTab = performance.now() + 1500),
    j: () => keyboard.current?.move(1),
    k: () => keyboard.current?.move(-1),
    Enter: () => keyboard.current?.open(),
    "/": () => keyboard.current?.search(),
    "?": help,
    Escape: closeDrawer,
  };
  if (!what[key]) return;
  event.preventDefault();
  what[key]();
}

async function begin() {
  applyTheme();
  addEventListener("keydown", pressed);
  addEventListener("unhandledrejection", (event) => tellFault(event.reason));
  render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("page")));
  try {
    session.value = await get("/api/session");
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) {
      start.value = sentence(error);
      return;
    }
  }
  start.value = "in";
  follow();
}

begin();
