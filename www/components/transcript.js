import { h, icon } from "../dom.js";
import { follows } from "../logic/follow.js";
import { createLoadCard } from "./load-card.js";
import { createMessage } from "./message.js";

const SUGGESTIONS = [
  ["Write a short poem", "Write a short poem about the sea at night."],
  ["Explain something", "Explain in simple words why the sky is blue."],
  ["Make a list", "List three benefits of learning a new language, numbered."],
  ["Just say hello", "Hi! What can you help me with?"],
];

/**
 * The conversation, or a welcome where there is none; follows the answer until the reader scrolls.
 *
 * @param {HTMLElement} element
 * @param {{ load: import("./load-card.js").Load, cancelLoad(): void, suggest(text: string): void, retry(): void, copied(): void }} events
 */
export function mountTranscript(element, events) {
  const loadCard = createLoadCard({ load: events.load, cancel: events.cancelLoad });
  const suggestions = createSuggestions(events.suggest);
  const welcome = createWelcome(suggestions);
  const list = h("ol", { class: "messages", "aria-label": "Conversation" });
  const column = h("div", { class: "column" }, welcome, list, loadCard.element);
  const toEnd = h("button", {
    class: "to-end", type: "button", hidden: true, "aria-label": "Go to the end of the conversation",
    onclick: () => { following = true; scrollToEnd(); },
  }, icon("down"));
  element.append(column, h("div", { class: "to-end-place" }, toEnd));

  let following = true;
  /** Messages on the page: without any, there is a greeting, which is read from the top. */
  let count = 0;
  let seen = position();
  element.addEventListener("scroll", () => {
    const now = position();
    following = follows(following, seen, now);
    seen = now;
    toEnd.hidden = following || count === 0;
  }, { passive: true });
  // Growing content, a turned phone, an opened keyboard.
  const resized = new ResizeObserver(() => { if (following && count > 0) scrollToEnd(); });
  resized.observe(column);
  resized.observe(element);

  function position() {
    return { top: element.scrollTop, height: element.scrollHeight, client: element.clientHeight };
  }

  function scrollToEnd() {
    element.scrollTop = element.scrollHeight;
    seen = position();
    toEnd.hidden = true;
  }

  /** @type {Map<number, ReturnType<typeof createMessage>>} */
  const shown = new Map();

  return {
    /** @param {import("../controller.js").State} state @param {{ bytes: number, memoryBytes: number }} model of download and memory, 0 while unknown */
    update(state, model) {
      const { messages } = state.conversation;
      const last = messages.at(-1);
      welcome.hidden = messages.length > 0;
      // Nobody would answer them.
      suggestions.hidden = state.engine === "failed" || state.engine === "unfit";
      list.hidden = messages.length === 0;
      for (const [id, message] of shown) {
        if (!messages.some((m) => m.id === id)) {
          message.element.remove();
          shown.delete(id);
        }
      }
      for (const message of messages) {
        let item = shown.get(message.id);
        if (!item) {
          item = createMessage(message.role, { retry: events.retry, copied: events.copied });
          shown.set(message.id, item);
          list.append(item.element);
        }
        item.update(message, { isLast: message === last, prefill: state.prefill, engine: state.engine });
      }
      loadCard.update(state, model);
      // The failed answer says it already.
      if (last?.status === "failed") loadCard.element.hidden = true;
      const grew = messages.length > count;
      count = messages.length;
      // A message just sent is where the reader wants to be.
      if (grew) {
        following = true;
        scrollToEnd();
      }
    },
  };
}

/** @param {HTMLElement} suggestions */
function createWelcome(suggestions) {
  return h("section", { class: "welcome" },
    h("img", { class: "welcome-mark", src: "icon.svg", alt: "", width: 72, height: 72 }),
    h("h2", { class: "welcome-title" }, "Hello. Ask me something."),
    h("p", { class: "welcome-text" },
      "A small language model, running entirely in this tab. Nothing you write leaves your device."),
    suggestions);
}

/** @param {(text: string) => void} suggest */
function createSuggestions(suggest) {
  return h("ul", { class: "suggestions", "aria-label": "Suggestions" }, ...SUGGESTIONS.map(([title, text]) => h("li", {},
    h("button", { class: "suggestion", type: "button", onclick: () => suggest(text) },
      h("span", { class: "suggestion-title" }, title), h("span", { class: "suggestion-text" }, text)))));
}
