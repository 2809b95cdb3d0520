/**
 * Exact arithmetic on decimal text. Money and sizes come from the API as text; what is shown of them is computed on
 * their digits (BigInt), never on binary floating point.
 */

const NUMBER = /^(-?)(\d+)(?:\.(\d+))?$/;

/**
 * Digits and number of decimal places.
 * @param {string} text
 * @returns {{digits: bigint, places: number}}
 * @throws {RangeError} it is not decimal text
 */
function parsed(text) {
  const found = NUMBER.exec(text);
  if (!found) throw new RangeError(`not a decimal number: ${text}`);
  const fraction = found[3] ?? "";
  return { digits: BigInt(`${found[1]}${found[2]}${fraction}`), places: fraction.length };
}

/**
 * @param {bigint} digits
 * @param {number} places
 */
function written(digits, places) {
  const sign = digits < 0n ? "-" : "";
  const text = (digits < 0n ? -digits : digits).toString().padStart(places + 1, "0");
  return places ? `${sign}${text.slice(0, -places)}.${text.slice(-places)}` : sign + text;
}

/** @param {string} a @param {string} b */
function aligned(a, b) {
  const one = parsed(a);
  const two = parsed(b);
  const places = Math.max(one.places, two.places);
  const up = (/** @type {{digits: bigint, places: number}} */ x) => x.digits * 10n ** BigInt(places - x.places);
  return { one: up(one), two: up(two), places };
}

/** a + b, exactly. @param {string} a @param {string} b */
export function add(a, b) {
  const { one, two, places } = aligned(a, b);
  return written(one + two, places);
}

/** a − b, exactly. @param {string} a @param {string} b */
export function subtract(a, b) {
  const { one, two, places } = aligned(a, b);
  return written(one - two, places);
}

/** a × b, exactly. @param {string} a @param {string} b */
export function multiply(a, b) {
  const one = parsed(a);
  const two = parsed(b);
  return written(one.digits * two.digits, one.places + two.places);
}

/**
 * a ÷ b with `places` decimal places, rounded half away from zero; null where b is zero.
 * @param {string} a @param {string} b @param {number} [places]
 */
export function divide(a, b, places = 12) {
  const { one, two } = aligned(a, b);
  if (two === 0n) return null;
  return written(halfAway(one * 10n ** BigInt(places), two), places);
}

/** −1, 0 or 1 as a is less than, equal to or more than b. @param {string} a @param {string} b */
export function compare(a, b) {
  const { one, two } = aligned(a, b);
  return one < two ? -1 : one > two ? 1 : 0;
}

/** −1, 0 or 1 by the sign of `text`. @param {string} text */
export function signOf(text) {
  return !/[1-9]/.test(text) ? 0 : text.startsWith("-") ? -1 : 1;
}

/**
 * Rounded half away from zero to at most `places` decimal places; zeros at the end stay only if `fixed`.
 * @param {string} text @param {number} places @param {boolean} [fixed]
 */
export function rounded(text, places, fixed = false) {
  const found = parsed(text);
  const less = found.places - places;
  const digits = less > 0 ? halfAway(found.digits, 10n ** BigInt(less)) : found.digits;
  let out = written(digits, less > 0 ? places : found.places);
  if (fixed && less < 0) out = written(found.digits * 10n ** BigInt(-less), places);
  return fixed ? out : trimmed(out);
}

/** Without zeros at the end. @param {string} text */
export function trimmed(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** @param {bigint} a @param {bigint} b */
function halfAway(a, b) {
  const negative = a < 0n !== b < 0n;
  const top = a < 0n ? -a : a;
  const bottom = b < 0n ? -b : b;
  const out = (top * 2n + bottom) / (bottom * 2n);
  return negative ? -out : out;
}
