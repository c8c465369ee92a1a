/** Time series with uPlot, in the colours of the page. */
import { html, useEffect, useRef } from "./view.js";
import Plot from "../vendor/uplot.js";

const colour = (name) => {
  // light-dark() is resolved by the browser only where it is used
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

const uPlot = /** @type {any} */ (Plot);

const faded = (rgb, share) => rgb.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

/**
 * @param {{data: number[][], series: {name: string, say: (value: number) => string, kind?: "area"|"bars"|"line"|"steps", colour?: string}[],
 *   label: string, height?: number, axis: (value: number) => string, time?: boolean}} props `data` begins with moments in unix seconds;
 *   `label` says in words what the curve shows
 */
export function Chart({ data, series, label, height = 170, axis, time = true }) {
  const box = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options({ series, height, axis, time, width: box.current.clientWidth }), data, box.current);
    };
    draw();
    const size = new ResizeObserver(() => plot.current?.setSize({ width: box.current.clientWidth, height }));
    size.observe(box.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    const theme = new MutationObserver(draw);
    theme.observe(document.documentElement, { attributeFilter: ["class"] });
    return () => {
      size.disconnect();
      theme.disconnect();
      scheme.removeEventListener("change", draw);
      plot.current.destroy();
    };
  }, [series.map((each) => each.name).join(), height]);
  useEffect(() => plot.current?.setData(data), [data]);
  return html`<div class="chart" ref=${box} role="img" aria-label=${label}></div>`;
}

/** Where nobody points at a moment, the legend is of the latest. */
function latest(plot) {
  if (plot.cursor.idx === null || plot.cursor.idx === undefined) plot.setLegend({ idx: plot.data[0].length - 1 });
}

/** Room for half a bar at both ends. */
function beside(plot) {
  const at = plot.data[0];
  const step = at.length > 1 ? at[1] - at[0] : 3600;
  return [at[0] - step / 2, at.at(-1) + step / 2];
}

function options({ series, height, axis, time, width }) {
  const soft = colour("--soft");
  const line = colour("--line");
  const font = "12px Inter, system-ui, sans-serif";
  const lines = { stroke: soft, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width,
    height,
    padding: [10, 8, 0, 0],
    scales: { x: { time, ...(series.some((each) => each.kind === "bars") ? { range: beside } : {}) }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...lines, grid: { show: false }, space: 80, size: 42, values: time ? [
        [86400, "{MMM} {D}", null, null, null, null, null, null, 1],
        [3600, "{HH}:{mm}", "\n{MMM} {D}", null, "\n{MMM} {D}", null, null, null, 1],
        [60, "{HH}:{mm}", "\n{MMM} {D}", null, "\n{MMM} {D}", null, null, null, 1],
        [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
      ] : undefined },
      { ...lines, size: 64, space: 36, values: (_plot, values) => values.map(axis) },
    ],
    hooks: { ready: [latest], setData: [latest], setCursor: [latest] },
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    legend: { live: true },
    series: [
      { label: "at", value: time ? "{YYYY}-{MM}-{DD} {HH}:{mm}" : (_plot, value) => (value === null ? "–" : axis(value)) },
      ...series.map((each) => {
        const stroke = colour(each.colour ?? "--accent");
        return {
          label: each.name,
          stroke,
          width: 2,
          points: { show: false },
          value: (_plot, value) => (value === null || value === undefined ? "–" : each.say(value)),
          ...(each.kind === "bars" ? { paths: uPlot.paths.bars({ size: [0.7, 40], radius: 0.15 }), fill: faded(stroke, 0.75), width: 0 } : {}),
          ...(each.kind === "steps" ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}),
          ...(each.kind === "area" ? { fill: faded(stroke, 0.13) } : {}),
        };
      }),
    ],
  };
}
