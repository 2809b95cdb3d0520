/** Moving an open trade's stops and target (EXIT-14): what is left empty stays as it is. */

import { act, newKey, sentence } from "../api.js";
import { multiply, rounded, subtract } from "../decimal.js";
import { price } from "../format.js";
import { html, useState } from "../html.js";
import { mayAct } from "../state.js";
import { tell } from "../toast.js";

const LEVELS = /** @type {const} */ ([
  ["hard_stop", "Hard stop", "hard_stop"],
  ["soft_stop", "Soft stop", "soft_stop"],
  ["trailing_stop", "Trailing stop (armed or raised)", "trailing_stop"],
  ["trailing_arm", "Trailing arms at", "trailing_arms_at"],
  ["take_profit", "Target (or off)", "take_profit"],
]);

const PERCENT = /^(\d+(?:\.\d+)?)\s*%$/;

/**
 * What is typed as a price: as it is, or a percentage of the entry price: of a stop the loss, of the target the gain.
 * @param {string} name @param {string} text @param {string | null} entry
 */
export function levelOf(name, text, entry) {
  const found = PERCENT.exec(text);
  if (!found || entry === null || name === "trailing_stop") return text.toLowerCase() === "off" ? "off" : text;
  const share = name === "take_profit" || name === "trailing_arm" ? subtract("100", `-${found[1]}`) : subtract("100", found[1]);
  return rounded(multiply(multiply(entry, share), "0.01"), 12);
}

/** @param {{trade: import("../types.d.ts").TradeRow, done: () => void}} props */
export function Stops({ trade, done }) {
  const [typed, setTyped] = useState(/** @type {Record<string, string>} */ ({}));
  const [flags, setFlags] = useState({ further: false, sell_now: false });
  const [note, setNote] = useState("");
  const [key, setKey] = useState(newKey);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const named = Object.entries(typed).filter(([, text]) => text.trim() !== "");
  const given = Object.fromEntries(named.map(([name, text]) => [name, levelOf(name, text.trim(), trade.entry_price)]));
  // Another wish is another action; the same one that is sent again is done once.
  const change = (/** @type {() => void} */ set) => {
    set();
    setKey(newKey());
    setProblem("");
  };
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem("");
    try {
      const answer = await act(`/api/trades/${encodeURIComponent(trade.entry_key)}/stops`, { ...given, ...flags, note }, { key });
      tell(`${answer.sentence.charAt(0).toUpperCase()}${answer.sentence.slice(1)}.`, answer.accepted ? "good" : "bad");
      done();
    } catch (error) {
      setProblem(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  return html`<form class="stops" onSubmit=${send} aria-label="Move stops">
    <p>A price, or a percentage of the entry price such as 5%; an empty field stays as it is. The bid is ${price(trade.bid)}.</p>
    <div class="fields">
      ${LEVELS.map(
        ([name, title, field]) => html`<label>
          <span>${title}</span>
          <input
            name=${name}
            inputmode="decimal"
            autocomplete="off"
            placeholder=${price(trade[field])}
            value=${typed[name] ?? ""}
            onInput=${(/** @type {any} */ event) => change(() => setTyped({ ...typed, [name]: event.target.value }))}
          />
        </label>`,
      )}
      <label>
        <span>Note for the record (optional)</span>
        <input maxlength="500" value=${note} onInput=${(/** @type {any} */ event) => change(() => setNote(event.target.value))} />
      </label>
    </div>
    <label class="check"><input type="checkbox" name="further" checked=${flags.further} onChange=${(/** @type {any} */ event) => change(() => setFlags({ ...flags, further: event.target.checked }))} /> Also further away from the price than now</label>
    <label class="check"><input type="checkbox" name="sell_now" checked=${flags.sell_now} onChange=${(/** @type {any} */ event) => change(() => setFlags({ ...flags, sell_now: event.target.checked }))} /> Also where the bid has passed it already: it sells now</label>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <div class="buttons">
      <button type="button" class="quiet" onClick=${done}>Back</button>
      <button type="submit" disabled=${busy || !mayAct.value || !Object.keys(given).length}>${busy ? "…" : problem ? "Try again" : "Move stops"}</button>
    </div>
  </form>`;
}
