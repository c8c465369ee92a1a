/**
 * What is being said: all chats, the one that is shown, and the answer that runs, which goes on while other pages are
 * looked at. One of these for the whole window.
 */
import { useEffect, useState } from "./view.js";
import { get, onHappening } from "./api.js";
import { answer, asked } from "./asking.js";
import { auditOf } from "./audit.js";
import { forget, fresh, load, onKept, save, titled } from "./chats.js";

const KEEP_MS = 2000;

const kept = load().map(ended);
const state = { chats: kept.length ? kept : [fresh()], shown: (kept[0] ?? {}).id, busy: "", room: true };
state.shown ??= state.chats[0].id;
const lookers = new Set();
let abort = null;

/** An answer that a reload cut off is over. */
function ended(chat) {
  const turns = chat.turns.map((turn) =>
    turn.role === "assistant" && !turn.finish && !turn.error ? { ...turn, note: "", finish: "interrupted" } : turn,
  );
  return { ...chat, turns };
}

function changed() {
  for (const look of lookers) look({});
}

/** Changes a chat, and keeps it unless said otherwise. */
export function change(id, alter, keep = true) {
  state.chats = state.chats.map((chat) => (chat.id === id ? { ...chat, ...alter(chat) } : chat));
  if (keep) state.room = save(state.chats);
  changed();
}

/** Shows a chat. */
export function show(id) {
  state.shown = id;
  changed();
}

const here = () => state.chats.find((each) => each.id === state.shown) ?? state.chats[0];

/** Begins a chat with the model and the settings of the one that is shown. */
export function open() {
  const next = fresh(here());
  state.chats = [next, ...state.chats.filter((each) => each.turns.length)];
  show(next.id);
}

/** Forgets a chat. */
export function drop(id) {
  forget(id);
  const like = here();
  const left = state.chats.filter((each) => each.id !== id);
  state.chats = left.length ? left : [fresh(like)];
  if (state.shown === id) state.shown = state.chats[0].id;
  save(state.chats);
  changed();
}

onKept(() => {
  const found = load().map(ended);
  const mine = new Map(state.chats.map((each) => [each.id, each]));
  const others = found.filter((each) => each.id !== state.busy && each.changed > (mine.get(each.id)?.changed ?? 0));
  for (const each of others) mine.set(each.id, each);
  state.chats = [...mine.values()].sort((a, b) => b.changed - a.changed);
  changed();
});

async function lookUp(id, tries = 4) {
  for (;;) {
    try {
      return await get(`/hc/requests/${id}`);
    } catch (problem) {
      if (problem.status !== 404 || --tries <= 0) return null;
      await new Promise((done) => setTimeout(done, 300)); // its row is written when its bill is
    }
  }
}

/** Takes over what the books say of the answer with this id. */
async function note(chatId, id) {
  const request = await lookUp(id);
  if (!request) return;
  const booked = { cost: request.cost_wei, path: request.hops, audit: auditOf(request), tokens: request.tokens_out, prompt: request.tokens_in };
  change(chatId, (chat) => ({ turns: chat.turns.map((turn) => (turn.id === id ? { ...turn, ...booked } : turn)) }));
}

/** Changes the last turn of a chat. */
const inLast = (changes) => (chat) => ({ turns: [...chat.turns.slice(0, -1), { ...chat.turns.at(-1), ...changes }] });

/** Asks for an answer to the turns of a chat. @param {any} chat @param {any[]} turns @param {boolean} template */
export async function ask(chat, turns, template) {
  const begun = (abort = new AbortController());
  state.busy = chat.id;
  /** @type {any} */
  let turn = { role: "assistant", text: "", model: chat.model };
  change(chat.id, () => ({ title: titled(turns[0].text), turns: [...turns, turn], changed: Date.now() / 1000 }));
  const blank = turn;
  let keptAt = 0;
  const tell = (so) => {
    const due = so.id && performance.now() - keptAt > KEEP_MS;
    if (due) keptAt = performance.now();
    turn = { ...blank, ...so };
    change(chat.id, inLast(turn), due);
  };
  /** @type {any} */
  let last = {};
  try {
    await answer(asked(chat, turns, template), tell, begun.signal);
    if (!turn.finish) last = { error: "The answer broke off before its end." };
  } catch (error) {
    if (begun.signal.aborted) last = { finish: "cancelled", why: "cancelled" };
    else if (error instanceof TypeError) last = { finish: "interrupted", why: "interrupted", error: "The connection broke before the answer was whole." };
    else last = { error: error.message };
  }
  state.busy = "";
  change(chat.id, inLast({ ...turn, ...last, note: "" }));
  if (turn.id) note(chat.id, turn.id);
}

/** Ends the answer that runs. */
export const stop = () => abort?.abort();

onHappening((happening) => {
  if (happening.kind !== "request_audited" && happening.kind !== "request_ended") return;
  const chat = state.chats.find((each) => each.turns.some((turn) => turn.id === happening.request_id));
  if (chat && chat.id !== state.busy) note(chat.id, happening.request_id);
});

/** Whether the books may say more of a turn than is known of it. */
const open_ = (turn) => turn.id && turn.role === "assistant" && (turn.audit?.open ?? true);

/** Chats and what runs, as a hook; keeps the marks of the chat that is shown up to date. */
export function useTalk() {
  const [, look] = useState({});
  useEffect(() => {
    lookers.add(look);
    return () => lookers.delete(look);
  }, []);
  const shown = here();
  const running = state.busy === shown.id;
  const waiting = running ? "" : shown.turns.filter(open_).map((turn) => turn.id).slice(-10).join();
  useEffect(() => {
    const all = () => waiting && waiting.split(",").forEach((id) => note(shown.id, id));
    all();
    // An audit is told when it is done; that none is left, a moment later.
    const timer = waiting ? setInterval(all, 4000) : 0;
    return () => clearInterval(timer);
  }, [waiting, shown.id]);
  return { shown, running, busy: state.busy, room: state.room, chats: state.chats.filter((each) => each.turns.length) };
}
