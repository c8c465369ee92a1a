/** Verifier: cases that this machine judges, and what it has earned. */
import { html } from "./view.js";

/** The page. */
export function Verifier() {
  return html`<div class="head"><h1>Verifier</h1></div>`;
}
