/**
 * Candles around a trade: its fills and exits as markers, lines where it entered and where its stops and target are.
 *
 * The chart draws with binary floating point; every number that is read as text elsewhere stays exact.
 */

import { add } from "../decimal.js";
import { size, words } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { useRead } from "../read.js";
import { about, prices } from "../state.js";

/** @typedef {import("../types.d.ts").TradeRow} TradeRow */

const BEFORE = 60; // candles shown before the entry
const AFTER = 20; // and after the exit
const MOST = 600;

/** A candle's length in words. @param {number} seconds */
function lengthOf(seconds) {
  if (seconds % 86_400 === 0) return `${seconds / 86_400} d`;
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
}

/** The shortest length with which the whole trade and what is around it fits. @param {number[]} lengths @param {number} span s */
export function fitting(lengths, span) {
  return lengths.find((length) => span / length + BEFORE + AFTER <= MOST) ?? lengths[lengths.length - 1];
}

/** @param {{trade: TradeRow, exits: any[]}} props */
export function Chart({ trade, exits }) {
  const opened = Date.parse(trade.opened_at);
  const over = trade.closed_at === null ? Date.now() : Date.parse(trade.closed_at);
  const [wanted, setWanted] = useState(0);
  const path = `/api/candles/${encodeURIComponent(trade.symbol)}`;
  const { data: known, problem: none } = useRead(path, { limit: 1 });
  const lengths = known?.lengths ?? [];
  const seconds = wanted || fitting(lengths, (over - opened) / 1000) || 0;
  // Of an open trade the candles are read again with each new one, not with each price.
  const turn = trade.closed_at === null ? Math.floor(Date.now() / Math.max(seconds * 1000, 10_000)) : 0;
  return html`<section class="part chart" data-part="chart">
    <div class="chart-head">
      <h3>Chart</h3>
      <div class="chips" role="group" aria-label="Length of a candle">
        ${lengths.map(
          (/** @type {number} */ length) =>
            html`<button type="button" class="chip" aria-pressed=${length === seconds} onClick=${() => setWanted(length)}>${lengthOf(length)}</button>`,
        )}
      </div>
    </div>
    ${none && html`<p class="problem" role="alert">${none}</p>`}
    ${known && !lengths.length && html`<p class="none">No candles of ${trade.symbol} are kept, so there is no chart.</p>`}
    ${seconds > 0 && html`<${Candles} key=${seconds} path=${path} trade=${trade} exits=${exits} seconds=${seconds} from=${opened} to=${over} turn=${turn} />`}
  </section>`;
}

/** @param {{path: string, trade: TradeRow, exits: any[], seconds: number, from: number, to: number, turn: number}} props */
function Candles({ path, trade, exits, seconds, from, to, turn }) {
  const open = trade.closed_at === null;
  const iso = (/** @type {number} */ ms) => new Date(ms).toISOString();
  const since = iso(from - BEFORE * seconds * 1000);
  const until = open ? null : iso(to + AFTER * seconds * 1000);
  const { data, loading, problem } = useRead(path, { seconds, since, until, limit: 1000 }, turn);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const drawn = useRef(/** @type {Drawn | null} */ (null));
  const [fault, setFault] = useState("");

  useEffect(() => {
    let gone = false;
    if (!data?.candles.length || !box.current || drawn.current) return undefined;
    draw(box.current).then(
      (made) => {
        if (gone) made.remove();
        else {
          drawn.current = made;
          made.show(data, trade, exits, seconds, true);
        }
      },
      () => setFault("The chart could not be loaded: reload the page."),
    );
    return () => {
      gone = true;
    };
  }, [Boolean(data?.candles.length)]);
  useEffect(() => () => drawn.current?.remove(), []);
  useEffect(() => {
    if (data) drawn.current?.show(data, trade, exits, seconds, false);
  }, [data, exits, trade.state, trade.entry_price, trade.hard_stop, trade.soft_stop, trade.trailing_stop, trade.trailing_peak, trade.take_profit]);
  const bid = open ? prices.get(trade.symbol)?.bid : null;
  useEffect(() => {
    if (bid) drawn.current?.bid(Number(bid));
  }, [bid]);

  if (problem || fault) return html`<p class="problem" role="alert">${problem || fault}</p>`;
  if (data && !data.candles.length) return html`<p class="none">No candles of this length are kept from the time of the trade.</p>`;
  const speed = about.value?.speed ?? "1";
  const what = `Candles of ${trade.symbol} with ${data?.marks.length ?? 0} fills of ours`;
  return html`<div class="candles" ref=${box} role="img" aria-label=${what} data-loaded=${!loading}></div>
    <p class="legend">${legend(trade).map(({ name, kind }) => html`<span class=${`swatch ${kind}`}>${name}</span>`)}</p>
    ${speed !== "1" && html`<p class="none">The paper market runs ×${speed}: candles are in its time, fills in this machine's, so they do not lie on each other.</p>`}`;
}

/**
 * The lines of a trade: where it entered, and where its stops and target are now. The path of a stop is not stored.
 * @param {TradeRow} trade
 */
function legend(trade) {
  const closed = trade.state === "CLOSED";
  const found = [
    { name: "entry", kind: "entry", at: trade.entry_price },
    { name: "hard stop", kind: "stop", at: trade.hard_stop },
    { name: "soft stop", kind: "soft", at: trade.soft_stop },
    { name: closed ? "trailing stop at the end" : "trailing stop", kind: "trailing", at: trade.trailing_stop },
    { name: "highest bid", kind: "peak", at: trade.trailing_peak },
    { name: "target", kind: "target", at: trade.take_profit },
  ];
  return found.filter(({ at }) => at !== null);
}

/** @typedef {Awaited<ReturnType<typeof draw>>} Drawn */

/** A chart in this element, with the page's colours. @param {HTMLElement} box */
async function draw(box) {
  const { CandlestickSeries, LineStyle, createChart, createSeriesMarkers } = await import("lightweight-charts");
  const colours = () => {
    const style = getComputedStyle(box);
    const named = (/** @type {string} */ name, /** @type {string} */ other) => style.getPropertyValue(name).trim() || other;
    return {
      ink: named("--soft", "#60646c"), rule: named("--rule", "#e3e3df"), back: named("--card", "#ffffff"), mark: named("--mark", "#3d5a98"),
      up: named("--good", "#11745a"), down: named("--bad", "#b3412e"),
    };
  };
  let colour = colours();
  const looks = () => ({
    layout: { background: { color: colour.back }, textColor: colour.ink, attributionLogo: false, fontFamily: "inherit" },
    grid: { vertLines: { color: colour.rule }, horzLines: { color: colour.rule } },
    rightPriceScale: { borderColor: colour.rule },
    timeScale: { borderColor: colour.rule, timeVisible: true, secondsVisible: false },
  });
  const chart = createChart(box, { autoSize: true, ...looks() });
  /** @type {number[]} */
  let levels = [];
  const series = chart.addSeries(CandlestickSeries, {
    upColor: colour.up, downColor: colour.down, wickUpColor: colour.up, wickDownColor: colour.down, borderVisible: false,
    priceLineVisible: false,
    // The lines of stops and target are in view, too.
    autoscaleInfoProvider: (/** @type {() => any} */ original) => {
      const found = original();
      if (!found?.priceRange || !levels.length) return found;
      const { minValue, maxValue } = found.priceRange;
      return { ...found, priceRange: { minValue: Math.min(minValue, ...levels), maxValue: Math.max(maxValue, ...levels) } };
    },
  });
  const markers = createSeriesMarkers(series, []);
  /** @type {any[]} */
  let lines = [];
  /** @type {any} */
  let last = null;
  let span = 1;
  /** @type {any[]} */
  let shown = [];

  /** @type {(data: any, trade: TradeRow, exits: any[], seconds: number, first: boolean) => void} */
  function show(data, trade, exits, seconds, first) {
    shown = [data, trade, exits, seconds, false];
    span = seconds;
    const start = (/** @type {string} */ at) => Math.floor(Date.parse(at) / 1000 / seconds) * seconds;
    const candles = data.candles.map((/** @type {any} */ candle) => ({
      time: Math.floor(Date.parse(candle.at) / 1000),
      open: Number(candle.open), high: Number(candle.high), low: Number(candle.low), close: Number(candle.close),
    }));
    // Of the decimal places that prices have, those that count beside the price itself.
    const places = Math.max(...data.candles.slice(-50).map((/** @type {any} */ candle) => candle.close.split(".")[1]?.length ?? 0), 2);
    const whole = Math.ceil(Math.log10(Math.max(candles[candles.length - 1]?.close ?? 1, 1e-9)));
    const digits = Math.min(Math.max(7 - whole, 2), places);
    series.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
    series.setData(candles);
    last = candles[candles.length - 1] ?? null;
    markers.setMarkers(marksOf(data.marks, trade, exits, start));
    for (const line of lines) series.removePriceLine(line);
    /** @type {Record<string, [string, number]>} */
    const drawing = {
      entry: [colour.mark, LineStyle.Solid], stop: [colour.down, LineStyle.Solid], soft: [colour.down, LineStyle.Dashed],
      trailing: [colour.down, LineStyle.Dotted], peak: [colour.ink, LineStyle.Dotted], target: [colour.up, LineStyle.Solid],
    };
    const known = legend(trade);
    levels = known.map(({ at }) => Number(at));
    lines = known.map(({ name, kind, at }) =>
      series.createPriceLine({ price: Number(at), color: drawing[kind][0], lineStyle: drawing[kind][1], lineWidth: 1, title: name, axisLabelVisible: true }),
    );
    if (first) chart.timeScale().fitContent();
  }

  /** @param {any[]} marks @param {TradeRow} trade @param {any[]} exits @param {(at: string) => number} start @returns {any[]} */
  function marksOf(marks, trade, exits, start) {
    const reasons = new Map(exits.map((row) => [row.order_key, row.reason]));
    /** @type {Map<string, any>} one marker for an order's fills in a candle */
    const found = new Map();
    for (const mark of marks) {
      if (mark.entry_key !== trade.entry_key && mark.order_key !== trade.entry_key) continue;
      const key = `${start(mark.at)} ${mark.order_key}`;
      found.set(key, { ...mark, size: add(found.get(key)?.size ?? "0", mark.size) });
    }
    return [...found.values()].map((mark) => {
      const buys = mark.side === "BUY";
      const why = buys ? "bought" : words(reasons.get(mark.order_key) ?? mark.exit_reason ?? "sold");
      return {
        time: start(mark.at), price: Number(mark.price), position: buys ? "belowBar" : "aboveBar",
        shape: buys ? "arrowUp" : "arrowDown", color: buys ? colour.mark : colour.down, text: `${why} ${size(mark.size)}`,
      };
    });
  }

  /** The newest candle, or the next one, at a bid of now. @param {number} at */
  function bid(at) {
    if (!last || !Number.isFinite(at)) return;
    const start = Math.floor(Date.now() / 1000 / span) * span;
    if (start > last.time + 5 * span) return; // the newest candle is old: what came since is not known
    if (start > last.time) last = { time: start, open: at, high: at, low: at, close: at };
    else last = { ...last, close: at, high: Math.max(last.high, at), low: Math.min(last.low, at) };
    series.update(last);
  }

  const recolour = () => {
    colour = colours();
    chart.applyOptions(looks());
    series.applyOptions({ upColor: colour.up, downColor: colour.down, wickUpColor: colour.up, wickDownColor: colour.down });
    if (shown.length) show(.../** @type {[any, TradeRow, any[], number, boolean]} */ (shown));
  };
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", recolour);
  const theme = new MutationObserver(recolour);
  theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  return {
    show,
    bid,
    remove() {
      scheme.removeEventListener("change", recolour);
      theme.disconnect();
      chart.remove();
    },
  };
}

/** A chart by itself, for a trade that is given whole. @param {{trade: TradeRow, exits: any[]}} props */
export function view({ trade, exits }) {
  return html`<${Chart} trade=${trade} exits=${exits} />`;
}
