/** Network: who serves which layers of a model at what price, where nobody does, and how that changed. */
import { html, useState } from "./view.js";
import { useData } from "./api.js";
import { Chart } from "./chart.js";
import { asNumber, layers, ms, percent, perMillion, plural, symbol } from "./format.js";
import { LayerMap, ranges } from "./map.js";
import { Badge, Card, Empty, Found, Id, Shape, Table } from "./parts.js";
import { Hops } from "./path.js";

/** What the coverage amounts to in sentences. */
function Words({ network }) {
  const holes = ranges(network.coverage).filter((range) => range.value === 0);
  const alone = network.coverage.map((count, layer) => (count === 1 ? network.providers.find((each) => each.layers[0] <= layer && layer < each.layers[1])?.peer : undefined));
  const thin = ranges(alone).filter((range) => range.value);
  return html`<ul class="words" aria-label="Coverage in words">
    ${holes.map((range) => html`<li key=${`h${range.start}`}><${Shape} kind="bad" /><span>Layers ${layers([range.start, range.stop])} have no provider: there is no path until somebody serves them.</span></li>`)}
    ${thin.map((range) => html`<li key=${`t${range.start}`}><${Shape} kind="warn" /><span>Layers ${layers([range.start, range.stop])} have one provider only: if <${Id} id=${range.value} /> leaves, there is no path.</span></li>`)}
    ${!holes.length && !thin.length && html`<li><${Shape} kind="ok" /><span>Each layer has at least ${plural(Math.min(...network.coverage), "provider")}: any one of them may leave.</span></li>`}
  </ul>`;
}

const Reliability = ({ each }) => each.distrusted
  ? html`<${Badge} kind="bad" title="left out of your paths">not trusted<//>`
  : each.availability < 0.5
    ? html`<${Badge} kind="warn" title=${`honest by ${percent(each.reliability)}, and lately more often silent than not`}>silent<//>`
    : html`<span class="n" title=${`good ${each.good.toFixed(1)}, bad ${each.bad.toFixed(1)}, answers ${percent(each.availability)}`}>${percent(each.reliability)}</span>`;

const Providers = ({ network }) => html`<${Card} title="Providers" note="prices in ${symbol()} per million tokens">
  <${Table} label="Providers" columns=${[["Provider"], ["Layers", 1], ["Price", 1], ["Prompt", 1], ["Each token", 1], ["Free", 1], ["Tokens of a session", 1], ["Reliability", 1], ["Path"]]}>
    ${network.providers.map((each) => html`<tr key=${each.peer + layers(each.layers)}>
      <th scope="row"><${Id} id=${each.peer} /></th>
      <td class="n">${layers(each.layers)}</td><td class="n">${perMillion(each.price_wei)}</td><td class="n">${perMillion(each.prompt_price_wei)}</td>
      <td class="n">${ms(each.ms)}</td><td class="n">${each.free} of ${each.capacity}</td><td class="n">${each.session_tokens.toLocaleString("en")}</td>
      <td class="n"><${Reliability} each=${each} /></td>
      <td>${each.on_path ? html`<${Badge} kind="ok">on your path<//>` : ""}</td></tr>`)}
  <//><//>`;

const Verifiers = ({ verifiers }) => html`<${Card} title="Verifiers" note="look over what providers did">
  ${verifiers.length
    ? html`<${Table} label="Verifiers" columns=${[["Verifier"], ["Layers", 1], ["Price", 1], ["Free", 1], ["Reliability", 1]]}>
        ${verifiers.map((each) => html`<tr key=${each.peer}><th scope="row"><${Id} id=${each.peer} /></th><td class="n">${layers(each.layers)}</td>
          <td class="n">${perMillion(each.price_wei)}</td><td class="n">${each.free} of ${each.capacity}</td><td class="n"><${Reliability} each=${each} /></td></tr>`)}<//>`
    : html`<${Empty} title="No verifier">Nobody offers to look over answers now. Where this gateway holds the layers itself, it still audits.<//>`}<//>`;

const Path = ({ path, reason }) => html`<${Card} title="Path" note="that a request would take now">
  ${path
    ? html`<${Hops} hops=${path.hops} /><hr /><dl class="facts">
        <dt>generated</dt><dd class="n">${perMillion(path.price_wei)}</dd><dt>prompt</dt><dd class="n">${perMillion(path.prompt_price_wei)}</dd>
        <dt>each token</dt><dd class="n">${ms(path.ms)}</dd>
        <dt>weighs price by</dt><dd class="n" title="alpha: 1 looks at the price only, 0 at the time only">${path.alpha}</dd></dl>
        ${path.waived.map((why) => html`<p key=${why}><small>Not all shares are kept: ${why}.</small></p>`)}
        <p class="soft"><small>Prices in ${symbol()} per million tokens.</small></p>`
    : html`<${Empty} title="No path">${reason}<//>`}<//>`;

const SPANS = [[6, "6 hours"], [24, "a day"], [168, "a week"]];

function History({ model }) {
  const [hours, setHours] = useState(24);
  const history = useData(`/hc/network/history?model=${encodeURIComponent(model)}&hours=${hours}`, { every: 60 });
  const right = html`<select aria-label="How far back" value=${hours} onChange=${(event) => setHours(Number(event.target.value))}>${SPANS.map(([value, name]) => html`<option value=${value} selected=${value === hours}>${name}</option>`)}</select>`;
  return html`<${Card} title="History" note="as this gateway saw it" right=${right}>
    <${Found} of=${history} what="The history">${({ at, price_wei: prices, providers }) =>
      at.length > 1
        ? html`<div class="two">
            <div><h3 class="soft">Cheapest path, ${symbol()} per million tokens</h3>
              <${Chart} data=${[at, prices.map((each) => (each === null ? null : asNumber(each) * 1e6))]} label="Price of the cheapest path over time" axis=${(value) => String(Number(value.toPrecision(3)))} series=${[{ name: `${symbol()} per million`, kind: "steps", say: (value) => value.toPrecision(4) }]} /></div>
            <div><h3 class="soft">Providers</h3>
              <${Chart} data=${[at, providers]} label="Number of providers over time" axis=${(value) => (Number.isInteger(value) ? String(value) : "")} series=${[{ name: "providers", kind: "steps", say: String }]} /></div>
          </div>`
        : html`<${Empty} title="Nothing yet">What is offered is written down from now on; come back in a few minutes.<//>`}<//><//>`;
}

/** The page. */
export function Network({ rest }) {
  const models = useData("/hc/models", { every: 30, on: ["connected"] });
  const entries = models.data?.models ?? [];
  const chosen = entries.find((each) => each.name === rest[0]) ?? entries[0];
  const network = useData(chosen ? `/hc/network?model=${encodeURIComponent(chosen.name)}` : "", { every: 10, on: ["advert_changed", "hop_lost", "connected"] });
  return html`<div class="head"><h1>Network</h1>
      <div class="right">${entries.length > 1 && html`<label class="visually-hidden" for="network-model">Model</label>
        <select id="network-model" value=${chosen?.name} onChange=${(event) => { location.hash = `#/network/${encodeURIComponent(event.target.value)}`; }}>${entries.map((each) => html`<option value=${each.name} selected=${each === chosen}>${each.name}</option>`)}</select>`}</div></div>
    <${Found} of=${chosen ? network : models} what="The network">${(found) =>
      !chosen
        ? html`<${Card} label="Network"><${Empty} title="No model">This gateway trades in no model yet. Start it with one: <code>hc-gateway run --model NAME</code>.<//><//>`
        : html`<${Card} title=${chosen.name} note=${`${chosen.layers} layers, context ${chosen.context.toLocaleString("en")}`}>
            ${found.providers.length ? html`<${LayerMap} network=${found} />` : html`<${Empty} title="Nobody serves this model">No provider of ${chosen.name} is known now. They are looked for all the time; the map fills as they are found.<//>`}
            <hr /><${Words} network=${found} /><//>
          <div class="two"><${Path} path=${found.path} reason=${found.reason} /><${Verifiers} verifiers=${found.verifiers} /></div>
          ${found.providers.length > 0 && html`<${Providers} network=${found} />`}
          <${History} model=${chosen.name} />`}<//>`;
}
