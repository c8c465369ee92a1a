/** The channels that this wallet pays from, and closing them. */
import { html, useState } from "./view.js";
import { send, useData } from "./api.js";
import { hct, length, moment, plural, sum, symbol } from "./format.js";
import { Amount, AskPassword, Badge, Card, Empty, Found, Gas, Id, Table } from "./parts.js";

const STATES = { open: ["ok", "open"], closing: ["warn", "closing"], closed: ["wait", "closed"] };

function State({ each }) {
  const [kind, word] = STATES[each.state] ?? ["wait", each.state];
  const left = each.close_at ? each.close_at - Date.now() / 1000 : 0;
  return html`<${Badge} kind=${kind} title=${each.close_at ? moment(each.close_at) : ""}>${word}${each.state === "closing" ? (left > 0 ? `, ${length(left)} to go` : ", can be withdrawn") : ""}<//>`;
}

/** The card. */
export function Channels() {
  const [ended, setEnded] = useState(false);
  const found = useData(`/hc/channels${ended ? "?ended=1" : ""}`, { every: 30, on: ["request_ended", "connected"] });
  const [asked, ask] = useState(null);
  const close = async (password) => {
    await send("POST", `/hc/channels/${asked.channel_id}/close`, { password });
    await found.again();
  };
  const toggle = html`<label class="row soft"><input type="checkbox" checked=${ended} onChange=${(event) => setEnded(event.target.checked)} /> <small>closed ones too</small></label>`;
  return html`<${Card} title="Channels" note="deposits of this wallet; what is not paid out of them comes back" right=${toggle}>
    <${Found} of=${found} what="The channels">${({ channels }) =>
      channels.length
        ? html`<${Table} label="Channels" columns=${[["Provider"], ["Opened"], ["Deposit", 1], ["Paid", 1], ["Left", 1], ["Claimed", 1], ["Gas", 1], ["State"], [""]]}>
            ${channels.map((each) => html`<tr key=${each.channel_id}><th scope="row"><${Id} id=${each.payee} /></th><td class="mono">${moment(each.opened)}</td>
              <td class="n"><${Amount} wei=${each.deposit_wei} /></td><td class="n"><${Amount} wei=${each.signed_wei} /></td><td class="n"><${Amount} wei=${each.left_wei} /></td>
              <td class="n"><${Amount} wei=${each.settled_wei} /></td><td class="n"><${Gas} wei=${each.gas_wei} /></td><td><${State} each=${each} /></td>
              <td>${each.can_close && html`<button class="plain danger" onClick=${() => ask(each)} aria-label=${`${each.state === "closing" ? "Withdraw" : "Close"} the channel to ${each.payee}`}>${each.state === "closing" ? "Withdraw" : "Close"}</button>`}</td></tr>`)}<//>
          <p class="soft"><small>${plural(channels.filter((each) => each.state !== "closed").length, "channel")} with ${hct(sum(channels.filter((each) => each.state !== "closed").map((each) => each.left_wei)))} ${symbol()} left in them.</small></p>`
        : html`<${Empty} title="No channel">A channel to each provider of a path is opened with the first request that needs it, and used again by all that follow.<//>`}<//>
    ${asked && html`<${AskPassword} title=${asked.state === "closing" ? "Withdraw what is left?" : "Close this channel?"} verb=${asked.state === "closing" ? "Withdraw" : "Close it"} danger act=${close} onClose=${() => ask(null)}>
      <p>The channel to <${Id} id=${asked.payee} /> holds <${Amount} wei=${asked.left_wei} unit /> that are not paid.
        ${asked.state === "closing" ? "They go back to your wallet." : "The provider has time to claim what it is owed; then the rest can be withdrawn. The next request over it opens another one."} This is a transaction and costs gas.</p><//>`}
  <//>`;
}
