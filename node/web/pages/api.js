/** Talking to the program that served these pages: JSON, a stream of happenings, and what to say when it fails. */
import { useCallback, useEffect, useRef, useState } from "./view.js";

/**
 * Why an answer did not come.
 * "expired": no session, a new link is needed. "unreachable": the program does not answer.
 * "refused": it answered with an error, whose sentence is the message.
 */
export class Problem extends Error {
  /** @param {"expired"|"unreachable"|"refused"} kind @param {string} message */
  constructor(kind, message, { status = 0, code = "", retryAfter = 0 } = {}) {
    super(message);
    this.kind = kind;
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const listeners = new Set();
let state = "ok";

/** Whether the program answers: "ok", "unreachable" or "expired". Told to whoever uses `useConnection`. */
function become(next) {
  if (next === state) return;
  state = next;
  for (const listener of listeners) listener(next);
  if (next === "unreachable") knock();
}

async function knock() {
  while (state === "unreachable") {
    await new Promise((done) => setTimeout(done, 1500));
    try {
      await ask("GET", "/hc/me");
    } catch {
      // `ask` has said what it is
    }
  }
}

/** The state of the connection, as a hook. @returns {"ok"|"unreachable"|"expired"} */
export function useConnection() {
  const [value, set] = useState(state);
  useEffect(() => {
    set(state);
    listeners.add(set);
    return () => listeners.delete(set);
  }, []);
  return value;
}

/** A response, or a Problem thrown; the body is not read. @returns {Promise<Response>} */
export async function ask(method, path, body, signal) {
  /** @type {RequestInit & {headers: Record<string, string>}} */
  const options = { method, signal, headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    become("unreachable");
    throw new Problem("unreachable", "The program does not answer.");
  }
  if (response.ok) {
    become("ok");
    return response;
  }
  throw await refusal(response);
}

async function refusal(response) {
  let said = {};
  try {
    said = (await response.json()).error ?? {};
  } catch {
    // no JSON: the status has to do
  }
  const code = typeof said === "string" ? "" : String(said.code ?? "");
  const message = (typeof said === "string" ? said : said.message) || `The program answered with status ${response.status}.`;
  const wrongPassword = code === "wrong_password";
  if (response.status === 401 && !wrongPassword) {
    become("expired");
    return new Problem("expired", "Your session has ended.", { status: 401, code });
  }
  become("ok");
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  return new Problem("refused", message, { status: response.status, code, retryAfter });
}

/** JSON of a path. */
export const get = async (path, signal) => (await ask("GET", path, undefined, signal)).json();

/** JSON sent, JSON back; null where there is none. */
export async function send(method, path, body = {}) {
  const response = await ask(method, path, body);
  return response.status === 204 ? null : response.json();
}

/**
 * JSON of a path, kept up to date: fetched again every so many seconds while the page is looked at, and when something
 * named in `on` happens. What came last stays while a later try fails.
 */
export function useData(path, { every = 0, on = [] } = {}) {
  const [found, setFound] = useState({ path: "", data: null, problem: null });
  const running = useRef(null);
  const again = useCallback(async () => {
    running.current?.abort();
    const abort = (running.current = new AbortController());
    try {
      const data = await get(path, abort.signal);
      if (!abort.signal.aborted) setFound({ path, data, problem: null });
    } catch (problem) {
      if (abort.signal.aborted) return;
      setFound((was) => ({ path, data: was.path === path ? was.data : null, problem }));
    }
  }, [path]);
  useEffect(() => {
    if (!path) return undefined;
    again();
    const timer = every ? setInterval(() => document.hidden || again(), every * 1000) : 0;
    return () => {
      clearInterval(timer);
      running.current?.abort();
    };
  }, [again, every]);
  const connection = useConnection();
  const before = useRef(connection);
  useEffect(() => {
    if (before.current !== "ok" && connection === "ok") again();
    before.current = connection;
  }, [connection]);
  useHappenings((happening) => on.includes(happening.kind) && again(), [again]);
  const mine = found.path === path;
  return { data: mine ? found.data : null, problem: mine ? found.problem : null, again };
}

const heard = new Set();
let source = null;
let told = false;

/** Whether the program tells what happens; only a gateway does. */
export function tells(whether) {
  told = whether;
  if (told) listen();
  else hush();
}

function listen() {
  if (!told || source || document.hidden || heard.size === 0) return;
  source = new EventSource("/hc/events");
  source.onmessage = (event) => {
    const happening = JSON.parse(event.data);
    for (const hear of heard) hear(happening);
  };
  source.onopen = () => {
    for (const hear of heard) hear({ kind: "connected" });
  };
  source.onerror = () => {
    // The browser tries again by itself unless it was refused; whether it was is asked for plainly.
    if (source?.readyState !== EventSource.CLOSED) return;
    hush();
    setTimeout(listen, 4000);
  };
}

function hush() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));

/** Hear what happens for as long as the window is open. */
export function onHappening(hear) {
  heard.add(hear);
  listen();
}

/** Hear what happens in the market: `hear({kind, ...})`. One stream for all of a page, closed while it is hidden. */
export function useHappenings(hear, inputs = []) {
  useEffect(() => {
    heard.add(hear);
    listen();
    return () => {
      heard.delete(hear);
      if (heard.size === 0) hush();
    };
  }, inputs);
}

/**
 * The parts of a server-sent stream: objects of `data:` lines, and {comment} for what servers say in between.
 * @param {Response} response
 */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith(":")) yield { comment: line.slice(1).trim() };
        else if (line.startsWith("data:")) {
          const data = line.slice(5).trim();
          if (data !== "[DONE]") yield JSON.parse(data);
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
