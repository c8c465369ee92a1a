/** What a node has at stake, as lines of a list of facts. */
import { html } from "./view.js";
import { moment, plural } from "./format.js";
import { Amount, Badge } from "./parts.js";

/** @param {{stake: object|null}} props null where the chain does not answer */
export const Stake = ({ stake }) => !stake ? html`<dt>stake</dt><dd>not known now</dd>` : html`
  <dt>stake</dt><dd><${Amount} wei=${stake.active_wei} unit /> ${stake.eligible ? html`<${Badge} kind="ok">enough<//>` : html`<${Badge} kind="warn">not enough<//>`}</dd>
  <dt>behind this node</dt><dd><${Amount} wei=${stake.backing_wei} unit />, for ${plural(stake.carries, "session")}</dd>
  ${stake.thawing_wei !== "0" && html`<dt>thawing</dt><dd><${Amount} wei=${stake.thawing_wei} unit />${stake.thaw_end ? `, until ${moment(stake.thaw_end)}` : ""}</dd>`}`;
