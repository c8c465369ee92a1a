/**
 * A model's text as a page shows it. Its words are a stranger's: they can neither run nor load anything. What marked
 * makes of them passes DOMPurify with a short list of elements; the content security policy stands behind both.
 */
import { html, useEffect, useRef } from "./view.js";
import { Marked } from "../vendor/marked.js";
import DOMPurify from "../vendor/purify.js";

const TAGS = ["p", "br", "strong", "em", "del", "code", "pre", "ul", "ol", "li", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "table", "thead", "tbody", "tr", "th", "td", "a"];

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escaped(text), // tags in the text are text
    image: ({ href, text }) => `[image: ${escaped(text || href)}]`, // never loaded
    checkbox: ({ checked }) => (checked ? "[x] " : "[ ] "),
  },
});

/** Adds one thing to `purify`'s list: a link leads to another site, in a window that knows nothing of this one. */
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  if (!/^(https?:|mailto:)/i.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

/** @param {string} text @returns {DocumentFragment} */
export function rendered(text) {
  return DOMPurify.sanitize(marked.parse(text), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["href", "title", "start", "align"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}

/** A model's text. While it grows it is drawn at most once a frame. */
export function Prose({ text }) {
  const box = useRef(null);
  useEffect(() => {
    const frame = requestAnimationFrame(() => box.current?.replaceChildren(rendered(text)));
    return () => cancelAnimationFrame(frame);
  }, [text]);
  return html`<div class="text" ref=${box}></div>`;
}
