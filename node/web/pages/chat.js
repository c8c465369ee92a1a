/** Chat: what was said, what it cost, over which path it went, and what the audits found. */
import { html, useEffect, useRef, useState } from "./view.js";
import { useData } from "./api.js";
import { soFar } from "./asking.js";
import { AuditBadge } from "./audit.js";
import { moment, ms, perMillion, plural, sum, symbol } from "./format.js";
import { Prose } from "./markdown.js";
import { Amount, Card, Copy, Empty, Failed, Field, Found } from "./parts.js";
import { Hops } from "./path.js";
import { ask, change, drop, open, show, stop, useTalk } from "./talk.js";

const ENDED = {
  length: "ended at the limit of tokens", cost: "ended at the limit of cost", context: "ended at the end of the context",
  cancelled: "stopped", interrupted: "broken off", failed: "failed",
};

function Under({ turn, running }) {
  const cost = soFar(turn);
  const speed = turn.tokens > 1 && turn.ms > turn.first ? ((turn.tokens - 1) * 1000) / (turn.ms - turn.first) : 0;
  const why = ENDED[turn.why ?? turn.finish];
  return html`<div class="under">
    ${turn.tokens > 0 && html`<span>${plural(turn.tokens, "token")}</span>`}
    ${speed > 0 && html`<span>${speed.toFixed(speed < 10 ? 1 : 0)} tok/s</span>`}
    ${turn.first > 0 && html`<span title="until the first token">first ${ms(turn.first)}</span>`}
    ${cost !== undefined && html`<span><${Amount} wei=${cost} unit />${running ? " so far" : ""}</span>`}
    ${why && html`<span>${why}</span>`}
    ${running ? turn.note && html`<span>${turn.note}</span>` : turn.audit && html`<${AuditBadge} audit=${turn.audit} />`}
    ${!running && turn.id && html`<a href=${`#/spend/${turn.id}`}>bill</a>`}
  </div>`;
}

function Turn({ turn, model, running, last, again }) {
  if (turn.role === "user") {
    return html`<li class="turn you"><div class="who">you</div><div class="text">${turn.text}</div></li>`;
  }
  return html`<li class="turn" aria-busy=${running ? "true" : undefined}>
    <div class="who">${turn.model || model}</div>
    ${turn.reasoning && html`<details class="reasoning" open=${running && !turn.text}><summary>Reasoning</summary><${Prose} text=${turn.reasoning} /></details>`}
    ${turn.text ? html`<${Prose} text=${turn.text} />` : html`<div class="text">${running ? html`<span class="caret"></span>` : ""}</div>`}
    ${turn.error && html`<div class="notice bad" role="alert"><span>${turn.error}</span>${last && html`<button type="button" onClick=${again}>Try again</button>`}</div>`}
    <${Under} turn=${turn} running=${running} />
    ${!running && turn.text && html`<div class="under"><span class="tools"><${Copy} text=${turn.text} />
      ${last && html`<button class="plain" type="button" onClick=${again}>Regenerate</button>`}</span></div>`}
  </li>`;
}

function Compose({ busy, loading, ready, send, stop, children }) {
  const [text, setText] = useState("");
  const [due, setDue] = useState(false); // sent before the models were known
  const area = useRef(null);
  useEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight}px`;
  }, [text]);
  const submit = (event) => {
    event.preventDefault();
    area.current.focus();
    if (busy) return stop();
    if (text.trim() && loading) setDue(true);
    if (!text.trim() || !ready) return undefined;
    setDue(false);
    send(text.trim());
    setText("");
    return undefined;
  };
  useEffect(() => {
    if (due && ready) submit(new Event("submit"));
  }, [due, ready]);
  const key = (event) => {
    if (event.key === "Escape" && busy) stop();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !busy) submit(event);
  };
  return html`<form class="compose" onSubmit=${submit}>
    <div class="say">
      <textarea ref=${area} rows="1" aria-label="Message" placeholder="Write a message" value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${key}></textarea>
      <button class=${busy ? "" : "main"} type="submit" disabled=${!busy && (!ready || !text.trim())}>${busy ? "Stop" : "Send"}</button>
    </div>
    <div class="under-say">${children}</div>
  </form>`;
}

function Options({ chat }) {
  const set = (name) => (event) => change(chat.id, () => ({ [name]: event.target.value }));
  return html`<section class="card" id="options" aria-label="Settings of this chat"><div class="stack">
    <${Field} label="System text" note="said to the model before everything else">
      <textarea rows="2" value=${chat.system} onInput=${set("system")}></textarea><//>
    <div class="fields">
      <${Field} label="Temperature" note="0 always takes the likeliest"><input type="number" min="0" max="2" step="0.1" placeholder="the model's" value=${chat.temperature} onInput=${set("temperature")} /><//>
      <${Field} label="Tokens at most" note="of each answer"><input type="number" min="1" step="1" placeholder="as many as fit" value=${chat.most} onInput=${set("most")} /><//>
    </div></div></section>`;
}

function Aside({ chat, me, chats, busy }) {
  const turns = chat.turns.filter((turn) => turn.role === "assistant");
  const latest = turns.findLast((turn) => turn.path?.length);
  const plan = useData(latest || !chat.model ? "" : `/hc/network?model=${encodeURIComponent(chat.model)}`, { every: 20, on: ["advert_changed"] });
  const hops = latest?.path ?? plan.data?.path?.hops ?? [];
  const limits = me?.limits ?? {};
  return html`<aside aria-label="Path, cost and chats">
    <${Card} title="Path" note=${latest ? "of the last answer" : "of the next answer"}>
      ${hops.length ? html`<${Hops} hops=${hops} />` : html`<p class="soft">${plan.data?.reason ?? "Known when the first answer begins."}</p>`}
      <hr />
      <dl class="facts">
        <dt>this answer</dt><dd><${Amount} wei=${turns.length ? soFar(turns.at(-1)) : null} /></dd>
        <dt>this chat</dt><dd><${Amount} wei=${sum(turns.map((turn) => soFar(turn) ?? 0))} /></dd>
        ${limits.day_wei && html`<dt>today</dt><dd><${Amount} wei=${limits.day_spent_wei} /></dd>
          <dt>limit of a day</dt><dd><${Amount} wei=${limits.day_wei} /></dd>`}
        ${limits.request_wei && html`<dt>limit of an answer</dt><dd><${Amount} wei=${limits.request_wei} /></dd>`}
      </dl>
      <p class="soft"><small>Amounts in ${symbol()}, prices in ${symbol()} per million tokens.</small></p>
    <//>
    <${Card} title="Chats" note="kept in this browser">
      ${chats.length ? html`<ul class="chats">${chats.map((each) => html`<li key=${each.id}>
        <button class="pick" aria-current=${each.id === chat.id ? "true" : undefined} onClick=${() => show(each.id)} title=${`${each.title}, ${moment(each.changed)}`}><span>${each.title || "Untitled"}</span></button>
        <button class="plain" disabled=${busy === each.id} aria-label=${`Delete the chat ${each.title}`} onClick=${() => drop(each.id)}>Delete</button></li>`)}</ul>`
        : html`<p class="soft">None yet.</p>`}
    <//>
  </aside>`;
}

/** The page. */
export function Chat({ me }) {
  const talk = useTalk();
  const { shown: chat, busy, running } = talk;
  const models = useData("/hc/models", { every: 20, on: ["advert_changed", "connected"] });
  const [options, setOptions] = useState(false);
  const [said, setSaid] = useState("");
  const entries = models.data?.models ?? [];
  const entry = entries.find((each) => each.name === chat.model);
  const end = useRef(null);
  const last = chat.turns.at(-1);

  useEffect(() => {
    if (entries.length && !entry && !running) change(chat.id, () => ({ model: entries[0].name }));
  }, [models.data, chat.id]);
  useEffect(() => {
    const left = document.documentElement.scrollHeight - scrollY - innerHeight;
    if (running && left < 160) end.current?.scrollIntoView({ block: "end" });
  }, [last?.text, last?.reasoning, chat.turns.length]);
  const before = useRef(false);
  useEffect(() => {
    if (before.current && !running && last) setSaid(last.error ? `The answer failed. ${last.error}` : `Answer: ${last.text}`);
    else if (running) setSaid("The answer begins.");
    before.current = running;
  }, [running]);

  const send = (text) => {
    ask(chat, [...chat.turns, { role: "user", text }], entry.has_template);
    requestAnimationFrame(() => end.current?.scrollIntoView({ block: "end" }));
  };
  const again = () => ask(chat, chat.turns.slice(0, chat.turns.findLastIndex((turn) => turn.role === "user") + 1), entry?.has_template ?? true);
  const create = () => {
    open();
    /** @type {HTMLElement} */ (document.querySelector(".say textarea")).focus();
  };

  return html`
    <div class="head"><h1>Chat</h1>
      <div class="right">
        <label class="visually-hidden" for="model">Model</label>
        <select id="model" value=${chat.model} disabled=${!entries.length || running} onChange=${(event) => change(chat.id, () => ({ model: event.target.value }))}>
          ${entries.length ? entries.map((each) => html`<option value=${each.name} selected=${each.name === chat.model}>${each.name}</option>`) : html`<option>no model</option>`}
        </select>
        <button type="button" aria-expanded=${options} aria-controls="options" onClick=${() => setOptions(!options)}>Settings</button>
        <button type="button" onClick=${create}>New chat</button>
      </div></div>
    ${!talk.room && html`<div class="notice warn" role="alert">This browser has no room for more chats: delete some to keep this one.</div>`}
    <div class="chat">
      <div class="talk">
        ${options && html`<${Options} chat=${chat} />`}
        <ol class="turns" aria-label="Turns of this chat">
          ${chat.turns.map((turn, at) => html`<${Turn} key=${at} turn=${turn} model=${chat.model} last=${at === chat.turns.length - 1} running=${running && at === chat.turns.length - 1} again=${again} />`)}
        </ol>
        ${!chat.turns.length && html`<${Opening} models=${models} entry=${entry} me=${me} />`}
        <div class="visually-hidden" role="status">${said}</div>
        <${Compose} busy=${running} loading=${!entry} ready=${Boolean(entry) && !busy} send=${send} stop=${stop}>
          ${entry && html`<span>${entry.coverage < 1 ? "nobody serves some layers now" : html`<span class="n">${perMillion(entry.price_wei)}</span> ${symbol()} per million tokens, prompt <span class="n">${perMillion(entry.prompt_price_wei)}</span>`}</span>
            <span>context <span class="n">${entry.context.toLocaleString("en")}</span></span>`}
          ${entry && !entry.has_template && html`<span>no chat model: it goes on with your text</span>`}
          <span>${busy && !running ? "another chat is being answered" : "Enter sends, Shift+Enter breaks the line"}</span>
        <//>
        <div ref=${end}></div>
      </div>
      <${Aside} chat=${chat} me=${me} chats=${talk.chats} busy=${busy} />
    </div>`;
}

function Opening({ models, entry }) {
  if (models.problem && !models.data) return html`<${Failed} problem=${models.problem} what="The list of models" again=${models.again} />`;
  return html`<${Found} of=${models} what="the models">${({ models: all }) =>
    all.length
      ? html`<${Empty} title=${entry?.coverage < 1 ? "No path now" : "Ask something"}>
          ${entry?.coverage < 1
            ? html`Some layers of ${entry.name} have no provider at this moment. <a href="#/network">The network page</a> says which; a message can be sent when they are back.`
            : html`Your message goes through every layer of ${entry?.name ?? "the model"} at providers that do not know each other. Each is paid for each token, and some of what they did is checked afterwards.`}<//>`
      : html`<${Empty} title="No model">This gateway trades in no model yet. Start it with one: <code>hc-gateway run --model NAME</code>.<//>`}<//>`;
}
