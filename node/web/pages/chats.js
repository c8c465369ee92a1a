/** The chats of this browser. They are kept here and nowhere else; the program keeps bills, not texts. */

const KEY = "hc.chats";
const MOST = 60;

/**
 * @typedef {{role: "user"|"assistant", text: string, model?: string, reasoning?: string, id?: string, tokens?: number,
 *   prompt?: number, ms?: number, first?: number, cost?: string, note?: string, finish?: string, why?: string,
 *   error?: string, path?: any[], audit?: any}} Turn
 * @typedef {{id: string, title: string, model: string, system: string, temperature: string, most: string,
 *   changed: number, turns: Turn[]}} Chat
 */

const dropped = new Set();

/** @returns {Chat[]} those kept, the newest first */
export function load() {
  try {
    const chats = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return chats.filter((each) => each && Array.isArray(each.turns) && !dropped.has(each.id));
  } catch {
    return [];
  }
}

/**
 * Keeps chats beside those that other windows have kept since, and drops the oldest where there is no room.
 * @param {Chat[]} mine @returns {boolean} whether there was room for all
 */
export function save(mine) {
  const ids = new Set(mine.map((each) => each.id));
  const kept = [...mine, ...load().filter((each) => !ids.has(each.id))].filter((each) => each.turns.length);
  kept.sort((a, b) => b.changed - a.changed);
  kept.length = Math.min(kept.length, MOST);
  for (let all = true; ; all = false) {
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
      return all;
    } catch {
      if (kept.length < 2) return false;
      kept.pop();
    }
  }
}

/** Forgets a chat. */
export const forget = (id) => dropped.add(id);

/** Calls `then` when another window has kept something. */
export const onKept = (then) => addEventListener("storage", (event) => event.key === KEY && then());

/** @param {Chat} [like] whose model and settings it takes over @returns {Chat} */
export const fresh = (like) => ({
  id: Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join(""),
  title: "",
  model: like?.model ?? "",
  system: like?.system ?? "",
  temperature: like?.temperature ?? "",
  most: like?.most ?? "",
  changed: Date.now() / 1000,
  turns: [],
});

/** What a chat is called: its first words. */
export const titled = (text) => (text.length > 60 ? `${text.slice(0, 57).trimEnd()}…` : text);
