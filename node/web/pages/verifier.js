/** Verifier: cases that this machine judges, what it has looked over, and what it has earned. */
import { html, useState } from "./view.js";
import { useData } from "./api.js";
import { count, exact, hct, layers, length, moment, ms, percent, perMillion, plural, relative, symbol } from "./format.js";
import { Amount, Badge, Card, Empty, Found, Gas, Id, Kpi, Table } from "./parts.js";
import { Stake } from "./stake.js";

const PHASES = { drawn: ["wait", "drawn"], judged: ["wait", "judged"], committed: ["wait", "committed"], revealed: ["ok", "revealed"], resolved: ["ok", "resolved"], missed: ["bad", "missed"] };
const FINDINGS = { pass: ["ok", "passed"], grey: ["warn", "undecided"], fail: ["bad", "failed"], error: ["wait", "not possible"] };

const soon = (at) => at && at - Date.now() / 1000 < 3600;

function Deadline({ at, done }) {
  if (!at) return html`<span class="n">–</span>`;
  const left = at - Date.now() / 1000;
  if (done || left < 0) return html`<span class="n soft">${moment(at)}</span>`;
  return soon(at) ? html`<${Badge} kind="warn" title=${moment(at)}>in ${length(left)}<//>` : html`<span class="n" title=${moment(at)}>in ${length(left)}</span>`;
}

const Cases = ({ cases }) => html`<${Card} title="Cases" note="that a committee with this machine decides">
  ${cases.length
    ? html`<${Table} label="Cases" columns=${[["Case", 1], ["Accused"], ["Seat", 1], ["Phase"], ["Verdict"], ["Outcome"], ["Drawn"], ["Commit until", 1], ["Reveal until", 1]]}>
        ${cases.map((each) => {
          const [kind, word] = PHASES[each.phase] ?? ["wait", each.phase];
          const done = ["resolved", "missed", "revealed"].includes(each.phase);
          return html`<tr key=${each.case}><th scope="row" class="n">${each.case}</th><td><${Id} id=${each.accused} /></td><td class="n">${each.seat + 1} of ${each.seats}</td><td><${Badge} kind=${kind}>${word}<//></td>
            <td>${each.vote ?? "–"}</td><td>${each.outcome ?? "–"}</td><td class="mono">${moment(each.drawn)}</td><td class="n"><${Deadline} at=${each.commit_deadline} done=${done || each.phase === "committed"} /></td><td class="n"><${Deadline} at=${each.reveal_deadline} done=${done} /></td></tr>`;
        })}<//>`
    : html`<${Empty} title="No case">Cases are rare: a client has to put its own money on a provider's fault. This machine is told when it is drawn.<//>`}<//>`;

function Audits() {
  const [pages, setPages] = useState([""]);
  const before = pages.at(-1);
  const found = useData(`/hc/verifier/audits?limit=20${before ? `&before=${encodeURIComponent(before)}` : ""}`, { every: before ? 0 : 10 });
  return html`<${Card} title="Audits" note=${found.data && `${plural(found.data.total.audits, "audit")} sold for ${hct(found.data.total.paid_wei)} ${symbol()}`}><${Found} of=${found} what="The audits">${({ audits }) => html`
    ${audits.length
      ? html`<${Table} label="Audits" columns=${[["When"], ["Layers", 1], ["Tokens", 1], ["Finding"], ["Median error", 1], ["Greatest", 1], ["Agreement", 1], ["Took", 1], [symbol(), 1], ["Channel"]]}>
          ${audits.map((each) => {
            const [kind, word] = FINDINGS[each.finding] ?? ["wait", each.finding];
            return html`<tr key=${each.id}><td class="mono">${moment(each.at)}</td><td class="n">${layers(each.layers)}</td><td class="n">${count(each.tokens)}</td><td><${Badge} kind=${kind}>${word}<//></td>
              <td class="n">${each.exact ? "exact" : relative(each.median_error)}</td><td class="n">${relative(each.max_error)}</td>
              <td class="n">${percent(each.agreement)}</td><td class="n">${each.seconds === null ? "–" : ms(each.seconds * 1000)}</td><td class="n"><${Amount} wei=${each.paid_wei} /></td><td><${Id} id=${each.channel} /></td></tr>`;
          })}<//>`
      : html`<${Empty} title=${before ? "No older audit" : "No audit yet"}>Clients ask for them after their answers and pay for each.<//>`}
    ${(before || audits.length === 20) && html`<div class="form-end"><button disabled=${!before} onClick=${() => setPages(pages.slice(0, -1))}>Newer</button>
      <button disabled=${audits.length < 20} onClick=${() => setPages([...pages, String(audits.at(-1).id)])}>Older</button></div>`}`}<//><//>`;
}

/** The page. */
export function Verifier() {
  const now = useData("/hc/verifier", { every: 5 });
  return html`<div class="head"><h1>Verifier</h1></div>
    <${Found} of=${now} what="This verifier">${(of) => html`
      ${Object.values(of.ready).some(Boolean) && html`<div class="notice warn" role="status"><strong>Not ready.</strong>${Object.values(of.ready).filter(Boolean).map((each) => html`<span>${each}</span>`)}</div>`}
      ${of.notices.map((each) => html`<div class="notice" key=${each}>${each}</div>`)}
      <dl class="kpis">
        <${Kpi} name="credits" value=${hct(of.credits_wei)} title=${exact(of.credits_wei)} note=${of.credits_at ? `${symbol()}, to be taken from ${moment(of.credits_at)}` : `${symbol()}, for verdicts`} />
        <${Kpi} name="unclaimed" value=${hct(of.unclaimed_wei)} title=${exact(of.unclaimed_wei)} note="${symbol()}, of audits sold" />
        <${Kpi} name="price" value=${perMillion(of.price_wei)} note="${symbol()} per million tokens looked over" />
        <${Kpi} name="audits now" value=${`${of.audits.running} of ${of.audits.most}`} note=${`running for ${length(of.uptime_s)}`} />
      </dl>
      <${Cases} cases=${of.cases} />
      <${Card} title="Seat and stake"><dl class="facts">
        <${Stake} stake=${of.stake} />
        <dt>may be drawn</dt><dd>${of.enlisted ? "yes, it is enlisted" : "no, it is not enlisted"}</dd>
        <dt>operator</dt><dd><${Id} id=${of.operator} /></dd><dt>node</dt><dd><${Id} id=${of.node} /></dd>
        <dt>gas of the node</dt><dd><${Gas} wei=${of.node_gas_wei} /> coin</dd></dl><//>`}<//>
    <${Audits} />`;
}
