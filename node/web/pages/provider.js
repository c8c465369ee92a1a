/** Provider: what this machine serves and earns, and how its price finds its way. */
import { html } from "./view.js";

/** The page. */
export function Provider() {
  return html`<div class="head"><h1>Provider</h1></div>`;
}
