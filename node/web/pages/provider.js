/** Provider: what this machine serves and earns, and how its price finds its way. */
import { html, useState } from "./view.js";
import { useData } from "./api.js";
import { Ascent } from "./ascent.js";
import { Chart } from "./chart.js";
import { asNumber, count, exact, hct, layers, length, moment, ms, percent, perMillion, plural, symbol } from "./format.js";
import { Amount, Badge, Card, Empty, Found, Gas, Id, Kpi, Table } from "./parts.js";
import { Stake } from "./stake.js";

const Ready = ({ ready }) => {
  const wrong = Object.entries(ready).filter(([, sentence]) => sentence);
  return wrong.length
    ? html`<div class="notice warn" role="status"><strong>Not ready.</strong>${wrong.map(([, sentence]) => html`<span>${sentence}</span>`)}</div>`
    : html`<${Badge} kind="ok">ready<//>`;
};

const Figures = ({ of, earned }) => html`<dl class="kpis">
  <${Kpi} name="earned today" value=${hct(earned?.days.at(-1)?.earned_wei ?? "0")} note=${`${symbol()}, ${plural(earned?.days.at(-1)?.sessions ?? 0, "session")}`} />
  <${Kpi} name="unclaimed" value=${hct(of.unclaimed_wei)} title=${exact(of.unclaimed_wei)} note=${of.claim?.due ? `${symbol()}, will be claimed` : `${symbol()}, of vouchers in hand`} />
  <${Kpi} name="price" value=${perMillion(of.price_wei)} note=${`${symbol()} per million, prompt ${perMillion(of.prompt_price_wei)}`} />
  <${Kpi} name="speed" value=${ms(of.decode_ms)} note=${`each token, prompt ${ms(of.prompt_ms)}`} />
</dl>`;

const Now = ({ of }) => html`<${Card} title="Now" right=${!Object.values(of.ready).some(Boolean) && html`<${Ready} ready=${of.ready} />`}><dl class="facts">
  <dt>model</dt><dd>${of.model.name ?? html`<${Id} id=${of.model.id} />`}</dd>
  <dt>layers</dt><dd class="n">${layers(of.layers)} of ${of.model.layers}</dd>
  <dt>sessions</dt><dd class="n">${of.sessions.open} open, ${of.sessions.free} of ${of.sessions.most} free</dd>
  <dt>tokens of a session</dt><dd class="n">${count(of.sessions.tokens)}</dd>
  <dt>steps waiting</dt><dd class="n">${count(of.queue)}</dd>
  <dt>served since the start</dt><dd class="n">${plural(of.tokens, "token")}</dd>
  <dt>running for</dt><dd class="n">${length(of.uptime_s)}</dd>
  <dt>price set by</dt><dd>${of.price_rule === "gradient" ? "its revenue's gradient" : "you"}</dd>
</dl><//>`;

const Money = ({ of }) => html`<${Card} title="Money and stake"><dl class="facts">
  <${Stake} stake=${of.stake} />
  <dt>operator <${Id} id=${of.operator} /></dt><dd><${Amount} wei=${of.balance_wei} unit /></dd>
  <dt>gas of node <${Id} id=${of.node} /></dt><dd><${Gas} wei=${of.node_gas_wei} /> coin</dd>
  ${of.claim && html`<dt>a claim now</dt><dd><${Amount} wei=${of.claim.owed_wei} unit /> from ${plural(of.claim.channels, "channel")}</dd>
    <dt>its gas</dt><dd><${Amount} wei=${of.claim.gas_wei} unit /></dd>
    <dt>is claimed</dt><dd>${of.claim.due ? "now" : `when it is worth ${of.claim.multiple} times its gas`}</dd>`}
</dl><//>`;

const Demands = ({ demands }) => demands.length > 0 && html`<div class="notice bad" role="alert"><strong>${plural(demands.length, "demand")} for what you served.</strong>
  ${demands.map((each) => html`<span>Number ${each.id} by <${Id} id=${each.demander} />, answered by ${moment(each.deadline)} at the latest.</span>`)}</div>`;

function Earnings({ earned }) {
  const at = earned.days.map((each) => Date.parse(`${each.day}T00:00:00Z`) / 1000);
  return html`<${Card} title="Earned per day" note=${`${hct(earned.earned_wei)} ${symbol()} in all, ${hct(earned.claimed_wei)} claimed, ${hct(earned.unclaimed_wei)} not yet`}>
    ${earned.days.some((each) => each.earned_wei !== "0")
      ? html`<${Chart} data=${[at, earned.days.map((each) => asNumber(each.earned_wei))]} label="${symbol()} earned per day" axis=${(value) => (value === 0 ? "0" : String(Number(value.toPrecision(2))))} series=${[{ name: "earned", kind: "bars", say: (value) => `${Number(value.toPrecision(4))} ${symbol()}` }]} />`
      : html`<${Empty} title="Nothing earned in this time">What clients pay appears here with the first session.<//>`}
    ${earned.channels.length > 0 && html`<hr /><${Table} label="Channels that pay this provider" columns=${[["Client"], ["Opened"], ["Deposit", 1], ["Earned", 1], ["Claimed", 1], ["Unclaimed", 1], ["State"]]}>
      ${earned.channels.map((each) => html`<tr key=${each.channel}><th scope="row"><${Id} id=${each.payer} /></th><td class="mono">${moment(each.opened)}</td><td class="n"><${Amount} wei=${each.deposit_wei} /></td>
        <td class="n"><${Amount} wei=${each.earned_wei} /></td><td class="n"><${Amount} wei=${each.claimed_wei} /></td><td class="n"><${Amount} wei=${each.unclaimed_wei} /></td>
        <td><${Badge} kind=${{ open: "ok", closing: "warn" }[each.state] ?? "wait"}>${each.state}<//></td></tr>`)}<//>`}<//>`;
}

function Sessions() {
  const [pages, setPages] = useState([""]);
  const before = pages.at(-1);
  const found = useData(`/hc/provider/sessions?limit=20${before ? `&before=${encodeURIComponent(before)}` : ""}`, { every: before ? 0 : 10 });
  return html`<${Card} title="Sessions" note="newest first"><${Found} of=${found} what="The sessions">${({ sessions }) => html`
    ${sessions.length
      ? html`<${Table} label="Sessions" columns=${[["Began"], ["Client"], ["Layers", 1], ["Prompt", 1], ["Generated", 1], ["Price", 1], [symbol(), 1], ["Took", 1], ["Outcome"]]}>
          ${sessions.map((each) => html`<tr key=${each.session}><td class="mono">${moment(each.started)}</td><th scope="row"><${Id} id=${each.peer} /></th><td class="n">${layers(each.layers)}</td>
            <td class="n">${count(each.prompt_tokens)}</td><td class="n">${count(each.tokens)}</td><td class="n">${perMillion(each.price_wei)}</td><td class="n"><${Amount} wei=${each.billed_wei} /></td>
            <td class="n">${each.ended ? ms((each.ended - each.started) * 1000) : "–"}</td><td class="wrap">${each.refused ? html`<${Badge} kind="warn">refused<//> ${each.outcome}` : each.ended ? each.outcome : html`<${Badge} kind="ok">running<//>`}</td></tr>`)}<//>`
      : html`<${Empty} title=${before ? "No older session" : "No session yet"}>Clients find this provider by its advert; each completion over its layers is a session.<//>`}
    ${(before || sessions.length === 20) && html`<div class="form-end"><button disabled=${!before} onClick=${() => setPages(pages.slice(0, -1))}>Newer</button>
      <button disabled=${sessions.length < 20} onClick=${() => setPages([...pages, String(sessions.at(-1).started)])}>Older</button></div>`}`}<//><//>`;
}

function Advise() {
  const found = useData("/hc/provider/advise", { every: 120 });
  return html`<${Card} title="Advise" note="ranges that this machine could serve, by what they would earn" right=${found.data?.at && html`<small>of ${moment(found.data.at)}</small>`}>
    <${Found} of=${found} what="The advice">${({ ranges, why, machine, prompt_ratio }) => ranges.length
      ? html`<${Table} label="Advise" columns=${[["Layers", 1], ["Others serve"], ["Price", 1], ["Each token", 1], ["Chosen", 1], ["Revenue", 1]]}>
          ${ranges.map((each) => html`<tr key=${each.layers.join()}><th scope="row" class="n">${layers(each.layers)}</th><td>${each.unserved ? html`<${Badge} kind="warn">nobody<//>` : ""}</td><td class="n">${perMillion(each.price_wei)}</td>
            <td class="n">${ms(each.cost_ms)}</td><td class="n">${percent(each.probability)}</td><td class="n">${perMillion(each.revenue_wei)}</td></tr>`)}<//>
          <p class="soft"><small>Prices and revenue in ${symbol()} per million tokens of answers, with ${Number(prompt_ratio.toPrecision(2))} tokens of prompts for each${machine ? `; ${(machine.memory_bytes / 2 ** 30).toFixed(1)} GiB of memory, ${ms(machine.layer_ms)} a layer` : ""}.</small></p>`
      : html`<${Empty} title="No advice now">${why ?? "It is worked out once in a while from what others offer."}<//>`}<//><//>`;
}

/** The page. */
export function Provider() {
  const now = useData("/hc/provider", { every: 4 });
  const earned = useData("/hc/provider/earnings?days=30", { every: 10 });
  return html`<div class="head"><h1>Provider</h1>${now.data && html`<code title=${now.data.node}>layers ${layers(now.data.layers)}</code>`}</div>
    <${Found} of=${now} what="This provider">${(of) => html`
      ${Object.values(of.ready).some(Boolean) && html`<${Ready} ready=${of.ready} />`}
      <${Demands} demands=${of.demands} />
      ${of.notices.map((each) => html`<div class="notice" key=${each}>${each}</div>`)}
      <${Figures} of=${of} earned=${earned.data} />
      <div class="two"><${Now} of=${of} /><${Money} of=${of} /></div>`}<//>
    <${Found} of=${earned} what="What was earned">${(found) => html`<${Earnings} earned=${found} />`}<//>
    <${Ascent} />
    <${Sessions} />
    <${Advise} />`;
}
