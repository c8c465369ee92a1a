/** What this wallet may spend at all, shown and set. */
import { html, useState } from "./view.js";
import { send, useData } from "./api.js";
import { exact, symbol, wei } from "./format.js";
import { Amount, AskPassword, Card, Field, Found } from "./parts.js";

const LIMITS = [
  ["per_request_wei", "A request", "at most, with its audits"],
  ["per_day_wei", "A day", "of the whole wallet, in UTC"],
  ["total_wei", "Ever", "of the whole wallet"],
  ["per_key_wei", "A new key", "where none is named"],
];
const DEPOSITS = [
  ["float_wei", "Deposit for a provider", "put into its channel"],
  ["top_up_below_wei", "Filled up below", "when less is left of it"],
];
const PERIODS = ["day", "week", "month", "total"];

/** The card. */
export function Policy() {
  const found = useData("/hc/policy");
  const [edited, edit] = useState(null);
  return html`<${Card} title="Policy of the wallet" note="kept where each voucher is signed" right=${!edited && found.data && html`<button onClick=${() => edit(typed(found.data))}>Change</button>`}>
    <${Found} of=${found} what="The policy">${(policy) => (edited ? html`<${Form} edited=${edited} edit=${edit} again=${found.again} />` : html`<${Shown} policy=${policy} />`)}<//><//>`;
}

const typed = (policy) => ({
  ...Object.fromEntries([...LIMITS, ...DEPOSITS].map(([name]) => [name, policy[name] === null ? "" : exact(policy[name])])),
  per_key_period: policy.per_key_period,
});

const Shown = ({ policy }) => html`<div class="two"><dl class="facts">
    ${LIMITS.map(([name, label]) => html`<dt>${label.toLowerCase()}</dt><dd>${policy[name] === null ? "no limit" : html`<${Amount} wei=${policy[name]} unit />`}${name === "per_key_wei" && policy[name] !== null ? (policy.per_key_period === "total" ? " in all" : ` a ${policy.per_key_period}`) : ""}</dd>`)}
  </dl><dl class="facts">
    ${DEPOSITS.map(([name, label]) => html`<dt>${label.toLowerCase()}</dt><dd><${Amount} wei=${policy[name]} unit /></dd>`)}
    <dt>spent today</dt><dd><${Amount} wei=${policy.spent_today_wei} unit /></dd>
    <dt>spent ever</dt><dd><${Amount} wei=${policy.spent_wei} unit /></dd>
  </dl></div>`;

function Form({ edited, edit, again }) {
  const [asking, setAsking] = useState(false);
  const set = (name) => (event) => edit({ ...edited, [name]: event.target.value });
  const wrong = (name, must) => (wei(edited[name]) === undefined ? `An amount in ${symbol()}, such as 0.5.` : must && wei(edited[name]) === null ? "An amount is needed." : "");
  const bad = LIMITS.some(([name]) => wrong(name)) || DEPOSITS.some(([name]) => wrong(name, true));
  const act = async (password) => {
    const values = Object.fromEntries([...LIMITS, ...DEPOSITS].map(([name]) => [name, wei(edited[name])]));
    await send("PUT", "/hc/policy", { ...values, per_key_period: edited.per_key_period, password });
    await again();
    edit(null);
  };
  const field = (must) => ([name, label, note]) => html`<${Field} key=${name} label=${label} note=${note} wrong=${wrong(name, must)}>
    <input class="n" inputmode="decimal" placeholder=${must ? "" : "no limit"} value=${edited[name]} onInput=${set(name)} /><//>`;
  return html`<form onSubmit=${(event) => { event.preventDefault(); if (!bad) setAsking(true); }}>
    <div class="fields">${LIMITS.map(field(false))}
      <${Field} label="for each" note="of that key"><select value=${edited.per_key_period} onChange=${set("per_key_period")}>${PERIODS.map((each) => html`<option selected=${each === edited.per_key_period}>${each}</option>`)}</select><//>
      ${DEPOSITS.map(field(true))}</div>
    <p class="soft"><small>Amounts in ${symbol()}. An empty limit is none.</small></p>
    <div class="form-end"><button class="main" disabled=${bad}>Save</button><button type="button" onClick=${() => edit(null)}>Leave it</button></div>
    ${asking && html`<${AskPassword} title="Change what may be spent?" verb="Change it" act=${act} onClose=${() => setAsking(false)}><p>The new limits count from the next step of every request.</p><//>`}
  </form>`;
}
