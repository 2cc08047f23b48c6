/**
 * Markdown as it grows, drawn block by block. What the model writes is hostile until DOMPurify has
 * seen it: no scripts, no forms, no remote images, links that tell nobody where they were clicked.
 */
import DOMPurify from "./vendor/purify.js";
import { marked } from "./vendor/marked.js";
import { planBlocks } from "./logic/blocks.js";

const purify = DOMPurify(window);
const ALLOWED = {
  ALLOWED_TAGS: [
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "blockquote",
    "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "a", "input", "sup", "sub", "kbd",
  ],
  ALLOWED_ATTR: ["href", "title", "start", "align", "type", "checked", "disabled", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  } else if (node.tagName === "INPUT") {
    // Task lists alone may have one.
    if (node.getAttribute("type") === "checkbox") node.setAttribute("disabled", "");
    else node.remove();
  }
  if (node.hasAttribute("class") && !/^language-[\w+#-]+$/.test(node.getAttribute("class") ?? "")) node.removeAttribute("class");
});

/** @type {import("marked").MarkedOptions} */
const OPTIONS = { gfm: true, breaks: true, async: false };

/** Draws into one element, again and again, touching only what changed. */
export class MarkdownView {
  /** @type {string[]} */
  #drawn = [];

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
  }

  /** @param {string} text */
  update(text) {
    const tokens = marked.lexer(text, OPTIONS).filter(({ type }) => type !== "space");
    const plan = planBlocks(this.#drawn, tokens.map(({ raw }) => raw));
    for (let i = 0; i < plan.remove; i++) this.element.lastElementChild?.remove();
    for (const token of tokens.slice(plan.keep)) {
      const block = document.createElement("div");
      block.className = "block";
      const html = /** @type {string} */ (marked.parser([token], OPTIONS));
      block.append(purify.sanitize(html, ALLOWED));
      this.element.append(block);
    }
    this.#drawn = [...this.#drawn.slice(0, plan.keep), ...plan.add];
  }
}
