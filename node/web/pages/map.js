/** The network as a map: layers from left to right, one row for each provider, above them how many serve each layer. */
import { html, useEffect, useRef, useState } from "./view.js";
import { asNumber, layers, perMillion, plural, short, symbol } from "./format.js";

const ROW = 26;
const TOP = 44;
const MOST_ROWS = 40;

/** The width of a box, followed. */
export function useWidth() {
  const box = useRef(null);
  const [width, set] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(() => set(box.current.clientWidth));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return [box, width];
}

/** Ranges of layers of which something is the same: [{start, stop, value}]. @param {any[]} values one for each layer */
export function ranges(values) {
  const found = [];
  values.forEach((value, layer) => {
    const last = found.at(-1);
    if (last && last.value === value) last.stop = layer + 1;
    else found.push({ start: layer, stop: layer + 1, value });
  });
  return found;
}

/** How dark a bar is: the cheapest for each token of each layer is darkest. */
function shades(providers) {
  const price = (each) => asNumber(each.price_wei) / (each.layers[1] - each.layers[0]);
  const all = providers.map(price);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  return (each) => (high > low ? 0.5 - (0.38 * (price(each) - low)) / (high - low) : 0.34);
}

const tickStep = (count, room) => [1, 2, 5, 10, 20, 50, 100, 200].find((step) => (room / count) * step >= 40) ?? 500;

/** @param {{network: object}} props as /hc/network has it */
export function LayerMap({ network }) {
  const [box, width] = useWidth();
  const [all, setAll] = useState(false);
  const known = [...network.providers].sort((a, b) => a.layers[0] - b.layers[0] || a.layers[1] - b.layers[1] || asNumber(a.price_wei) - asNumber(b.price_wei));
  const rows = all ? known : known.slice(0, MOST_ROWS);
  return html`<div class="map" ref=${box}>
    ${width > 0 && html`<${Drawing} network=${network} rows=${rows} width=${width} />`}
    ${known.length > MOST_ROWS && html`<button class="plain" onClick=${() => setAll(!all)}>${all ? "Show fewer" : `Show all ${known.length} providers`}</button>`}
    <ul class="legend">
      <li><svg viewBox="0 0 22 10" aria-hidden="true"><rect width="22" height="10" rx="3" fill="var(--accent)" /><circle cx="6" cy="5" r="2" fill="var(--on-accent)" /></svg>on your path</li>
      <li><svg viewBox="0 0 22 10" aria-hidden="true"><rect width="11" height="10" fill="var(--accent)" opacity=".5" /><rect x="11" width="11" height="10" fill="var(--accent)" opacity=".14" /></svg>darker is cheaper for a token and a layer</li>
      <li><svg viewBox="0 0 22 10" aria-hidden="true"><rect x=".5" y=".5" width="21" height="9" rx="2" fill="none" stroke="var(--warn)" /></svg>one provider only</li>
      <li><svg viewBox="0 0 22 10" aria-hidden="true"><rect x=".5" y=".5" width="21" height="9" rx="2" fill="none" stroke="var(--bad)" stroke-dasharray="3 2" /></svg>no provider</li>
      ${known.some((each) => each.distrusted) && html`<li><svg viewBox="0 0 22 10" aria-hidden="true"><rect width="22" height="10" rx="3" fill="var(--accent)" opacity=".3" /><rect x=".5" y=".5" width="21" height="9" rx="3" fill="none" stroke="var(--bad)" stroke-dasharray="3 2" /></svg>not trusted, on no path</li>`}
    </ul>
  </div>`;
}

function Drawing({ network, rows, width }) {
  const left = width < 560 ? 78 : 104;
  const room = width - left - 12;
  const x = (layer) => left + (room * layer) / network.layers;
  const bottom = TOP + Math.max(1, rows.length) * ROW;
  const shade = shades(rows);
  const step = tickStep(network.layers, room);
  const marks = [];
  for (let layer = 0; layer < network.layers; layer += step) marks.push(layer);
  if (network.layers - marks.at(-1) < step / 2) marks.pop();
  marks.push(network.layers);
  const holes = network.coverage.filter((each) => each === 0).length;
  const label = `${plural(network.providers.length, "provider")} over ${network.layers} layers of ${network.model}; ${holes ? `${plural(holes, "layer")} without any` : "no layer without one"}. The table below holds the same.`;
  return html`<svg viewBox=${`0 0 ${width} ${bottom + 38}`} height=${bottom + 38} role="img" aria-label=${label}>
    <text x="0" y="21">providers</text>
    ${ranges(network.coverage).map((range) => html`<${Cover} range=${range} x=${x} wide=${room / network.layers} />`)}
    ${marks.map((layer) => html`<line class="axis" x1=${x(layer)} x2=${x(layer)} y1=${TOP - 8} y2=${bottom} /><text x=${x(layer)} y=${bottom + 16} text-anchor="middle">${layer}</text>`)}
    ${rows.map((each, at) => html`<${Row} key=${each.peer + layers(each.layers)} each=${each} y=${TOP + at * ROW} x=${x} shade=${shade(each)} narrow=${left < 100} />`)}
    <text x=${x(network.layers / 2)} y=${bottom + 34} text-anchor="middle">layers</text>
  </svg>`;
}

function Cover({ range, x, wide }) {
  const [from, to] = [x(range.start) + 1, x(range.stop) - 1];
  const gaps = wide >= 7 ? Array.from({ length: range.stop - range.start - 1 }, (_, at) => x(range.start + at + 1)) : [];
  const words = `Layers ${range.start}:${range.stop}: ${plural(range.value, "provider")}`;
  const look = range.value === 0
    ? { fill: "var(--bad-tint)", stroke: "var(--bad)", "stroke-dasharray": "3 2" }
    : range.value === 1 ? { fill: "var(--warn-tint)", stroke: "var(--warn)" } : { fill: "var(--accent)", "fill-opacity": Math.min(0.9, 0.12 + 0.12 * range.value) };
  const ink = range.value > 4 ? "var(--on-accent)" : range.value === 0 ? "var(--bad)" : range.value === 1 ? "var(--warn)" : "var(--ink)";
  return html`<g><title>${words}</title><rect x=${from} y="8" width=${Math.max(1, to - from)} height="18" rx="3" ...${look} />
    ${range.value > 1 && gaps.map((at) => html`<line x1=${at} x2=${at} y1="8" y2="26" stroke="var(--card)" stroke-width="2" />`)}
    ${to - from > 14 && html`<text x=${(from + to) / 2} y="21" text-anchor="middle" style=${{ fill: ink, fontWeight: 600 }}>${range.value}</text>`}</g>`;
}

function Row({ each, y, x, shade, narrow }) {
  const [from, to] = [x(each.layers[0]) + 1, x(each.layers[1]) - 1];
  const text = perMillion(each.price_wei);
  const fits = to - from > text.length * 8 + (each.on_path ? 26 : 14);
  const about = `${each.peer}, layers ${layers(each.layers)}, ${text} ${symbol()} per million tokens${each.on_path ? ", on your path" : ""}${each.distrusted ? ", not trusted" : ""}`;
  return html`<g class=${each.on_path ? "bar-on" : "bar-off"}><title>${about}</title>
    <text class="id" x="0" y=${y + 14}>${narrow ? `…${each.peer.slice(-6)}` : short(each.peer)}</text>
    <rect x=${from} y=${y} width=${Math.max(2, to - from)} height="19" rx="4" fill="var(--card)" />
    <rect x=${from} y=${y} width=${Math.max(2, to - from)} height="19" rx="4" fill="var(--accent)" opacity=${each.on_path ? 1 : shade} />
    ${each.distrusted && html`<rect x=${from + 0.5} y=${y + 0.5} width=${Math.max(2, to - from - 1)} height="18" rx="4" fill="none" stroke="var(--bad)" stroke-dasharray="3 2" />`}
    ${each.on_path && html`<circle cx=${from + 10} cy=${y + 9.5} r="3" fill="var(--on-accent)" />`}
    ${fits && html`<text class="price" x=${from + (each.on_path ? 19 : 8)} y=${y + 14}>${text}</text>`}
  </g>`;
}
