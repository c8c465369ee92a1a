/** Small parts that every page is made of. */
import { html, useEffect, useRef, useState, useId } from "./view.js";
import { coin, exact, hct, short, symbol } from "./format.js";

const SHAPES = {
  ok: html`<path d="M1.5 5.2 4 7.7 8.6 2.4" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" />`,
  wait: html`<circle cx="5" cy="5" r="3.4" fill="none" stroke="currentColor" stroke-width="1.5" stroke-dasharray="2.4 1.6" />`,
  warn: html`<path d="M5 1.2 9.4 9H.6Z" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" />`,
  bad: html`<path d="m2 2 6 6m0-6-6 6" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" />`,
};

/** A shape that says a state where colour alone would not. @param {{kind: "ok"|"wait"|"warn"|"bad"}} props */
export const Shape = ({ kind }) => html`<svg viewBox="0 0 10 10" aria-hidden="true">${SHAPES[kind]}</svg>`;

/** A state as a word with a shape. */
export const Badge = ({ kind, children, title }) =>
  html`<span class=${`badge ${kind}`} title=${title}><${Shape} kind=${kind} />${children}</span>`;

/** An amount in HCT; all its digits are in the title. */
export const Amount = ({ wei, unit = false, digits }) =>
  wei === null || wei === undefined
    ? html`<span class="n">–</span>`
    : html`<span class="n" title=${`${exact(wei)} ${symbol()}`}>${hct(wei, digits)}${unit ? ` ${symbol()}` : ""}</span>`;

/** An amount of the chain's coin. */
export const Gas = ({ wei, digits }) =>
  wei === null || wei === undefined
    ? html`<span class="n">–</span>`
    : html`<span class="n" title=${`${exact(wei, 18)} coin`}>${coin(wei, digits)}</span>`;

/** The end of an id; the whole of it in the title, and copied on a click. */
export const Id = ({ id }) => html`<code title=${id}>${short(id)}</code>`;

/** A card with a heading. */
export const Card = ({ title, note, right, children, label }) => html`
  <section class="card" aria-label=${title ?? label}>
    ${title && html`<header><h2>${title}</h2>${note && html`<small>${note}</small>`}${right && html`<div class="right">${right}</div>`}</header>`}
    ${children}
  </section>`;

/** One figure that a person asks for. */
export const Kpi = ({ name, value, note, title }) =>
  html`<div class="card kpi"><dt>${name}</dt><dd><strong title=${title}>${value}</strong><span>${note}</span></dd></div>`;

/** Nothing there yet, and what to do about it. */
export const Empty = ({ title, children }) => html`<div class="state"><h2>${title}</h2><p>${children}</p></div>`;

/** Something is on its way. */
export const Loading = ({ what }) => html`
  <div class="wait-lines" role="status"><span class="visually-hidden">Loading ${what}</span><i></i><i></i><i></i></div>`;

/** Why something is not here; `again` tries once more. Says nothing where the whole page already says it. */
export function Failed({ problem, what, again }) {
  if (problem.kind !== "refused") {
    return html`<div class="state"><p>${what} cannot be shown: ${problem.kind === "expired" ? "the session has ended" : "the program does not answer"}.</p></div>`;
  }
  return html`<div class="state" role="alert"><h2>${what} cannot be shown</h2><p>${problem.message}</p>
    ${again && html`<button onClick=${again}>Try again</button>`}</div>`;
}

/** What `useData` found: the page, or why there is none yet. */
export function Found({ of, what, children }) {
  if (of.data !== null) return children(of.data);
  if (of.problem) return html`<${Failed} problem=${of.problem} what=${what} again=${of.again} />`;
  return html`<${Loading} what=${what} />`;
}

/** A table in a box that scrolls by itself. `columns`: [heading, is a number]. */
export const Table = ({ label, columns, children }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table>
      <caption class="visually-hidden">${label}</caption>
      <thead><tr>${columns.map(([name, number]) => html`<th scope="col" class=${number ? "n" : ""}>${name}</th>`)}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;

/** A labelled field. */
export const Field = ({ label, note, wrong, children }) => html`
  <label class="field"><span>${label}${note && html` <small class="soft">${note}</small>`}</span>${children}${wrong && html`<em role="alert">${wrong}</em>`}</label>`;

/** Copies a text and says that it did. */
export function Copy({ text, label = "Copy", plain = true }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 2000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    await navigator.clipboard.writeText(text).catch(() => selectFallback(text));
    setDone(true);
  };
  return html`<button type="button" class=${plain ? "plain" : ""} onClick=${copy}>${label}</button>
    <span role="status" class=${done ? "soft" : "visually-hidden"}>${done ? "copied" : ""}</span>`;
}

function selectFallback(text) {
  // Pages that were not opened over https or loopback have no clipboard of their own.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** A question over the page that keeps the focus until it is answered. */
export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  const id = useId();
  useEffect(() => {
    const [dialog, before] = [box.current, document.activeElement];
    dialog.showModal();
    return () => {
      dialog.close(); // what is behind it takes the focus again only then
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return html`<dialog ref=${box} aria-labelledby=${id} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <h2 id=${id}>${title}</h2>${children}</dialog>`;
}

/** Asks for the password of the wallet, for what moves or may move money. `act(password)` may throw a Problem. */
export function AskPassword({ title, children, verb, danger, act, onClose }) {
  const [password, setPassword] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      await act(password);
      onClose();
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${submit}>
    <div class="soft">${children}</div>
    <${Field} label="Password of the wallet" wrong=${problem}>
      <input type="password" autocomplete="current-password" value=${password} autofocus onInput=${(event) => setPassword(event.target.value)} />
    <//>
    <div class="form-end"><button class=${danger ? "danger" : "main"} disabled=${busy}>${busy ? "Working…" : verb}</button>
      <button type="button" onClick=${onClose}>Leave it</button></div>
  </form><//>`;
}
