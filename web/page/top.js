/** What stands above every tab: tabs with counts, mode, switch, clock, and the line of numbers. */

import { act } from "./api.js";
import { flatten, halt, resume } from "./actions.js";
import { show } from "./dialog.js";
import { age, money, NONE, tone } from "./format.js";
import { html, signal } from "./html.js";
import { go, route } from "./route.js";
import { about, mayAct, now, openOrders, openTrades, session, stale, summary } from "./state.js";
import { tell } from "./toast.js";

/** Tab, title, key after g, and count. @type {Array<{id: string, title: string, key: string, count: () => number | undefined}>} */
export const TABS = [
  { id: "open-orders", title: "Open Orders", key: "o", count: () => (openOrders.loaded.value ? openOrders.size : undefined) },
  { id: "executed-orders", title: "Executed Orders", key: "e", count: () => undefined },
  { id: "trades", title: "Trades & P&L", key: "t", count: () => (openTrades.loaded.value ? openTrades.size : undefined) },
  { id: "monitoring", title: "Monitoring", key: "m", count: () => summary.value?.counts.open_incidents },
  { id: "audit", title: "Throttle/Audit", key: "a", count: () => undefined },
];

const THEMES = ["auto", "light", "dark"];
const theme = signal(storedTheme());

function storedTheme() {
  try {
    const found = localStorage.getItem("bottrader.theme") ?? "auto";
    return THEMES.includes(found) ? found : "auto";
  } catch {
    return "auto";
  }
}

/** Light, dark, or as the system has it. */
export function applyTheme() {
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
}

function nextTheme() {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
  applyTheme();
  try {
    localStorage.setItem("bottrader.theme", theme.value);
  } catch {
    // storage is off: it holds until the page is closed
  }
}

export function Top() {
  return html`<header class="top">
      <span class="brand">BotTrader</span>
      <nav class="tabs" aria-label="Tabs">
        ${TABS.map(
          ({ id, title, count }) => html`<button
            type="button"
            class="tab"
            aria-current=${route.value.tab === id ? "page" : null}
            onClick=${() => go(id)}
          >
            ${title}${count() === undefined ? "" : html` <span class="number">${count()}</span>`}
          </button>`,
        )}
      </nav>
      <span class="spring"></span>
      <${Mode} />
      <${Switch} />
      <${Clock} />
      <button type="button" class="quiet" title="Colours: as the system has them, light or dark" onClick=${nextTheme}>${theme.value}</button>
      <button type="button" class="quiet" aria-label="Help" title="Keys ( ? )" onClick=${help}>?</button>
      <button type="button" class="quiet" title=${`${session.value?.name}, role ${session.value?.role}`} onClick=${logOut}>Log out</button>
    </header>
    <${Numbers} />
    <${Staleness} />`;
}

function Mode() {
  const found = about.value;
  if (!found) return null;
  const paper = found.speed === "1" ? "PAPER" : `PAPER ×${found.speed}`;
  return html`<span class="badges">
    <span class=${`badge ${found.mode}`} title=${`Account ${found.account}`}>${found.mode === "live" ? "LIVE" : paper}</span>
    ${found.dry_run && html`<span class="badge dry" title="Decisions are made and recorded, and nothing is sent to the exchange">DRY RUN</span>`}
  </span>`;
}

function Switch() {
  const found = summary.value?.switch;
  const trades = session.value?.role === "trade";
  return html`<span class="badges">
    ${found?.halted &&
    html`<span class="badge halted" title=${`By ${found.by || "–"}: ${found.reason || "no reason given"}`}>Halted</span>`}
    ${trades &&
    found &&
    (found.halted
      ? html`<button type="button" class="small" disabled=${!mayAct.value} onClick=${resume}>Resume</button>`
      : html`<button type="button" class="small" disabled=${!mayAct.value} onClick=${halt}>Halt</button>`)}
    ${trades && html`<button type="button" class="small danger" disabled=${!mayAct.value} onClick=${flatten}>Flatten</button>`}
  </span>`;
}

function Clock() {
  return html`<time class="clock">${new Date(now.value).toISOString().slice(11, 19)} UTC</time>`;
}

/** @param {{name: string, tip: string, children?: any, kind?: string}} props */
function Figure({ name, tip, children, kind = "" }) {
  return html`<div class="figure" title=${tip}><span>${name}</span> <b class=${kind}>${children}</b></div>`;
}

function Numbers() {
  const found = summary.value;
  const today = found?.today;
  const currency = today?.currency;
  const of = (/** @type {"at_risk" | "exposure"} */ what) =>
    !found?.risks ? NONE
    : found.risks.length === 0 ? money("0", { currency, unit: true })
    : found.risks.map((/** @type {any} */ risk) => money(risk[what], { currency: risk.currency, unit: true })).join(" + ");
  // What has no price is in neither sum, so it is said beside them.
  const without = (found?.risks ?? []).reduce((/** @type {number} */ sum, /** @type {any} */ risk) => sum + risk.unpriced, 0);
  const unpriced = without ? html`<small> without ${without} of no known price</small>` : "";
  const streak = today?.losses_in_a_row ?? null;
  // A limit of zero is switched off.
  const most = today?.losses_in_a_row_limit || null;
  const loss = Number(today?.loss_limit ?? 0) > 0 ? today?.loss_limit : null;
  const unprotected = found?.unprotected ?? null;
  return html`<div class=${`numbers ${stale.value ? "old" : ""}`} aria-label="The account in numbers">
    <${Figure} name="Net P&L today (UTC)" tip="Of trades closed today, after fees; behind it the loss at which entries stop" kind=${tone(today?.pnl)}>
      ${money(today?.pnl, { currency, signed: true, unit: true })}${loss ? html`<small> limit ${money(negative(loss), { currency })}</small>` : ""}
    <//>
    <${Figure} name="At risk" tip="What is lost if every open trade sells at its nearest stop, before fees">${of("at_risk")}${unpriced}<//>
    <${Figure} name="Exposure" tip="What the open trades are worth at the bid">${of("exposure")}${unpriced}<//>
    <${Figure} name="Losses in a row" tip="Closed trades that lost, one after another; behind the limit entries stop" kind=${streak !== null && most !== null && streak >= most ? "down" : ""}>
      ${streak ?? NONE}${most === null ? "" : `/${most}`}
    <//>
    <${Figure} name="Unprotected" tip="Open trades whose price nobody watches and for which no order rests at the exchange" kind=${unprotected ? "down" : ""}>
      ${unprotected ?? NONE}
    <//>
    <${Figure} name="Oldest data" tip=${`The oldest price of an open trade or last message of a stream${found?.oldest ? ` (${found.oldest.what})` : ""}`}>
      ${age(found?.oldest?.at, now.value)}
    <//>
  </div>`;
}

/** @param {string} text */
function negative(text) {
  return text.startsWith("-") ? text : `-${text}`;
}

function Staleness() {
  if (stale.value === "banner") {
    return html`<p class="banner" role="alert">No data for 15 s: what is shown is old, and actions wait. Check that BotTrader runs; this page connects again by itself.</p>`;
  }
  if (stale.value === "away") {
    return html`<p class="banner" role="alert">The database can't be reached: what is shown is old, and actions wait. This page goes on by itself once it answers.</p>`;
  }
  return null;
}

async function logOut() {
  try {
    await act("/api/logout");
  } catch {
    // the session has ended already, or the API is away: either way this page forgets it
  }
  session.value = null;
}

/** What the keys do. */
export function help() {
  const keys = [
    ["/", "filter the rows"],
    ["j, k", "the next row, the one before"],
    ["Enter", "open the row"],
    ["Esc", "close"],
    ...TABS.map(({ key, title }) => [`g ${key}`, title]),
    ["?", "this list"],
  ];
  show("Keys", html`<dl class="facts">${keys.map(([key, text]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${text}</dd></div>`)}</dl>`);
}

/** Tell that something can't be shown. @param {unknown} error */
export function tellFault(error) {
  tell(`The page has an error of its own (${error instanceof Error ? error.message : String(error)}): reload it.`, "bad");
}
