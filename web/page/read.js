/** Single answers of the API that a view shows, read again as something changes. */

import { address, get, sentence } from "./api.js";
import { computed, useEffect, useRef, useState } from "./html.js";
import { ended, now, stale } from "./state.js";

/** A number that grows each 5 s while data is current: views without events of their own read again by it. */
export const each5s = computed(() => (stale.value === "" ? Math.floor(now.value / 5000) : 0));

const each15s = computed(() => (stale.value === "" ? Math.floor(now.value / 15_000) : 0));

/** As `ended` of state.js, but told each 15 s at most: for figures of everything that has closed. */
export const endedSlowly = computed(() => {
  each15s.value;
  return ended.peek();
});

/**
 * An answer. The old one stays while a newer one is on its way, and if that fails.
 * @param {string} path
 * @param {import("./api.js").Params} [params]
 * @param {any} [version] it is read again when this changes
 * @returns {{data: any, loading: boolean, problem: string}} data: null before the first answer
 */
export function useRead(path, params = {}, version = 0) {
  const wanted = address(path, params);
  const [state, setState] = useState({ data: /** @type {any} */ (null), problem: "", of: "" });
  const busy = useRef("");
  const newest = useRef(version);
  newest.current = version;
  useEffect(() => {
    // One question at a time: answers that take longer than a version lasts would otherwise never be shown.
    const ask = () => {
      const asked = newest.current;
      busy.current = wanted;
      const end = (/** @type {(old: {data: any, of: string}) => {data: any, problem: string}} */ next) => {
        if (busy.current !== wanted) return; // something else is asked for by now
        busy.current = "";
        setState((old) => ({ ...next(old), of: wanted }));
        if (newest.current !== asked) ask();
      };
      get(path, params).then(
        (data) => end(() => ({ data, problem: "" })),
        (error) => end((old) => ({ data: old.of === wanted ? old.data : null, problem: sentence(error) })),
      );
    };
    if (busy.current !== wanted) ask();
  }, [wanted, version]);
  const mine = state.of === wanted;
  return { data: mine ? state.data : null, loading: !mine, problem: mine ? state.problem : "" };
}
