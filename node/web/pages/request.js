/** One request down to its receipts: hops, channels, audits, and a bundle that anyone can check. */
import { html } from "./view.js";
import { useData } from "./api.js";
import { auditOf, AuditBadge } from "./audit.js";
import { count, layers, moment, ms, percent, perMillion, plural, relative, symbol } from "./format.js";
import { Amount, Badge, Card, Copy, Empty, Found, Gas, Id, Table } from "./parts.js";

const FINDINGS = { pass: ["ok", "passed"], grey: ["warn", "undecided"], fail: ["bad", "failed"], error: ["wait", "not possible"] };

const ENDS = {
  running: "is running", stop: "the model ended it", length: "ended at the limit of tokens", tool_calls: "calls tools",
  cost: "ended at the limit of cost", failed: "failed", cancelled: "was stopped", interrupted: "was broken off",
};

const Facts = ({ of }) => html`<${Card} label="The request"><dl class="facts">
  <dt>model</dt><dd>${of.model}</dd>
  <dt>asked by</dt><dd>${of.app || of.endpoint}${of.key_name ? `, key ${of.key_name}` : ""}</dd>
  <dt>through</dt><dd>${of.endpoint}</dd>
  <dt>began</dt><dd class="n">${moment(of.started)}</dd>
  <dt>first token after</dt><dd class="n">${ms(of.first_ms)}</dd>
  <dt>took</dt><dd class="n">${ms(of.took_ms)}</dd>
  <dt>ended</dt><dd>${ENDS[of.outcome] ?? of.outcome}</dd>
  <dt>tokens in</dt><dd class="n">${count(of.tokens_in)}${of.tokens_cached ? `, ${count(of.tokens_cached)} cached` : ""}</dd>
  <dt>tokens out</dt><dd class="n">${count(of.tokens_out)}</dd>
  ${of.seed !== null && html`<dt>seed</dt><dd class="n">${of.seed}</dd>`}
</dl><//>`;

const Costs = ({ of }) => html`<${Card} title="Cost" note="in ${symbol()}"><dl class="facts">
  <dt>paid to providers</dt><dd><${Amount} wei=${of.cost_wei} digits=${5} /></dd>
  <dt>at risk, for steps without an answer</dt><dd><${Amount} wei=${of.risked_wei} digits=${5} /></dd>
  <dt>paid to auditors</dt><dd><${Amount} wei=${of.audit_cost_wei} digits=${5} /></dd>
  <dt><strong>together</strong></dt><dd><strong><${Amount} wei=${of.spent_wei} digits=${5} /></strong></dd>
  <dt>put into channels</dt><dd><${Amount} wei=${of.deposited_wei} digits=${5} /></dd>
  <dt>gas, in the chain's coin</dt><dd><${Gas} wei=${of.gas_wei} digits=${5} /></dd>
</dl><//>`;

const Hops = ({ hops }) => html`<${Card} title="Hops" note="prices in ${symbol()} per million tokens">
  ${hops.length
    ? html`<${Table} label="Hops" columns=${[["Provider"], ["Layers", 1], ["Price", 1], ["Prompt", 1], ["Tokens", 1], ["Paid", 1], ["At risk", 1], ["Channel"], ["Session"], [hops.some((hop) => hop.outcome) ? "Ended" : ""]]}>
        ${hops.map((hop) => html`<tr key=${hop.session + hop.peer}><th scope="row"><${Id} id=${hop.peer} /></th><td class="n">${layers(hop.layers)}</td>
          <td class="n">${perMillion(hop.price_wei)}</td><td class="n">${perMillion(hop.prompt_price_wei)}</td><td class="n">${count(hop.tokens)}</td>
          <td class="n"><${Amount} wei=${hop.paid_wei} /></td><td class="n"><${Amount} wei=${hop.risked_wei} /></td>
          <td><${Id} id=${hop.channel} /></td><td><${Id} id=${hop.session} /></td><td class="wrap">${hop.outcome}</td></tr>`)}<//>`
    : html`<${Empty} title="No hop">No provider took part: nothing was paid.<//>`}<//>`;

const Audits = ({ of }) => {
  const audits = of.hops.flatMap((hop) => hop.audits.map((audit) => ({ ...audit, hop })));
  return html`<${Card} title="Audits" right=${html`<${AuditBadge} audit=${auditOf(of)} />`}>
    ${audits.length
      ? html`<${Table} label="Audits" columns=${[["When"], ["Layers", 1], ["Finding"], ["Looked over by"], ["Tokens", 1], ["Median error", 1], ["Greatest", 1], ["Agreement", 1], ["Cost", 1], ["Case"], ["Note"]]}>
          ${audits.map((each) => {
            const [kind, word] = FINDINGS[each.finding] ?? ["wait", each.finding];
            return html`<tr key=${each.audit_id}><td class="mono">${moment(each.at)}</td><td class="n">${layers(each.hop.layers)}</td><td><${Badge} kind=${kind}>${word}<//></td>
              <td>${each.auditor === "own" ? "this machine" : html`<${Id} id=${each.auditor} />`}</td><td class="n">${count(each.tokens)}</td>
              <td class="n">${each.exact ? "exact" : relative(each.median_error)}</td><td class="n">${relative(each.max_error)}</td>
              <td class="n">${percent(each.agreement)}</td><td class="n"><${Amount} wei=${each.cost_wei} /></td><td class="n">${each.case_id ?? "–"}</td><td class="wrap">${each.note.startsWith("median error") ? "" : each.note}</td></tr>`;
          })}<//>`
      : html`<${Empty} title=${of.audits_open || of.outcome === "running" ? "The audit follows" : "Not looked over"}>
          ${of.audits_open || of.outcome === "running" ? "Stages are run again after the answer has ended; this page shows what is found." : "Some answers are drawn by lot to be looked over; this one was not, or the auditor was busy."}<//>`}<//>`;
};

/** The page of a request. */
export function Detail({ id }) {
  const found = useData(`/hc/requests/${encodeURIComponent(id)}`, { every: 20, on: ["request_ended", "request_audited", "connected"] });
  return html`<div class="head"><a href="#/spend" class="button">Back</a><h1>Request <code>${id}</code></h1><${Copy} text=${id} label="Copy the id" /></div>
    <${Found} of=${found} what="This request">${(of) => html`
      ${of.error && html`<div class="notice bad"><span>${of.error}</span></div>`}
      ${of.doubtful && html`<div class="notice bad"><strong>Doubtful.</strong><span>An audit found that a provider did not run its layers as it should: the text of this answer may be wrong.</span></div>`}
      <div class="two"><${Facts} of=${of} /><${Costs} of=${of} /></div>
      <${Hops} hops=${of.hops} />
      <${Audits} of=${of} />
      <${Card} title="Receipts" note=${plural(of.receipts, "stage")}>
        ${of.receipts
          ? html`<p>A bundle holds what the providers signed about each step, and the vouchers that paid for it. It can be checked without this program and without the chain:</p>
              <pre>hc-client verify ${id}.receipts</pre>
              <div class="form-end"><a class="button" href=${`/hc/requests/${encodeURIComponent(id)}/bundle`} download=${`${id}.receipts`}>Download the bundle</a></div>`
          : html`<p class="soft">No receipts are kept of this request${of.outcome === "running" ? " yet" : ""}.</p>`}<//>`}<//>`;
}
