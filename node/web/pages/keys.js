/** Keys: who else may spend from this wallet, how much, and with what. */
import { html, useEffect, useRef, useState } from "./view.js";
import { send, useData } from "./api.js";
import { exact, moment, symbol, wei } from "./format.js";
import { Amount, Badge, Card, Copy, Dialog, Empty, Field, Found, Table } from "./parts.js";

const PERIODS = ["day", "week", "month", "total"];
const LIVES = [["", "never"], ["86400", "in a day"], ["604800", "in a week"], ["2592000", "in 30 days"], ["31536000", "in a year"]];

/** The page. */
export function Keys() {
  const keys = useData("/hc/keys", { every: 20, on: ["request_ended", "connected"] });
  const models = useData("/hc/models");
  const [creating, setCreating] = useState(false);
  const [made, setMade] = useState(null);
  const [revoking, setRevoking] = useState(null);
  const revoke = async () => {
    await send("DELETE", `/hc/keys/${revoking.key_id}`);
    await keys.again();
  };
  return html`<div class="head"><h1>Keys</h1><div class="right"><button class="main" aria-expanded=${creating} onClick=${() => { setCreating(!creating); setMade(null); }}>New key</button></div></div>
    ${creating && html`<${Create} models=${models.data?.models ?? []} policy=${keys.data?.default} onClose=${() => setCreating(false)} done=${(key) => { setMade(key); setCreating(false); keys.again(); }} />`}
    ${made && html`<${Made} made=${made} onClose=${() => setMade(null)} />`}
    <${Card} label="Keys"><${Found} of=${keys} what="The keys">${({ keys: all }) =>
      all.length
        ? html`<${Table} label="Keys" columns=${[["Name"], ["Key"], ["Models"], ["Budget", 1], ["Spent", 1], ["Left", 1], ["Rate", 1], ["Expires"], ["Last used"], ["State"], [""]]}>
            ${all.map((each) => html`<tr key=${each.key_id}><th scope="row">${each.name}</th><td><code>${each.prefix}…</code></td><td class="wrap">${each.models.length ? each.models.join(", ") : "all"}</td>
              <td class="n">${each.budget_wei === null ? "none" : html`<${Amount} wei=${each.budget_wei} />`}${each.budget_wei !== null && html` <span class="soft">${each.period === "total" ? "in all" : `a ${each.period}`}</span>`}</td>
              <td class="n"><${Amount} wei=${each.spent_wei} /></td><td class="n">${each.left_wei === null ? "–" : html`<${Amount} wei=${each.left_wei} />`}</td>
              <td class="n">${each.rpm ? `${each.rpm}/min` : "–"}</td><td class="mono">${each.expires ? moment(each.expires) : "never"}</td><td class="mono">${each.last_used ? moment(each.last_used) : "never"}</td>
              <td><${State} each=${each} /></td>
              <td>${each.state === "active" && html`<button class="plain danger" aria-label=${`Revoke the key ${each.name}`} onClick=${() => setRevoking(each)}>Revoke</button>`}</td></tr>`)}<//>
          <p class="soft"><small>Amounts in ${symbol()}. Of a key only its hash is kept here.</small></p>`
        : html`<${Empty} title="No key yet">A program that speaks OpenAI's, Anthropic's or Ollama's API needs a key of its own; with a budget it can spend no more than that.<//>`}<//><//>
    ${revoking && html`<${Revoke} key_=${revoking} act=${revoke} onClose=${() => setRevoking(null)} />`}`;
}

const State = ({ each }) => each.state === "active" ? html`<${Badge} kind="ok">active<//>`
  : html`<${Badge} kind="wait" title=${each.revoked ? moment(each.revoked) : ""}>${each.state}<//>`;

function Create({ models, policy, onClose, done }) {
  const [values, set] = useState({ name: "", budget: policy?.budget_wei ? exact(policy.budget_wei) : "", period: policy?.period ?? "month", models: [], rpm: "", life: "" });
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const first = useRef(null);
  useEffect(() => first.current.focus(), []);
  const put = (name) => (event) => set({ ...values, [name]: event.target.value });
  const budget = wei(values.budget);
  const wrongBudget = budget === undefined ? `An amount in ${symbol()}, such as 0.5.` : "";
  const submit = async (event) => {
    event.preventDefault();
    if (!values.name.trim() || wrongBudget) return;
    setBusy(true);
    try {
      done(await send("POST", "/hc/keys", {
        name: values.name.trim(), budget_wei: budget, period: values.period, models: values.models,
        rpm: values.rpm ? Number(values.rpm) : null, expires_in: values.life ? Number(values.life) : null,
      }));
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  const pick = (name) => (event) => set({ ...values, models: event.target.checked ? [...values.models, name] : values.models.filter((each) => each !== name) });
  return html`<${Card} title="New key"><form onSubmit=${submit}>
    <div class="fields">
      <${Field} label="Name" note="for you"><input ref=${first} required maxlength="80" value=${values.name} onInput=${put("name")} /><//>
      <${Field} label="Budget in ${symbol()}" note="empty for none" wrong=${wrongBudget}><input class="n" inputmode="decimal" value=${values.budget} onInput=${put("budget")} /><//>
      <${Field} label="for each"><select value=${values.period} onChange=${put("period")}>${PERIODS.map((each) => html`<option selected=${each === values.period}>${each}</option>`)}</select><//>
      <${Field} label="Requests a minute" note="empty for any"><input type="number" min="1" step="1" value=${values.rpm} onInput=${put("rpm")} /><//>
      <${Field} label="Expires"><select value=${values.life} onChange=${put("life")}>${LIVES.map(([value, label]) => html`<option value=${value} selected=${value === values.life}>${label}</option>`)}</select><//>
    </div>
    ${models.length > 1 && html`<fieldset><legend>Models <small>none chosen: all</small></legend>${models.map((each) => html`<label class="row"><input type="checkbox" checked=${values.models.includes(each.name)} onChange=${pick(each.name)} /> ${each.name}</label>`)}</fieldset>`}
    ${problem && html`<div class="notice bad" role="alert">${problem}</div>`}
    <div class="form-end"><button class="main" disabled=${busy || !values.name.trim() || Boolean(wrongBudget)}>Create</button><button type="button" onClick=${onClose}>Leave it</button>
      ${budget === null && html`<small>Without a budget this key can spend all that the wallet's policy allows.</small>`}</div>
  </form><//>`;
}

function Made({ made, onClose }) {
  const box = useRef(null);
  useEffect(() => box.current.focus(), []);
  const base = `${location.origin}/v1`;
  return html`<section class="card" aria-label="The new key" tabindex="-1" data-quiet ref=${box}><header><h2>The key ${made.name}</h2><small>shown this once: keep it now</small></header>
    <div class="stack">
      <div class="secret"><code id="new-key">${made.key}</code><${Copy} text=${made.key} label="Copy the key" plain=${false} /></div>
      <div><small>Try it:</small><pre>${`curl ${base}/chat/completions \\
  -H "Authorization: Bearer ${made.key}" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "${made.model ?? "MODEL"}", "messages": [{"role": "user", "content": "Hello"}]}'`}</pre>
      <small>In programs: base URL <code>${base}</code>, for Anthropic's SDK <code>${location.origin}</code>, and this key.</small></div>
      <div class="row"><button onClick=${onClose}>I have it</button></div></div></section>`;
}

function Revoke({ key_: key, act, onClose }) {
  const [problem, setProblem] = useState("");
  const yes = async () => {
    try {
      await act();
      onClose();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<${Dialog} title=${`Revoke the key ${key.name}?`} onClose=${onClose}>
    <p class="soft">Programs that use it are refused from now on, and what it is running ends. This cannot be undone.</p>
    ${problem && html`<div class="notice bad" role="alert">${problem}</div>`}
    <div class="form-end"><button class="danger" onClick=${yes}>Revoke it</button><button autofocus onClick=${onClose}>Leave it</button></div><//>`;
}
