// What every script is given by the test, and how it answers: one JSON object of facts on stdout.
export const URL = process.env.SDK_URL;
export const KEY = process.env.SDK_KEY;
export const POOR_KEY = process.env.SDK_POOR_KEY;
export const REVOKED_KEY = process.env.SDK_REVOKED_KEY;
export const MODEL = process.env.SDK_MODEL;
export const QUESTION = "What is the capital of France?";
export const COUNT = "Count from one to a hundred in words.";
const facts = {};

/** Run what follows now and keep what it returns, or what it threw, under a name. */
export async function fact(name, look) {
  try {
    facts[name] = await look();
  } catch (error) {
    facts[name] = { raised: `${error?.stack ?? error}`.slice(0, 2000) };
  }
}

/** A fetch that counts what was asked. */
export function counted() {
  const seen = (...asked) => {
    seen.tries += 1;
    return fetch(...asked);
  };
  seen.tries = 0;
  return seen;
}

export function tell() {
  console.log(JSON.stringify(facts));
}
