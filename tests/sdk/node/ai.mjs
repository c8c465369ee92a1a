// The AI SDK over @ai-sdk/openai (which speaks /v1/responses by itself) and over @ai-sdk/openai-compatible.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { COUNT, counted, fact, KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, tell, URL } from "./given.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const Town = z.object({ name: z.enum(["Paris", "Rome"]), rivers: z.enum(["1", "2", "3"]) });
const weather = tool({
  description: "The weather in a city",
  inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
  execute: async ({ city }) => `It is sunny in ${city}.`,
});

/** Models of one key: by responses, by chat, and by the package for everything compatible. */
function models(apiKey, fetch = globalThis.fetch) {
  const baseURL = `${URL}/v1`;
  const own = createOpenAI({ baseURL, apiKey, fetch });
  const compatible = createOpenAICompatible({
    name: "hypercluster", baseURL, apiKey, fetch, includeUsage: true, supportsStructuredOutputs: true,
  });
  return { responses: own(MODEL), chat: own.chat(MODEL), compatible: compatible(MODEL) };
}

const ask = { system: "Be brief.", prompt: QUESTION, temperature: 0, maxOutputTokens: 12, maxRetries: 2 };
for (const [kind, model] of Object.entries(models(KEY))) {
  await fact(`${kind}_text`, async () => {
    const { text, finishReason, usage } = await generateText({ ...ask, model });
    return { text, finishReason, usage };
  });
  await fact(`${kind}_stream`, async () => {
    const errors = [];
    const stream = streamText({ ...ask, model, onError: ({ error }) => errors.push(`${error}`) });
    const pieces = [];
    for await (const piece of stream.textStream) pieces.push(piece);
    return { pieces, errors, finishReason: await stream.finishReason, usage: await stream.usage };
  });
  if (kind === "chat") continue; // the same as compatible from here on
  await fact(`${kind}_object`, async () => {
    const { object } = await generateObject({ ...ask, model, maxOutputTokens: 60, schema: Town });
    return object;
  });
  await fact(`${kind}_tools`, async () => {
    const { steps, text } = await generateText({
      model, temperature: 0, maxOutputTokens: 100,
      prompt: "How is the weather in Paris?",
      tools: { weather },
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber ? "none" : "required" }),
    });
    const [first] = steps;
    return { steps: steps.length, calls: first.toolCalls, results: first.toolResults, reason: first.finishReason, text };
  });
}
const { compatible, responses } = models(KEY);
await fact("object_stream", async () => {
  const stream = streamObject({ ...ask, model: compatible, maxOutputTokens: 60, schema: Town });
  let parts = 0;
  for await (const _ of stream.partialObjectStream) parts += 1;
  return { parts, object: await stream.object };
});
await fact("stop", async () => {
  const { text, finishReason } = await generateText({
    ...ask, model: compatible, maxOutputTokens: 40, stopSequences: ["Paris"],
  });
  return { text, finishReason };
});
await fact("cancel", async () => {
  const abort = new AbortController();
  const stream = streamText({
    model: compatible, prompt: COUNT, temperature: 0, maxOutputTokens: 2000, abortSignal: abort.signal, onError() {},
  });
  let read = 0;
  for await (const _ of stream.textStream) if (++read === 2) break;
  abort.abort();
  return { read };
});

async function refused(key) {
  const seen = {};
  for (const kind of ["responses", "compatible"]) {
    const fetch = counted();
    try {
      await generateText({ ...ask, model: models(key, fetch)[kind] });
      seen[kind] = { tries: fetch.tries, status: 200 };
    } catch (error) {
      seen[kind] = { tries: fetch.tries, status: error.statusCode, retryable: error.isRetryable, text: error.message };
    }
  }
  return seen;
}
await fact("budget", () => refused(POOR_KEY));
await fact("revoked", () => refused(REVOKED_KEY));
tell();
