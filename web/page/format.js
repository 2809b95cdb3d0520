/**
 * Values as people read them. What is not known is "–". Money and sizes stay exact text until they are shown; rounding
 * is done on their digits. Times are UTC, as everywhere in BotTrader. A sign is always written beside its colour.
 */

import { multiply, rounded, signOf, trimmed } from "./decimal.js";

/** @typedef {string | null | undefined} Text */

export const NONE = "–";
const MINUS = "−";

/** Thousands apart, and a real minus. @param {string} text @param {boolean} [signed] whether + is written */
export function grouped(text, signed = false) {
  const [whole, fraction] = text.replace("-", "").split(".");
  const parts = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const sign = signOf(text);
  return (sign < 0 ? MINUS : signed && sign > 0 ? "+" : "") + parts + (fraction ? `.${fraction}` : "");
}

/** How many decimal places amounts of a currency are shown with. @param {Text} currency */
export function placesOf(currency) {
  return currency && !/^(USD|EUR|GBP|CHF|AUD|CAD|USDC|USDT|EURC)$/.test(currency) ? 8 : 2;
}

/**
 * An amount of money, rounded to the currency's places; a small one that would read 0.00 keeps two digits that count.
 * @param {Text} text
 * @param {{currency?: Text, signed?: boolean, unit?: boolean}} [how] unit: with the currency behind it
 */
export function money(text, { currency = "USD", signed = false, unit = false } = {}) {
  if (text === null || text === undefined) return NONE;
  const places = placesOf(currency);
  let out = rounded(text, places, places === 2);
  if (signOf(out) === 0 && signOf(text) !== 0) out = significant(text, 2);
  return grouped(out, signed) + (unit && currency ? ` ${currency}` : "");
}

/** A price, quote per base: exact up to 9 digits that count. @param {Text} text */
export function price(text) {
  return text === null || text === undefined ? NONE : grouped(significant(text, 9));
}

/** A size: exact, without zeros at the end. @param {Text} text */
export function quantity(text) {
  return text === null || text === undefined ? NONE : grouped(trimmed(text));
}

/**
 * A size in a table: at most 9 digits that count and 8 places, as products have at most; a tiny one keeps two digits. The
 * exact one belongs in the tooltip.
 * @param {Text} text
 */
export function size(text) {
  if (text === null || text === undefined) return NONE;
  const out = significant(text, 9, 8);
  return grouped(signOf(out) === 0 && signOf(text) !== 0 ? significant(text, 2) : out);
}

/**
 * A fraction as a percentage: -0.05 reads −5.00 %.
 * @param {Text} text @param {{places?: number, signed?: boolean}} [how]
 */
export function percent(text, { places = 2, signed = false } = {}) {
  if (text === null || text === undefined) return NONE;
  return `${grouped(rounded(multiply(text, "100"), places, true), signed)} %`;
}

/**
 * Rounded to so many digits that count, never before the point, and to `most` places at most.
 * @param {string} text @param {number} digits @param {number} [most]
 */
export function significant(text, digits, most = Infinity) {
  const [whole, fraction = ""] = text.replace("-", "").split(".");
  const before = /^0*$/.test(whole) ? -(/^0*/.exec(fraction)?.[0].length ?? 0) : whole.replace(/^0+/, "").length;
  return rounded(text, Math.min(Math.max(digits - before, 0), most));
}

/** The class that colours a gain or a loss: "up", "down" or "" for none. @param {Text} text */
export function tone(text) {
  if (text === null || text === undefined) return "";
  return ["down", "", "up"][signOf(text) + 1];
}

/** A day's time, 14:03:22, or with its day in front where that is not today. UTC. @param {Text} iso @param {number} [now] ms */
export function time(iso, now = Date.now()) {
  if (!iso) return NONE;
  const at = new Date(iso).toISOString();
  return at.slice(0, 10) === new Date(now).toISOString().slice(0, 10) ? at.slice(11, 19) : at.slice(0, 16).replace("T", " ");
}

/** The whole of it: 2026-11-30 14:03:22.123 UTC. @param {Text} iso */
export function fullTime(iso) {
  return iso ? `${new Date(iso).toISOString().replace("T", " ").replace("Z", "")} UTC` : "";
}

/** How long ago, 12 s; 5 min; 3 h 05; 2 d 4 h. @param {Text} iso @param {number} [now] ms */
export function age(iso, now = Date.now()) {
  return iso ? seconds((now - Date.parse(iso)) / 1000) : NONE;
}

/** From one time to another. @param {Text} from @param {Text} to */
export function between(from, to) {
  return from && to ? seconds((Date.parse(to) - Date.parse(from)) / 1000) : NONE;
}

/** A length of time. @param {number} given seconds */
export function seconds(given) {
  const all = Math.max(given, 0);
  if (all < 10) return `${all < 1 ? all.toFixed(2) : all.toFixed(1)} s`;
  if (all < 60) return `${Math.floor(all)} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min`;
  if (all < 86_400) return `${Math.floor(all / 3600)} h ${String(Math.floor((all % 3600) / 60)).padStart(2, "0")}`;
  return `${Math.floor(all / 86_400)} d ${Math.floor((all % 86_400) / 3600)} h`;
}

/** A key's first eight digits. @param {Text} key */
export function short(key) {
  return key ? key.slice(0, 8) : NONE;
}

/** Words of an identifier: NOT_ENOUGH_FUNDS reads "not enough funds". @param {Text} code */
export function words(code) {
  return code ? code.replaceAll("_", " ").toLowerCase() : NONE;
}
