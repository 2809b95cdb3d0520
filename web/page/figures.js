/** Small charts of figures, as SVG: a line over time with what it is below its top, and bars by day. */

import { money, tone } from "./format.js";
import { html } from "./html.js";

/** @typedef {{at: string, pnl: string, total: string, drawdown: string, fees: string, trades: number}} Point */

const WIDE = 600;
const HIGH = 120;

/** Positions in the picture; only drawn, never shown as numbers. @param {number[]} values */
function scaleOf(values) {
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const span = high - low || 1;
  return (/** @type {number} */ value) => HIGH - 6 - ((value - low) / span) * (HIGH - 12);
}

/** A day: 11-30. @param {string} at */
const dayOf = (at) => at.slice(5, 10);

/**
 * Net P&L summed up over time.
 * @param {{points: Point[], currency: string}} props
 */
export function Equity({ points, currency }) {
  return html`<${Line} title="Net P&L, summed up" points=${points} currency=${currency} of=${(/** @type {Point} */ point) => point.total} kind="line" />`;
}

/** How far the sum is below its highest point. @param {{points: Point[], currency: string}} props */
export function Drawdown({ points, currency }) {
  const below = (/** @type {Point} */ point) => (/[1-9]/.test(point.drawdown) ? `-${point.drawdown}` : "0");
  return html`<${Line} title="Drawdown" points=${points} currency=${currency} of=${below} kind="loss" />`;
}

/** @param {{title: string, points: Point[], currency: string, of: (point: Point) => string, kind: string}} props */
function Line({ title, points, currency, of, kind }) {
  const values = points.map((point) => Number(of(point)));
  const y = scaleOf(values);
  const x = (/** @type {number} */ index) => (points.length > 1 ? 4 + (index / (points.length - 1)) * (WIDE - 8) : WIDE / 2);
  const path = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const last = points[points.length - 1];
  return html`<${Framed} title=${title} points=${points} value=${last ? of(last) : null} currency=${currency}>
    <line class="zero" x1="0" x2=${WIDE} y1=${y(0)} y2=${y(0)} />
    ${points.length > 1 && html`<polygon class=${`area ${kind}`} points=${`${x(0)},${y(0)} ${path} ${x(points.length - 1)},${y(0)}`} />`}
    <polyline class=${`path ${kind}`} points=${path} />
    ${points.map(
      (point, index) => html`<circle class=${`dot ${kind}`} cx=${x(index)} cy=${y(values[index])} r=${points.length > 60 ? 1 : 2.5}>
        <title>${`${point.at.slice(0, 16).replace("T", " ")}: ${money(of(point), { currency, signed: true, unit: true })}`}</title>
      </circle>`,
    )}
  <//>`;
}

/** P&L by bucket. @param {{points: Point[], currency: string, name: string}} props */
export function Bars({ points, currency, name }) {
  const shown = points.slice(-90);
  const values = shown.map((point) => Number(point.pnl));
  const y = scaleOf(values);
  const each = WIDE / Math.max(shown.length, 1);
  const wide = Math.min(each * 0.7, 40);
  const last = shown[shown.length - 1];
  return html`<${Framed} title=${`Net P&L by ${name}`} points=${shown} value=${last ? last.pnl : null} currency=${currency}>
    <line class="zero" x1="0" x2=${WIDE} y1=${y(0)} y2=${y(0)} />
    ${shown.map((point, index) => {
      const [top, bottom] = [Math.min(y(values[index]), y(0)), Math.max(y(values[index]), y(0))];
      return html`<rect class=${`bar ${tone(point.pnl)}`} x=${index * each + (each - wide) / 2} y=${top} width=${wide} height=${Math.max(bottom - top, 1)}>
        <title>${`${point.at.slice(0, 16).replace("T", " ")}: ${money(point.pnl, { currency, signed: true, unit: true })} of ${point.trades} trades, fees ${money(point.fees, { currency })}`}</title>
      </rect>`;
    })}
  <//>`;
}

/** @param {{title: string, points: Point[], value: string | null, currency: string, children?: any}} props */
function Framed({ title, points, value, currency, children }) {
  return html`<figure class="graph">
    <figcaption><span>${title}</span> <b class=${tone(value)}>${money(value, { currency, signed: true, unit: true })}</b></figcaption>
    ${points.length
      ? html`<svg viewBox=${`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label=${`${title}: ${money(value, { currency, signed: true, unit: true })} at last`}>${children}</svg>
          <p class="axis"><span>${dayOf(points[0].at)}</span><span>${dayOf(points[points.length - 1].at)}</span></p>`
      : html`<p class="none">No trade has closed yet.</p>`}
  </figure>`;
}
