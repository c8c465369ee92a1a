/** The chats of this browser. They are kept here and nowhere else; the program keeps bills, not texts. */

const KEY = "hc.chats";
const MOST = 60;

/**
 * @typedef {{role: "user"|"assistant", text: string, reasoning?: string, id?: string, tokens?: number, ms?: number,
 *   first?: number, cost?: string, finish?: string, error?: string, path?: object[], audit?: object}} Turn
 * @typedef {{id: string, title: string, model: string, system: string, temperature: string, most: string,
 *   changed: number, turns: Turn[]}} Chat
 */

/** @returns {Chat[]} the newest first */
export function load() {
  try {
    const chats = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(chats) ? chats.filter((each) => each && Array.isArray(each.turns)) : [];
  } catch {
    return [];
  }
}

/** Keeps a chat, and drops the oldest where there is no room. @param {Chat[]} chats @returns {boolean} */
export function save(chats) {
  let kept = chats.filter((each) => each.turns.length).slice(0, MOST);
  for (;;) {
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
      return true;
    } catch {
      if (kept.length < 2) return false;
      kept = kept.slice(0, -1);
    }
  }
}

/** @returns {Chat} */
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
