/**
 * Confirming an action. The numbers are current while the dialog is open. "Try again" after no answer sends the same
 * action, so it is done once however often it is sent; after a refusal it is a new one.
 */

import { newKey, Problem, sentence } from "./api.js";
import { html, signal, useEffect, useRef, useState } from "./html.js";
import { about, mayAct } from "./state.js";
import { tell } from "./toast.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {any} [text] what will happen, in a sentence or two
 * @property {() => Array<[string, any]>} [lines] names and values: size, bid, expected result
 * @property {string} action what the button says
 * @property {boolean} [danger]
 * @property {string} [word] has to be typed (live: the account's name instead)
 * @property {(given: {note: string, confirm: string, key: string, checked: boolean}) =>
 *   Promise<import("./types.d.ts").Answer>} run
 * @property {string} [check] the text of a checkbox
 * @property {boolean} [read] nothing is done: it only shows something
 */

const open = signal(/** @type {Question | null} */ (null));

/** Ask; the action runs when it is confirmed, and its answer is told. @param {Question} question */
export function confirm(question) {
  open.value = question;
}

/** Show something to read. @param {string} title @param {any} text */
export function show(title, text) {
  open.value = { title, text, action: "Close", read: true, run: () => Promise.reject(new Error("nothing to do")) };
}

export function Dialogs() {
  const question = open.value;
  return question && html`<${Dialog} key=${question.title} question=${question} />`;
}

/** @param {{question: Question}} props */
function Dialog({ question }) {
  const box = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [key, setKey] = useState(newKey);
  const [note, setNote] = useState("");
  const [typed, setTyped] = useState("");
  const [checked, setChecked] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const word = question.word && (about.value?.mode === "live" ? about.value.account : question.word);
  useEffect(() => box.current?.showModal(), []);
  const close = () => (open.value = null);

  const run = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (question.read) return close();
    if (busy) return undefined;
    setBusy(true);
    setProblem("");
    try {
      const answer = await question.run({ note, confirm: typed, key, checked });
      tell(`${answer.sentence.charAt(0).toUpperCase()}${answer.sentence.slice(1)}.`.replace(/\.\.$/, "."), answer.accepted ? "good" : "bad");
      close();
    } catch (error) {
      setProblem(sentence(error));
      if (error instanceof Problem && error.status >= 400 && error.status < 500) setKey(newKey());
      setBusy(false);
    }
    return undefined;
  };
  const ready = question.read || (mayAct.value && (!word || typed === word));
  return html`<dialog ref=${box} class=${question.danger ? "danger" : ""} onClose=${close} aria-labelledby="dialog-title">
    <form method="dialog" onSubmit=${run}>
      <h2 id="dialog-title">${question.title}</h2>
      ${question.text && html`<div class="text">${question.text}</div>`}
      ${question.lines &&
      html`<dl class="facts">
        ${question.lines().map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
      </dl>`}
      ${question.check &&
      html`<label class="check">
        <input type="checkbox" checked=${checked} onChange=${(/** @type {any} */ event) => setChecked(event.target.checked)} />
        ${question.check}
      </label>`}
      ${!question.read &&
      html`<label>
        <span>Note for the record (optional)</span>
        <input maxlength="500" value=${note} onInput=${(/** @type {any} */ event) => setNote(event.target.value)} />
      </label>`}
      ${word &&
      html`<label>
        <span>Type <b>${word}</b> to confirm</span>
        <input autocomplete="off" name="confirm" value=${typed} onInput=${(/** @type {any} */ event) => setTyped(event.target.value)} />
      </label>`}
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${!question.read && !mayAct.value && html`<p class="problem">Data is old: actions wait until it is current again.</p>`}
      <div class="buttons">
        ${!question.read && html`<button type="button" class="quiet" onClick=${close}>Back</button>`}
        <button type="submit" class=${question.danger ? "danger" : ""} disabled=${!ready || busy}>
          ${busy ? "…" : problem ? "Try again" : question.action}
        </button>
      </div>
    </form>
  </dialog>`;
}
