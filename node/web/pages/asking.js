/** One answer of a model, asked for over the API that every program uses, with the session of this page. */
import { ask, events } from "./api.js";
import { big } from "./format.js";

/**
 * The path and body that a model is asked by. One without a chat template knows no turns: it goes on with the text.
 * @param {any} chat @param {any[]} turns @param {boolean} template @returns {[string, object]}
 */
export function asked(chat, turns, template) {
  const said = turns.filter((turn) => turn.text);
  /** @type {Record<string, any>} */
  const body = { model: chat.model };
  if (chat.temperature !== "") body.temperature = Number(chat.temperature);
  if (chat.most !== "") body.max_tokens = Number(chat.most);
  const system = chat.system.trim();
  if (!template) return ["/v1/completions", { ...body, prompt: [system, ...said.map((turn) => turn.text)].filter(Boolean).join("\n") }];
  const messages = said.map(({ role, text }) => ({ role, content: text }));
  if (system) messages.unshift({ role: "system", content: system });
  return ["/v1/chat/completions", { ...body, messages }];
}

/**
 * Asks, and tells what came through `tell(changes)` while it streams.
 * @param {[string, object]} request as `asked` makes it
 * @param {(changes: object) => void} tell
 * @param {AbortSignal} signal
 */
export async function answer([path, body], tell, signal) {
  const begun = performance.now();
  const so = { text: "", reasoning: "", tokens: 0, ms: 0, first: 0, note: "finding a path", finish: "" };
  const say = (changes) => tell(Object.assign(so, changes));
  say({});
  const response = await ask(
    "POST",
    path,
    { ...body, stream: true, stream_options: { include_usage: true } },
    signal,
  );
  say({ id: response.headers.get("x-request-id") ?? "" });
  for await (const part of events(response)) {
    if (part.comment !== undefined) {
      if (part.comment) say({ note: part.comment });
      continue;
    }
    if (part.error) throw new Error(part.error.message ?? "The answer broke off.");
    const choice = part.choices?.[0];
    const delta = choice?.delta ?? {};
    const text = delta.content ?? choice?.text;
    if (text || delta.reasoning_content) {
      const now = performance.now();
      say({
        text: so.text + (text ?? ""),
        reasoning: so.reasoning + (delta.reasoning_content ?? ""),
        tokens: so.tokens + 1,
        first: so.first || now - begun,
        ms: now - begun,
        note: "",
      });
    }
    if (choice?.finish_reason) say({ finish: choice.finish_reason, note: "" });
    if (part.hypercluster?.path) say({ path: part.hypercluster.path });
    if (part.usage) say(billed(part, so));
  }
}

/** @param {{usage: any, hypercluster?: any}} part */
function billed({ usage, hypercluster = {} }, so) {
  /** @type {Record<string, any>} */
  const changes = { tokens: usage.completion_tokens ?? so.tokens, prompt: usage.prompt_tokens, cost: usage.cost_wei ?? so.cost };
  if (hypercluster.finish) changes.why = hypercluster.finish;
  if (hypercluster.request_id) changes.id = hypercluster.request_id;
  return changes;
}

/** What an answer has cost so far, at the prices of its path; undefined while no path is known. */
export function soFar(turn) {
  if (turn.cost !== undefined || !turn.path) return turn.cost;
  return turn.path
    .reduce((total, hop) => total + big(hop.price_wei) * BigInt(turn.tokens ?? 0) + big(hop.prompt_price_wei) * BigInt(turn.prompt ?? 0), 0n)
    .toString();
}
