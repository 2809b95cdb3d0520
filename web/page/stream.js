/**
 * Live data: one EventSource for the page. It is opened when somebody is logged in, closed while the page is hidden for
 * more than 30 s, and opened again when it is seen. The lists are read after `hello` or `reset`; what the stream says
 * meanwhile is applied afterwards, so nothing is missed.
 */

import { all, get } from "./api.js";
import { batch, effect, untracked } from "./html.js";
import { audit, ended, now, openOrders, openTrades, orderAt, prices, session, stale, summary, tradeAt } from "./state.js";
import { tell } from "./toast.js";

/** @typedef {import("./types.d.ts").EventRow} EventRow */
/** @typedef {import("./types.d.ts").OrderRow} OrderRow */
/** @typedef {import("./types.d.ts").Price} Price */
/** @typedef {import("./types.d.ts").TradeRow} TradeRow */

const GREY_MS = 5_000;
const BANNER_MS = 15_000;
const HIDDEN_MS = 30_000;
const RETRY_MS = 5_000;
const SUMMARY_MS = 10_000;
const IMPATIENT_MS = 200;
const FIRST_PRICE_MS = 3_000;
const EVENTS = 500;
const SCREEN = 100; // rows that are asked for first, so that something is seen soon

/** @type {EventSource | null} */
let source = null;
let heard = -Infinity;
let away = -Infinity;
let reads = 0; // of the lists; an older one that comes late is not taken
let people = 0; // who were logged in one after another
/** @type {Array<() => void> | null} changes that wait until the lists have arrived */
let waiting = null;
let summaryRead = -Infinity;
let listsRead = -Infinity;
let retries = 0;
let hidden = 0;
let impatient = 0;
let firstPrice = 0;

/** Follow the stream as long as somebody is logged in. Called once. */
export function follow() {
  effect(() => {
    const open = session.value !== null;
    untracked(() => (open ? connect() : forget()));
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(disconnect, HIDDEN_MS);
    else if (session.value && !source) connect();
  });
  setInterval(beat, 1000);
}

/** Nobody is logged in: nothing of the account stays in the page. */
function forget() {
  disconnect();
  people += 1; // answers that are still to come are not taken
  reads += 1;
  waiting = null;
  heard = -Infinity;
  batch(() => {
    for (const rows of [openOrders, openTrades, prices]) rows.clear();
    summary.value = null;
    audit.value = [];
  });
}

function beat() {
  const time = performance.now();
  const since = time - heard;
  batch(() => {
    if (!document.hidden) now.value = Date.now();
    stale.value = since >= BANNER_MS ? "banner" : time - away < GREY_MS ? "away" : since >= GREY_MS ? "grey" : "";
  });
  if (session.value && source && time - summaryRead >= SUMMARY_MS) readSummary();
}

function connect() {
  disconnect();
  if (heard === -Infinity) heard = performance.now(); // what comes first may take as long as what comes later
  const own = new EventSource("/api/stream");
  source = own;
  // A first look of the server takes a moment where nobody watched before: the lists need not wait for it.
  impatient = setTimeout(readLists, IMPATIENT_MS);
  const on = (/** @type {string} */ name, /** @type {(data: any) => void} */ then) =>
    own.addEventListener(name, (/** @type {any} */ event) => {
      heard = performance.now();
      retries = 0;
      if (stale.peek()) beat();
      then(JSON.parse(event.data));
    });
  const change = (/** @type {string} */ name, /** @type {(data: any) => void} */ then) =>
    on(name, (data) => (waiting ? waiting.push(() => then(data)) : batch(() => then(data))));
  on("hello", readLists);
  on("reset", readLists);
  on("tick", () => {});
  on("away", () => (away = performance.now()));
  on("logged-out", () => (session.value = null));
  change("orders", (data) => changed(openOrders, data));
  change("trades", (data) => changed(openTrades, data));
  change("prices", (data) => priced(data.changed));
  change("audit", (data) => happened(data.changed));
  change("summary", (data) => (summary.value = { ...summary.value, ...data }));
  own.onerror = () => {
    // A connection that broke is made again by the browser; an answer that refuses is final.
    if (own.readyState === EventSource.CLOSED && source === own) again();
  };
}

function disconnect() {
  clearTimeout(impatient);
  source?.close();
  source = null;
}

/** Connect later, if still logged in. */
function again() {
  disconnect();
  retries += 1;
  setTimeout(async () => {
    if (source || !session.value || document.hidden) return;
    try {
      await get("/api/session"); // where the session has ended, this says so
    } catch {
      if (session.value) again();
      return;
    }
    if (!source) connect();
  }, RETRY_MS * Math.min(retries, 6));
}

/** Read everything that is open, and the newest events. */
async function readLists() {
  clearTimeout(impatient);
  listsRead = performance.now();
  reads += 1;
  const own = reads;
  waiting ??= [];
  try {
    await Promise.all([
      readRows("/api/open-orders", openOrders, own),
      readRows("/api/trades", openTrades, own, { state: "open" }),
      readSummary(),
      get("/api/monitoring/telegram-messages", { limit: 100 }).then((page) => {
        if (own === reads) audit.value = page.items;
      }),
    ]);
  } catch {
    // The stream or the age of what is shown says so; the next `hello` reads again.
    if (own === reads && session.value) again();
  }
  if (own !== reads) return;
  const held = waiting ?? [];
  waiting = null;
  batch(() => held.forEach((apply) => apply()));
}

/** @param {string} path @param {import("./state.js").Rows<any>} rows @param {number} own @param {object} [params] */
async function readRows(path, rows, own, params = {}) {
  const first = !rows.loaded.peek();
  const person = people;
  // Where nothing is shown yet, an older answer is better than none: the newer read may fail.
  const taken = () => person === people && (own === reads || !rows.loaded.peek());
  const found = await all(path, /** @type {any} */ (params), {
    first: first ? SCREEN : 1000,
    // At first each page is shown as it comes; later the old rows stay until all the new ones are there.
    onPage: (items) => {
      if (!taken() || !first) return;
      if (rows.loaded.peek()) rows.apply({ changed: items });
      else rows.replace(items);
    },
  });
  if (taken()) rows.replace(found);
}

async function readSummary() {
  summaryRead = performance.now();
  const found = await get("/api/monitoring/summary").catch(() => null);
  if (found && session.peek()) summary.value = found;
}

/** @param {import("./state.js").Rows<any>} rows @param {{changed?: any[], gone?: string[]}} news */
function changed(rows, news) {
  rows.apply(news);
  if (news.gone?.length) ended.value += 1;
}

/** @param {Price[]} found */
function priced(found) {
  const by = new Map(found.map((price) => [price.symbol, price]));
  prices.apply({ changed: found });
  openOrders.apply({ changed: moved(openOrders.rows, by, orderAt) });
  openTrades.apply({ changed: moved(openTrades.rows, by, tradeAt) });
  // The first price of a product: what its trades would gain depends on their cost, which only the API knows.
  const first = openTrades.rows.some((row) => row.bid === null && by.get(row.symbol)?.bid);
  if (first && !firstPrice) {
    const soon = Math.max(listsRead + FIRST_PRICE_MS - performance.now(), 0);
    firstPrice = setTimeout(() => {
      firstPrice = 0;
      if (source) readLists();
    }, soon);
  }
}

/**
 * @template {{symbol: string}} Row
 * @param {Row[]} rows @param {Map<string, Price>} by @param {(row: Row, price: Price) => Row} at
 */
function moved(rows, by, at) {
  const found = [];
  for (const row of rows) {
    const price = by.get(row.symbol);
    const next = price ? at(row, price) : row;
    if (next !== row) found.push(next);
  }
  return found;
}

/** @param {EventRow[]} found oldest first */
function happened(found) {
  const known = new Set(audit.value.map((event) => event.id));
  const fresh = found.filter((event) => !known.has(event.id));
  audit.value = [...fresh.reverse(), ...audit.value].slice(0, EVENTS);
  for (const event of fresh) if (event.severity === "CRITICAL") tell(event.sentence, "bad");
}
