import { h, icon, setText } from "../dom.js";

/**
 * The message box. Enter sends, Shift+Enter breaks the line, Escape stops the answer.
 *
 * @param {HTMLElement} element
 * @param {{ send(text: string): void, stop(): void }} events
 */
export function mountComposer(element, events) {
  let answering = false;
  const box = h("textarea", {
    id: "message", class: "message-box", rows: 1, placeholder: "Message SmolLM", "aria-label": "Message",
    autocomplete: "off", enterKeyHint: "send", dir: "auto",
  });
  const button = h("button", { class: "send-button", type: "submit" });
  const form = h("form", {
    class: "composer-card",
    onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      if (answering) events.stop();
      else submit();
    },
  }, box, button);
  const hint = h("p", { class: "composer-hint" });
  element.append(h("div", { class: "composer-column" }, form, hint));
  setText(hint, "Runs on your device. It is a small model and makes mistakes: check what matters.");

  function submit() {
    const text = box.value;
    if (!text.trim()) return box.focus();
    box.value = "";
    fit();
    events.send(text);
  }

  function fit() {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
    form.classList.toggle("has-text", box.value.trim() !== "");
  }

  box.addEventListener("input", fit);
  box.addEventListener("keydown", (event) => {
    // Enter also ends a word being composed with an input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!answering) submit();
  });
  fit();

  let shown = /** @type {boolean | null} */ (null);
  return {
    /** @param {{ answering: boolean }} props */
    update(props) {
      answering = props.answering;
      if (shown === answering) return;
      shown = answering;
      form.classList.toggle("is-answering", answering);
      button.replaceChildren(icon(answering ? "stop" : "send"));
      const label = answering ? "Stop the answer" : "Send";
      button.setAttribute("aria-label", label);
      button.title = answering ? "Stop (Escape)" : "Send (Enter)";
    },
    focus: () => box.focus({ preventScroll: true }),
  };
}
