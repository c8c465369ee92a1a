/** The shell: which pages there are, which one is shown, and what is said when the program is gone. */
import { html, render, useEffect, useRef, useState } from "./view.js";
import { tells, useConnection, useData } from "./api.js";
import { exact, hct, length, payIn, plural, symbol } from "./format.js";
import { Chat } from "./chat.js";
import { Network } from "./network.js";
import { Spend } from "./spend.js";
import { Keys } from "./keys.js";
import { Provider } from "./provider.js";
import { Verifier } from "./verifier.js";

const PAGES = {
  gateway: [["chat", "Chat", Chat], ["network", "Network", Network], ["spend", "Spend", Spend], ["keys", "Keys", Keys]],
  provider: [["provider", "Provider", Provider]],
  verifier: [["verifier", "Verifier", Verifier]],
};
const THEMES = ["", "light", "dark"];

/** The place that the address names: [page, ...rest] of "#/spend/1234". */
function usePlace() {
  const read = () => location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  const [place, set] = useState(read);
  useEffect(() => {
    const moved = () => set(read());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

function useTheme() {
  const [theme, set] = useState(() => localStorage.getItem("hc.theme") ?? "");
  useEffect(() => {
    document.documentElement.classList.remove("light", "dark");
    if (theme) document.documentElement.classList.add(theme);
    localStorage.setItem("hc.theme", theme);
  }, [theme]);
  return [theme, () => set(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length])];
}

const Mark = () => html`<svg viewBox="0 0 20 20" aria-hidden="true"><g fill="currentColor"><path d="M4 4v12M16 4v12M4 10h12" stroke="currentColor" stroke-width="1.4" />
  ${[4, 10, 16].map((y) => [4, 16].map((x) => html`<circle cx=${x} cy=${y} r="2" />`))}</g></svg>`;

const THEME_NAMES = { "": "as the system", light: "light", dark: "dark" };

function Foot({ me, theme, turn }) {
  const wallet = me?.wallet;
  const chain = me?.chain;
  return html`<div class="foot">
    ${wallet && html`<span>wallet</span><strong title=${`${exact(wallet.hct_wei)} ${symbol()} of ${wallet.address}`}>${hct(wallet.hct_wei, 4)} ${symbol()}</strong>
      ${wallet.in_channels_wei !== undefined && html`<div>${hct(wallet.in_channels_wei)} in ${plural(wallet.channels, "channel")}</div>`}`}
    ${chain && html`<div>chain ${chain.id}</div><div>${chain.head_age_s === null ? "it does not answer" : `head ${length(chain.head_age_s)} old`}</div>`}
    ${me && html`<div>version ${me.version}</div>`}
    <button class="plain theme" onClick=${turn} title="Light, dark, or as the system says">Theme: ${THEME_NAMES[theme]}</button>
  </div>`;
}

function Gone({ connection, role }) {
  if (connection === "expired") {
    return html`<div class="state" role="alert"><h1>Your session has ended</h1>
      <p>The program that serves these pages was started again, or the session is too old. Ask it for a new link in its
        terminal and open that:</p>
      <pre>${{ provider: "hc-provider link", verifier: "hc-verifier link" }[role] ?? "hc-gateway link"}</pre>
      <p>Your chats are kept in this browser.</p></div>`;
  }
  return html`<div class="notice warn" role="alert"><strong>The program does not answer.</strong>
    <span>It may have been stopped. What you see is from before; this page goes on by itself when it is back.</span></div>`;
}

function App() {
  const connection = useConnection();
  const me = useData("/hc/me", { every: 15, on: ["request_ended", "connected"] });
  if (me.data) payIn(me.data.decimals, me.data.symbol);
  const place = usePlace();
  const [theme, turn] = useTheme();
  useEffect(() => tells(me.data?.role === "gateway" && connection !== "expired"), [me.data?.role, connection]);
  const main = useRef(null);
  const role = me.data?.role ?? "gateway";
  const pages = PAGES[role];
  const [name, title, Page] = pages.find(([each]) => each === place[0]) ?? pages[0];
  const first = useRef(true);
  useEffect(() => {
    document.title = `${title} · HyperCluster`;
    if (!first.current) main.current?.focus();
    first.current = false;
  }, [name]);
  const expired = connection === "expired";
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>To the page</a>
    <div class="frame">
      <nav class="rail" aria-label="Pages">
        <a class="brand" href="#/" aria-label="HyperCluster"><${Mark} /><span>HyperCluster</span></a>
        <ul>${pages.map(([each, label]) => html`<li><a href=${`#/${each}`} aria-current=${each === name ? "page" : undefined}>${label}</a></li>`)}</ul>
        <${Foot} me=${me.data} theme=${theme} turn=${turn} />
      </nav>
      <main id="main" tabindex="-1" ref=${main}>
        ${connection !== "ok" && html`<${Gone} connection=${connection} role=${role} />`}
        ${!expired && (me.data || connection === "unreachable") && html`<${Page} me=${me.data} rest=${place.slice(1)} />`}
        ${!expired && me.problem?.kind === "refused" && html`<div class="notice bad" role="alert">${me.problem.message}</div>`}
      </main>
    </div>`;
}

render(html`<${App} />`, document.getElementById("app"));
