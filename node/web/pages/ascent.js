/** The price and its ascent: where it was, and the curve of revenue that each update climbs. */
import { html, useState } from "./view.js";
import { useData } from "./api.js";
import { Chart } from "./chart.js";
import { asNumber, layers, moment, percent, perMillion, plural, symbol } from "./format.js";
import { useWidth } from "./map.js";
import { Card, Empty, Found, Table } from "./parts.js";

const HEIGHT = 190;
const million = (wei) => asNumber(wei) * 1e6;
const words = (value) => (value === 0 ? "0" : String(Number(value.toPrecision(2))));

/** The curve of an update: revenue over price, with the price before and after and the best response. */
function Curve({ curve }) {
  const [box, width] = useWidth();
  const points = curve.points.map(([price, revenue]) => [million(price), million(revenue)]);
  const [left, bottom, top] = [58, HEIGHT - 30, 14];
  const most = [Math.max(...points.map(([price]) => price)), Math.max(...points.map(([, revenue]) => revenue)) || 1];
  const x = (price) => left + ((width - left - 12) * price) / most[0];
  const y = (revenue) => bottom - ((bottom - top) * revenue) / (most[1] * 1.08);
  const at = (price) => {
    const after = points.findIndex(([each]) => each >= price);
    if (after <= 0) return points.at(after < 0 ? -1 : 0)[1];
    const [[a, low], [b, high]] = [points[after - 1], points[after]];
    return low + ((high - low) * (price - a)) / (b - a || 1);
  };
  const line = points.map(([price, revenue]) => `${x(price).toFixed(1)},${y(revenue).toFixed(1)}`).join("L");
  const marks = [
    ["price", curve.price_wei, html`<circle r="5" fill="var(--card)" stroke="var(--accent)" stroke-width="2" />`],
    ["next", curve.next_price_wei, html`<circle r="5" fill="var(--accent)" />`],
    ["best", curve.best_response_wei, html`<path d="M0-6 5.5 4h-11Z" fill="none" stroke="var(--warn)" stroke-width="2" />`],
  ].filter(([, price]) => price !== null && price !== undefined);
  const label = `Revenue over price: now ${perMillion(curve.price_wei)}, then ${perMillion(curve.next_price_wei)}, the most is earned at ${perMillion(curve.best_response_wei)} ${symbol()} per million tokens.`;
  return html`<div class="curve" ref=${box}>${width > 0 && html`<svg viewBox=${`0 0 ${width} ${HEIGHT}`} height=${HEIGHT} role="img" aria-label=${label}>
      ${[0, 0.5, 1].map((share) => html`<line class="axis" x1=${left} x2=${width - 12} y1=${y(most[1] * share)} y2=${y(most[1] * share)} /><text x=${left - 8} y=${y(most[1] * share) + 4} text-anchor="end">${words(most[1] * share)}</text>`)}
      ${[0, 0.5, 1].map((share) => html`<text x=${x(most[0] * share)} y=${bottom + 18} text-anchor=${share === 1 ? "end" : "middle"}>${words(most[0] * share)}</text>`)}
      <path d=${`M${line}L${x(points.at(-1)[0])},${bottom}L${x(points[0][0])},${bottom}Z`} fill="var(--accent)" opacity=".1" />
      <path d=${`M${line}`} fill="none" stroke="var(--accent)" stroke-width="2" />
      ${marks.map(([name, price, shape]) => html`<g key=${name} transform=${`translate(${x(Math.min(million(price), most[0]))},${y(at(million(price)))})`}>${shape}</g>`)}
    </svg>
    <ul class="legend">
      <li><svg viewBox="-11 -6 22 12" aria-hidden="true"><circle r="4.5" fill="none" stroke="var(--accent)" stroke-width="2" /></svg>price then <span class="n">${perMillion(curve.price_wei)}</span></li>
      <li><svg viewBox="-11 -6 22 12" aria-hidden="true"><circle r="5" fill="var(--accent)" /></svg>after the step <span class="n">${perMillion(curve.next_price_wei)}</span></li>
      <li><svg viewBox="-11 -7 22 13" aria-hidden="true"><path d="M0-5 5 4h-10Z" fill="none" stroke="var(--warn)" stroke-width="2" /></svg>earns most <span class="n">${perMillion(curve.best_response_wei)}</span></li>
    </ul>`}</div>`;
}

/** The card. */
export function Ascent() {
  const [chosen, choose] = useState("");
  const found = useData(`/hc/provider/prices?limit=200${chosen ? `&curve=${chosen}` : ""}`, { every: 15 });
  return html`<${Card} title="Price and its ascent" note="${symbol()} per million tokens">
    <${Found} of=${found} what="The prices">${({ history, curve }) => {
      if (!history.length) return html`<${Empty} title="No step yet">The price is looked at once in a while: each step follows the slope of the revenue that the market would give.<//>`;
      const old = [...history].reverse();
      return html`<div class="two">
          <div><h3 class="soft">Price over time</h3>
            ${old.length > 1 ? html`<${Chart} data=${[old.map((each) => each.at), old.map((each) => million(each.next_price_wei)), old.map((each) => (each.best_response_wei === null ? null : million(each.best_response_wei)))]} label="Price over time" axis=${words}
              series=${[{ name: "price", kind: "steps", say: (value) => value.toPrecision(4) }, { name: "earns most", kind: "steps", colour: "--warn", say: (value) => value.toPrecision(4) }]} />` : html`<p class="soft">One step so far.</p>`}</div>
          <div><h3 class="soft">Revenue over price${curve ? `, at ${moment(curve.at)}` : ""}</h3>${curve ? html`<${Curve} curve=${curve} />` : html`<p class="soft">Not known of this step.</p>`}</div></div>
        <hr /><${Table} label="Steps of the price" columns=${[["When"], ["Layers", 1], ["Price", 1], ["Then", 1], ["Gradient", 1], ["Chosen", 1], ["Rivals", 1], ["Earns most", 1], ["Bound"], [""]]}>
          ${history.slice(0, 8).map((each) => html`<tr key=${each.id}><td class="mono">${moment(each.at)}</td><td class="n">${layers(each.layers)}</td><td class="n">${perMillion(each.price_wei)}</td><td class="n">${perMillion(each.next_price_wei)}</td>
            <td class="n">${each.gradient.toPrecision(3)}</td><td class="n">${percent(each.probability)}</td><td class="n">${each.rivals ?? "–"}</td><td class="n">${perMillion(each.best_response_wei)}</td><td>${each.bound ?? ""}</td>
            <td><button class="plain" aria-pressed=${String(each.id) === chosen} onClick=${() => choose(String(each.id))}>Curve</button></td></tr>`)}<//>
        <p class="soft"><small>${plural(history.length, "step")} kept.</small></p>`;
    }}<//><//>`;
}
