/** One answer of a model, asked for over the API that every program uses, with the session of this page. */
import { ask, events } from "./api.js";
import { big } from "./format.js";

/**
 * Asks, and tells what came through `tell(changes)` while it streams.
 * @param {{model: string, messages: object[], temperature?: number, max_tokens?: number}} request
 * @param {(changes: object) => void} tell
 * @param {AbortSignal} signal
 */
export async function answer(request, tell, signal) {
  const begun = performance.now();
  const so = { text: "", reasoning: "", tokens: 0, ms: 0, first: 0, note: "finding a path", finish: "" };
  const say = (changes) => tell(Object.assign(so, changes));
  say({});
  const response = await ask(
    "POST",
    "/v1/chat/completions",
    { ...request, stream: true, stream_options: { include_usage: true } },
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
    if (delta.content || delta.reasoning_content) {
      const now = performance.now();
      say({
        text: so.text + (delta.content ?? ""),
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
