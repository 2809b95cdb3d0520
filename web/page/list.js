/** Long lists that are read by the page: the next one as it comes into view, the newest again when something ended. */

import { address, get, sentence } from "./api.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";

/**
 * The rows of a list of the API, in its order.
 * @template Row
 * @param {string} path
 * @param {import("./api.js").Params} params filters
 * @param {(row: Row) => string} keyOf
 * @param {any} version the newest page is read again when it changes
 * @returns {{rows: Row[], loading: boolean, done: boolean, problem: string, more: () => void}} done: there are no more
 */
export function useList(path, params, keyOf, version) {
  const wanted = address(path, params);
  const [state, setState] = useState({ rows: /** @type {Row[]} */ ([]), cursor: /** @type {string | null} */ (null), loading: true, problem: "", of: "" });
  const busy = useRef(false);
  const current = useRef(state);
  current.current = state;

  useEffect(() => {
    const stop = new AbortController();
    const known = current.current.of === wanted;
    if (!known) setState({ rows: [], cursor: null, loading: true, problem: "", of: wanted });
    get(path, { ...params, limit: 100 }, { signal: stop.signal }).then(
      (page) =>
        setState((old) => {
          if (old.of !== wanted || !old.rows.length) return { rows: page.items, cursor: page.next_cursor, loading: false, problem: "", of: wanted };
          const newest = new Set(page.items.map(keyOf));
          const rest = old.rows.filter((row) => !newest.has(keyOf(row)));
          // More than a page is new: what lies between is not known, so the list begins again.
          if (rest.length === old.rows.length && page.next_cursor) return { rows: page.items, cursor: page.next_cursor, loading: false, problem: "", of: wanted };
          return { ...old, rows: [...page.items, ...rest], problem: "" };
        }),
      (error) => {
        if (!stop.signal.aborted) setState((old) => ({ ...old, loading: false, problem: sentence(error) }));
      },
    );
    return () => stop.abort();
  }, [wanted, version]);

  const more = useCallback(async () => {
    const { cursor, of } = current.current;
    if (busy.current || !cursor || of !== wanted) return;
    busy.current = true;
    try {
      const page = await get(path, { ...params, limit: 200, cursor });
      setState((old) => {
        if (old.of !== wanted || old.cursor !== cursor) return old;
        const known = new Set(old.rows.map(keyOf));
        const fresh = page.items.filter((/** @type {Row} */ row) => !known.has(keyOf(row)));
        return { ...old, rows: [...old.rows, ...fresh], cursor: page.next_cursor, problem: "" };
      });
    } catch (error) {
      setState((old) => ({ ...old, problem: sentence(error) }));
    } finally {
      busy.current = false;
    }
  }, [wanted]);

  const mine = state.of === wanted;
  return {
    rows: mine ? state.rows : [],
    loading: !mine || state.loading,
    done: mine && !state.loading && state.cursor === null,
    problem: state.problem,
    more,
  };
}
