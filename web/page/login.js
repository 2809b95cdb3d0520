/** The log-in: a user's password; on this machine, how to get the link that works once. */

import { Problem, sentence } from "./api.js";
import { html, useState } from "./html.js";
import { session } from "./state.js";

/** How somebody may log in here, as the server says in the page. */
const ways = new Set((document.documentElement.dataset.ways ?? "").split(" "));

export function LogIn() {
  const [problem, setProblem] = useState("");
  const used = location.hash === "#used-link";
  const [busy, setBusy] = useState(false);
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    setBusy(true);
    setProblem("");
    try {
      session.value = await logIn(String(form.get("user")), String(form.get("password")));
    } catch (error) {
      setProblem(sentence(error));
      setBusy(false);
    }
  };
  return html`<main class="log-in">
    <h1>BotTrader</h1>
    ${used && html`<p class="problem" role="alert">This link has been used or is not valid: open the newest one.</p>`}
    ${ways.has("password") &&
    html`<form onSubmit=${submit}>
      <label><span>User</span><input name="user" autocomplete="username" required autofocus maxlength="100" /></label>
      <label>
        <span>Password</span>
        <input name="password" type="password" autocomplete="current-password" required maxlength="1024" />
      </label>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <button type="submit" disabled=${busy}>${busy ? "…" : "Log in"}</button>
    </form>`}
    ${ways.has("link") &&
    html`<p>
      On this machine: open the link that <code>bottrader up</code> printed. It works once; the newest one is in the file
      <code>page_link</code> of the data folder.
    </p>`}
    ${!ways.has("password") && !ways.has("link") && html`<p>Nobody can log in here: set a user in <code>[api.users]</code>.</p>`}
  </main>`;
}

/** @param {string} user @param {string} password @returns {Promise<import("./types.d.ts").Session>} */
async function logIn(user, password) {
  let response;
  try {
    response = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user, password }),
    });
  } catch {
    throw new Problem("BotTrader's API does not answer: check that it runs (`bottrader up`), then try again.");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Problem(body?.detail ?? "The log-in failed: try again.", { status: response.status });
  return body;
}
