// openai for npm: streams and its helpers .stream(), .parse() and .runTools(), responses, and its refusals.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { COUNT, counted, fact, KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, tell, URL } from "./given.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY });
const ask = {
  model: MODEL,
  messages: [{ role: "system", content: "Be brief." }, { role: "user", content: QUESTION }],
  temperature: 0,
  max_tokens: 12,
};
const Town = z.object({ name: z.enum(["Paris", "Rome"]), rivers: z.enum(["1", "2", "3"]) });
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather in a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
      required: ["city"],
      additionalProperties: false,
    },
    parse: JSON.parse,
    function: ({ city }) => `It is sunny in ${city}.`,
  },
};

await fact("models", async () => (await client.models.list()).data.map((model) => model.id));
await fact("chat", () => client.chat.completions.create(ask));
await fact("stream", async () => {
  const chunks = [];
  const asked = { ...ask, stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create(asked)) chunks.push(chunk);
  return chunks;
});
await fact("stream_helper", async () => {
  const pieces = [];
  const runner = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } });
  runner.on("content", (piece) => pieces.push(piece));
  return { final: await runner.finalChatCompletion(), pieces };
});
await fact("parse", async () => {
  const asked = { ...ask, max_tokens: 60, response_format: zodResponseFormat(Town, "town") };
  return (await client.chat.completions.parse(asked)).choices[0].message.parsed;
});
for (const stream of [false, true])
  await fact(stream ? "run_tools_stream" : "run_tools", async () => {
    const results = [];
    const runner = client.chat.completions.runTools({
      model: MODEL,
      messages: [{ role: "user", content: "How is the weather in Paris?" }],
      tools: [weather],
      tool_choice: { type: "function", function: { name: "weather" } },
      temperature: 0,
      max_tokens: 100,
      stream,
    });
    runner.on("functionToolCallResult", (result) => results.push(result));
    await runner.done();
    return { results, messages: runner.messages };
  });
await fact("stop", () => client.chat.completions.create({ ...ask, max_tokens: 40, stop: "Paris" }));
await fact("responses", async () => {
  const done = await client.responses.create({
    model: MODEL, instructions: "Be brief.", input: QUESTION, temperature: 0, max_output_tokens: 12,
  });
  return { text: done.output_text, status: done.status, usage: done.usage };
});
await fact("responses_stream", async () => {
  const kinds = [];
  const stream = client.responses.stream({
    model: MODEL, instructions: "Be brief.", input: QUESTION, temperature: 0, max_output_tokens: 12,
  });
  for await (const event of stream) kinds.push(event.type);
  return { kinds, text: (await stream.finalResponse()).output_text };
});
await fact("cancel", async () => {
  const asked = { ...ask, messages: [{ role: "user", content: COUNT }], max_tokens: 2000, stream: true };
  const stream = await client.chat.completions.create(asked);
  let read = 0;
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content && ++read === 2) break;
  stream.controller.abort();
  return { read };
});

async function refused(apiKey) {
  const fetch = counted();
  const other = new OpenAI({ baseURL: `${URL}/v1`, apiKey, fetch });
  try {
    await other.chat.completions.create(ask);
  } catch (error) {
    return {
      tries: fetch.tries, status: error.status, code: error.code, type: error.type,
      class: error.constructor.name, request_id: error.requestID,
    };
  }
  return { tries: fetch.tries, status: 200 };
}
await fact("budget", () => refused(POOR_KEY));
await fact("revoked", () => refused(REVOKED_KEY));
tell();
