/** Numbers, amounts and moments as people read them. Amounts arrive as wei in decimal strings and stay exact. */

const COIN = 18;
let places = 18;
let named = "HCT";

/** What the token that pays is: its decimals and its symbol; HCT until the program said otherwise. */
export const payIn = (decimals, name) => {
  places = decimals ?? 18;
  named = name ?? "HCT";
};

/** The symbol of the token that pays. */
export const symbol = () => named;

/** @param {string|number|bigint|null|undefined} wei */
export const big = (wei) => BigInt(wei ?? 0);

/** The sum of amounts in wei. @returns {bigint} */
export const sum = (amounts) => amounts.reduce((total, each) => total + big(each), 0n);

/** Wei as a number of HCT, for drawing only. */
export const asNumber = (wei) => Number(big(wei)) / 10 ** places;

/**
 * Wei in HCT with `digits` that mean something, rounded: 0.0000543, 1.25, 1,234.
 * @param {string|bigint|null|undefined} wei
 */
export const hct = (wei, digits = 3) => rounded(wei, digits, places);

/** The same of the chain's coin. */
export const coin = (wei, digits = 3) => rounded(wei, digits, COIN);

function rounded(wei, digits, of) {
  if (wei === null || wei === undefined) return "–";
  let amount = big(wei);
  const sign = amount < 0n ? "−" : "";
  if (amount < 0n) amount = -amount;
  if (amount === 0n) return "0";
  const magnitude = amount.toString().length - of; // digits before the point where positive
  const decimals = Math.min(of, Math.max(0, magnitude > 0 ? Math.max(2, digits - magnitude) : digits - magnitude));
  const unit = 10n ** BigInt(of - decimals);
  const units = (amount + unit / 2n) / unit;
  const text = units.toString().padStart(decimals + 1, "0");
  const whole = text.slice(0, text.length - decimals).replace(/\B(?=(\d{3})+$)/g, ",");
  const fraction = decimals ? text.slice(-decimals).replace(/0+$/, "") : "";
  return sign + (fraction ? `${whole}.${fraction}` : whole);
}

/** All digits, for those who check. */
export function exact(wei, of = places) {
  const text = big(wei).toString().padStart(of + 1, "0");
  return `${text.slice(0, -of)}.${text.slice(-of)}`.replace(/\.?0+$/, "");
}

/** Wei per token as HCT per million tokens; two decimals where they say enough, so that columns of them line up. */
export function perMillion(wei) {
  if (wei === null || wei === undefined) return "–";
  const price = big(wei) * 1000000n;
  const cent = 10n ** BigInt(places - 2);
  const cents = (price + cent / 2n) / cent;
  if (cents < 10n) return hct(price);
  const text = cents.toString().padStart(3, "0");
  return `${text.slice(0, -2).replace(/\B(?=(\d{3})+$)/g, ",")}.${text.slice(-2)}`;
}

/** What a person typed as HCT, in wei; null for nothing, undefined for what is no amount. */
export function wei(text) {
  const typed = String(text).trim().replaceAll(",", "");
  if (!typed) return null;
  const match = /^(\d{0,12})(?:\.(\d{0,24}))?$/.exec(typed);
  if (!match || typed === "." || (match[2] ?? "").length > places) return undefined;
  return (BigInt(match[1] || 0) * 10n ** BigInt(places) + BigInt((match[2] ?? "").padEnd(places, "0"))).toString();
}

/** @param {number|null|undefined} value */
export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

/** One of it or several: plural(2, "hop"). */
export const plural = (value, noun, many = `${noun}s`) => `${count(value)} ${value === 1 ? noun : many}`;

/** Milliseconds with digits that mean something. */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value >= 10 ? Math.round(value) : value.toFixed(1)} ms`;
}

/** A number of seconds as a length of time: 40 s, 12 min, 3 h, 2 d. */
export function length(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

/** The end of a peer id or an address, which is where they differ. */
export const short = (id) => (id && id.length > 9 ? `…${id.slice(-8)}` : id || "–");

/** Layers [start, stop) as the command line writes them. */
export const layers = ([start, stop]) => `${start}:${stop}`;

/** A moment (unix seconds): the time today, else the day, with the time unless it is over a month away. */
export function moment(seconds) {
  if (!seconds) return "–";
  const then = new Date(seconds * 1000);
  const time = then.toLocaleTimeString("en-GB");
  if (then.toDateString() === new Date().toDateString()) return time;
  const day = then.toLocaleDateString("en-CA");
  return Math.abs(Date.now() / 1000 - seconds) > 2592000 ? day : `${day.slice(5)} ${time.slice(0, 5)}`;
}

/** A relative error. */
export const relative = (value) => (value === null || value === undefined ? "–" : value === 0 ? "0" : value.toExponential(1));

/** A share of one as a percentage. */
export const percent = (value) => (value === null || value === undefined ? "–" : `${(value * 100).toFixed(value > 0.995 || value < 0.1 ? 1 : 0)} %`);
