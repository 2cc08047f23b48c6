import { h, icon, setText } from "../dom.js";
import { adviceFor } from "../logic/advice.js";
import { formatFigures } from "../logic/format.js";
import { MarkdownView } from "../markdown.js";

/**
 * One message. What people write is shown as they wrote it; what the model writes is Markdown.
 *
 * @param {"user" | "assistant"} role
 * @param {{ retry(): void, copied(): void }} events
 */
export function createMessage(role, events) {
  return role === "user" ? createQuestion() : createAnswer(events);
}

/** @typedef {{ isLast: boolean, prefill: { done: number, total: number } | null, engine: string }} Surroundings */

function createQuestion() {
  const bubble = h("div", { class: "bubble", dir: "auto" });
  const element = h("li", { class: "message message-user" }, h("h3", { class: "visually-hidden" }, "You"), bubble);
  return {
    element,
    /** @param {import("../logic/conversation.js").Message} message @param {Surroundings} _around */
    update({ content }, _around) {
      setText(bubble, content);
    },
  };
}

/** @param {{ retry(): void, copied(): void }} events */
function createAnswer(events) {
  let content = "";
  const body = h("div", { class: "answer", dir: "auto" });
  const waiting = h("p", { class: "waiting" }, h("span", { class: "waiting-dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")));
  const waitingText = h("span");
  waiting.append(waitingText);
  const failureTitle = h("p", { class: "failure-title" });
  const failureAdvice = h("p", { class: "failure-advice" });
  const failureDetail = h("p", { class: "failure-detail" });
  const failureRetry = h("button", { class: "main-button", type: "button", onclick: events.retry });
  const failure = h("div", { class: "failure", role: "alert" }, icon("warn"),
    h("div", { class: "failure-words" }, failureTitle, failureAdvice, failureDetail), failureRetry);
  const figures = h("span", { class: "figures" });
  const note = h("span", { class: "note" });
  const copy = h("button", {
    class: "icon-button small", type: "button", "aria-label": "Copy the answer", title: "Copy",
    onclick: async () => {
      await navigator.clipboard.writeText(content);
      copy.replaceChildren(icon("check"));
      setTimeout(() => copy.replaceChildren(icon("copy")), 1500);
      events.copied();
    },
  }, icon("copy"));
  const again = h("button", { class: "icon-button small", type: "button", "aria-label": "Answer again", title: "Answer again", onclick: events.retry }, icon("retry"));
  const foot = h("div", { class: "answer-foot" }, copy, again, note, figures);
  const element = h("li", { class: "message message-assistant" },
    h("img", { class: "avatar", src: "icon.svg", alt: "", width: 30, height: 30 }),
    h("div", { class: "answer-column" }, h("h3", { class: "visually-hidden" }, "SmolLM"), waiting, body, failure, foot));
  const view = new MarkdownView(body);
  /** @type {import("../logic/conversation.js").Message | null} */
  let drawn = null;

  return {
    element,
    /** @param {import("../logic/conversation.js").Message} message @param {Surroundings} around */
    update(message, { isLast, prefill, engine }) {
      const { status } = message;
      element.dataset.status = status;
      waiting.hidden = status !== "waiting";
      if (status === "waiting") setText(waitingText, waitingFor(engine, prefill));
      again.hidden = !isLast;
      failureRetry.hidden = !isLast || adviceFor(message.failure?.code ?? "").retry === null;
      if (message === drawn) return;
      drawn = message;

      if (message.content !== content) view.update(message.content);
      content = message.content;
      body.hidden = content === "";
      failure.hidden = status !== "failed";
      if (message.failure) {
        const { title, advice, retry } = adviceFor(message.failure.code);
        setText(failureTitle, title);
        setText(failureAdvice, advice);
        setText(failureDetail, message.failure.message);
        failureRetry.replaceChildren(icon("retry"), retry ?? "");
      }
      foot.hidden = status === "waiting" || status === "streaming" || (status === "failed" && content === "");
      copy.hidden = content === "";
      setText(note, status === "stopped" ? (content ? "Stopped" : "Stopped before it began") : status === "length" ? "Cut at its longest" : "");
      setText(figures, message.figures && message.figures.tokens > 0 ? formatFigures(message.figures) : "");
    },
  };
}

/** @param {string} engine @param {{ done: number, total: number } | null} prefill */
function waitingFor(engine, prefill) {
  if (engine !== "ready") return "Waiting for the model";
  // A short prompt is read before anybody could read this.
  if (prefill && prefill.total > 128) return `Reading · ${Math.round((100 * prefill.done) / prefill.total)}%`;
  return "Thinking";
}
