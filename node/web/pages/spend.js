/** Spend: what was paid, for what, out of which channels, and what may still be paid. */
import { html, useState } from "./view.js";
import { useData } from "./api.js";
import { auditOf, AuditBadge } from "./audit.js";
import { Channels } from "./channels.js";
import { Chart } from "./chart.js";
import { asNumber, coin, count, exact, hct, moment, ms, plural, symbol } from "./format.js";
import { Amount, Badge, Card, Empty, Found, Kpi, Table } from "./parts.js";
import { Policy } from "./policy.js";
import { Detail } from "./request.js";

const SPANS = [["hour", 24, "a day"], ["hour", 168, "a week"], ["day", 720, "a month"], ["day", 8760, "a year"]];
const PAGE = 25;

const OUTCOMES = {
  running: "running", stop: "done", length: "limit of tokens", tool_calls: "calls tools", cost: "limit of cost",
  failed: "failed", cancelled: "stopped", interrupted: "broken off",
};

/** How a request ended, as a word. */
export const outcome = (request) => {
  const word = OUTCOMES[request.outcome] ?? request.outcome;
  return ["failed", "interrupted"].includes(request.outcome) ? html`<${Badge} kind="bad" title=${request.error}>${word}<//>` : word;
};

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();

const Choice = ({ label, all, value, options, set }) => html`<label class="visually-hidden" for=${`by-${label}`}>${label}</label>
  <select id=${`by-${label}`} value=${value} onChange=${(event) => set(event.target.value)}><option value="" selected=${!value}>${all}</option>
    ${options.map(([id, name]) => html`<option value=${id} selected=${id === value}>${name}</option>`)}</select>`;

const Figures = ({ of }) => html`<dl class="kpis">
  <${Kpi} name="today" value=${hct(of.today_wei)} title=${`${exact(of.today_wei)} ${symbol()}`} note=${`${symbol()}, ${plural(of.today_requests, "request")}`} />
  <${Kpi} name="per million tokens" value=${of.per_million_wei === null ? "–" : hct(of.per_million_wei)} note="${symbol()}, of prompt and answer" />
  <${Kpi} name="at risk now" value=${hct(of.risk_wei)} title=${`${exact(of.risk_wei)} ${symbol()}`} note=${of.risk_wei === "0" ? `${symbol()}, every step was answered` : `${symbol()}, of steps without an answer`} />
  <${Kpi} name="gas today" value=${coin(of.gas_wei)} title=${exact(of.gas_wei, 18)} note=${`coin, with ${hct(of.deposited_wei)} ${symbol()} deposited`} />
</dl>`;

function Curve({ spend }) {
  const each = spend.by === "hour" ? "hour" : "day";
  const values = spend.cost_wei.map(asNumber);
  const points = { at: spend.at, values };
  const say = (value) => `${Number(value.toPrecision(4))} ${symbol()}`;
  return html`<${Card} title=${`${symbol()} per ${each}`} note=${`${hct(spend.sum_wei)} in all, ${plural(spend.requests.reduce((a, b) => a + b, 0), "request")}`}>
    ${values.some((value) => value > 0)
      ? html`<${Chart} data=${[points.at, points.values, spend.requests]} label=${`${symbol()} spent per ${each}`} axis=${(value) => (value === 0 ? "0" : String(Number(value.toPrecision(2))))}
          series=${[{ name: "spent", kind: "bars", say }]} />`
      : html`<${Empty} title="Nothing spent in this time">Costs appear here as requests are paid.<//>`}<//>`;
}

function Requests({ filter, base }) {
  const [pages, setPages] = useState([""]);
  const before = pages.at(-1);
  const found = useData(`/hc/requests?${query({ ...filter, before, limit: PAGE })}`, { every: before ? 0 : 15, on: before ? [] : ["request_begun", "request_ended", "request_audited", "connected"] });
  const names = Object.fromEntries((base?.keys ?? []).map((each) => [each.key_id, each.name]));
  return html`<${Card} title="Requests" note="newest first">
    <${Found} of=${found} what="The requests">${({ requests, next }) => html`
      ${requests.length
        ? html`<${Table} label="Requests" columns=${[["When"], ["App"], ["Key"], ["Model"], ["In", 1], ["Cached", 1], ["Out", 1], [symbol(), 1], ["First", 1], ["Took", 1], ["Ended"], ["Audit"]]}>
            ${requests.map((each) => html`<tr key=${each.request_id}>
              <td><a class="go mono" href=${`#/spend/${each.request_id}`} aria-label=${`Request at ${moment(each.started)}`}>${moment(each.started)}</a></td>
              <td>${each.app || each.endpoint}</td><td>${each.key_id ? names[each.key_id] ?? each.key_id : html`<span class="soft">owner</span>`}</td><td>${each.model}</td>
              <td class="n">${count(each.tokens_in)}</td><td class="n">${count(each.tokens_cached)}</td><td class="n">${count(each.tokens_out)}</td>
              <td class="n"><${Amount} wei=${each.spent_wei} /></td><td class="n">${ms(each.first_ms)}</td><td class="n">${ms(each.took_ms)}</td>
              <td>${outcome(each)}</td><td><${AuditBadge} audit=${auditOf(each)} brief /></td></tr>`)}<//>`
        : html`<${Empty} title=${before || Object.values(filter).some(Boolean) ? "No such request" : "No request yet"}>
            ${before || Object.values(filter).some(Boolean) ? "None meets what is chosen above." : html`Say something on <a href="#/chat">the chat page</a>, or give a program a key of <a href="#/keys">the keys page</a>.`}<//>`}
      ${(next || before) && html`<div class="form-end"><button disabled=${!before} onClick=${() => setPages(pages.slice(0, -1))}>Newer</button>
        <button disabled=${!next} onClick=${() => setPages([...pages, next])}>Older</button></div>`}`}<//><//>`;
}

function Budgets({ budgets }) {
  if (!budgets.length) return null;
  return html`<${Card} title="Budgets" note="limits beside what is left of them">
    <${Table} label="Budgets" columns=${[["Budget"], ["Period"], ["Limit", 1], ["Spent", 1], ["Left", 1], [""]]}>
      ${budgets.map((each) => {
        const share = each.limit_wei === "0" ? 1 : Math.min(1, asNumber(each.spent_wei) / asNumber(each.limit_wei));
        return html`<tr key=${each.name}><th scope="row">${each.name}</th><td>${each.period}</td><td class="n"><${Amount} wei=${each.limit_wei} /></td>
          <td class="n"><${Amount} wei=${each.spent_wei} /></td><td class="n"><${Amount} wei=${each.left_wei} /></td>
          <td class="meter"><div class=${`bar ${share > 0.8 ? "near" : ""}`} role="img" aria-label=${`${Math.round(share * 100)} percent spent`}><i style=${{ width: `${share * 100}%` }}></i></div></td></tr>`;
      })}<//><//>`;
}

/** The page, or one request of it. */
export function Spend({ rest, me }) {
  const [filter, setFilter] = useState({ key: "", app: "", model: "" });
  const [span, setSpan] = useState(0);
  const [by, hours] = SPANS[span];
  const spend = useData(rest[0] ? "" : `/hc/spend?${query({ ...filter, by, hours })}`, { every: 20, on: ["request_ended", "request_audited", "connected"] });
  if (rest[0]) return html`<${Detail} id=${rest[0]} />`;
  const base = spend.data;
  const set = (name) => (value) => setFilter({ ...filter, [name]: value });
  return html`
    <div class="head"><h1>Spend</h1><div class="right">
      <${Choice} label="Key" all="all keys" value=${filter.key} set=${set("key")} options=${[["-", "owner, without a key"], ...(base?.keys ?? []).map((each) => [each.key_id, each.name])]} />
      <${Choice} label="App" all="all apps" value=${filter.app} set=${set("app")} options=${(base?.apps ?? []).map((each) => [each, each])} />
      <${Choice} label="Model" all="all models" value=${filter.model} set=${set("model")} options=${(base?.models ?? []).map((each) => [each.model_id, each.name])} />
      <label class="visually-hidden" for="span">How far back</label>
      <select id="span" value=${span} onChange=${(event) => setSpan(Number(event.target.value))}>${SPANS.map(([, , name], at) => html`<option value=${at} selected=${at === span}>${name}</option>`)}</select>
    </div></div>
    <${Found} of=${spend} what="What was spent">${(found) => html`<${Figures} of=${found.figures} /><${Curve} spend=${found} />`}<//>
    <${Requests} key=${query(filter)} filter=${filter} base=${base} />
    ${base && html`<${Budgets} budgets=${base.budgets} />`}
    <${Channels} />
    <${Policy} />`;
}
