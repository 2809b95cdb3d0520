/** Questions to the API, and actions. Whatever fails is a `Problem` with one sentence. */

import { session } from "./state.js";

/** An answer that is not what was asked for. `message` is the sentence for people. */
export class Problem extends Error {
  /** @param {string} sentence @param {{status?: number, code?: string, field?: string}} [more] */
  constructor(sentence, { status = 0, code = "NO_ANSWER", field } = {}) {
    super(sentence);
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/** @typedef {Record<string, string | number | boolean | null | undefined>} Params */

/**
 * Read `path`; parameters that are null, undefined or "" are left out.
 * @param {string} path @param {Params} [params] @param {{signal?: AbortSignal}} [how]
 * @returns {Promise<any>} the JSON
 * @throws {Problem}
 */
export async function get(path, params = {}, { signal } = {}) {
  return answerOf(await asked(address(path, params), { signal, headers: { Accept: "application/json" } }));
}

/**
 * All pages of a list, `most` rows at most.
 * @param {string} path @param {Params} [params]
 * @param {{most?: number, first?: number, onPage?: (rows: any[]) => void}} [how] first: rows of the first page; onPage:
 *   hears each page as it arrives
 * @returns {Promise<any[]>}
 * @throws {Problem}
 */
export async function all(path, params = {}, { most = 20_000, first = 1000, onPage } = {}) {
  /** @type {any[]} */
  const found = [];
  let cursor = null;
  do {
    const page = await get(path, { ...params, limit: found.length ? 1000 : first, cursor });
    found.push(...page.items);
    onPage?.(page.items);
    cursor = page.next_cursor;
  } while (cursor && found.length < most);
  return found;
}

/** A path with its parameters, for a link. @param {string} path @param {Params} [params] */
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  return query.size ? `${path}?${query}` : path;
}

/** A name for one action: sent again with the same one, it is done once. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Do something, once: `key` names this action, however often it is sent.
 * @param {string} path @param {object} [body] @param {{key?: string}} [how]
 * @returns {Promise<import("./types.d.ts").Answer>}
 * @throws {Problem}
 */
export async function act(path, body = {}, { key = newKey() } = {}) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key, "X-CSRF": session.value?.csrf ?? "" };
  return answerOf(await asked(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

/** What to tell a person of an error. @param {unknown} error */
export function sentence(error) {
  if (error instanceof Problem) return error.message;
  return `The page has an error of its own (${error instanceof Error ? error.message : String(error)}): reload it.`;
}

/** @param {string} path @param {RequestInit} how */
async function asked(path, how) {
  try {
    return await fetch(path, { credentials: "same-origin", cache: "no-store", ...how });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem("BotTrader's API does not answer: check that it runs (`bottrader up`), then try again.");
  }
}

/** @param {Response} response */
async function answerOf(response) {
  if (response.status === 204) return null;
  let body = null;
  try {
    body = await response.json();
  } catch {
    // an answer without JSON is told by its status below
  }
  if (response.ok && body !== null) return body;
  if (response.status === 401) session.value = null;
  throw new Problem(body?.detail ?? `The API answered with status ${response.status} and no explanation: try again.`, {
    status: response.status,
    code: body?.code,
    field: body?.field,
  });
}
