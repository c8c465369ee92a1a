/** The hops of a path one below the other, with what each costs and how far it is. */
import { html } from "./view.js";
import { layers, ms, perMillion, symbol } from "./format.js";
import { Id } from "./parts.js";

const Dot = ({ doubt }) => html`<svg viewBox="0 0 11 11" aria-hidden="true">${
  doubt ? html`<path d="m1.5 1.5 8 8m0-8-8 8" stroke="currentColor" stroke-width="2" />` : html`<circle cx="5.5" cy="5.5" r="5" fill="currentColor" />`}</svg>`;

/** @param {{hops: object[]}} props each hop: peer, layers, price_wei per token, ms per token, doubtful */
export const Hops = ({ hops }) => html`<ol class="hops">${hops.map(
  (hop) => html`<li class=${`hop ${hop.doubtful ? "doubt" : ""}`}>
    <${Dot} doubt=${hop.doubtful} />
    <div><${Id} id=${hop.peer} /><small>layers ${layers(hop.layers)}${hop.doubtful ? ", doubtful" : ""}${hop.replaced ? ", left on the way" : ""}</small></div>
    <div class="n" title="${symbol()} per million tokens, and ms per token">${perMillion(hop.price_wei)}<small class="n">${hop.ms === null || hop.ms === undefined ? "" : ms(hop.ms)}</small></div>
  </li>`)}</ol>`;
