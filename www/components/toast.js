import { h } from "../dom.js";

/**
 * A word at the edge of the page, with a way back, that leaves by itself.
 * @param {HTMLElement} element
 */
export function mountToast(element) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const hide = () => element.replaceChildren();
  return {
    hide,
    /** @param {string} text @param {{ label: string, run(): void }} [action] */
    show(text, action) {
      clearTimeout(timer);
      element.replaceChildren(h("div", { class: "toast", role: "status" }, h("span", {}, text),
        action && h("button", { class: "toast-action", type: "button", onclick: () => { hide(); action.run(); } }, action.label)));
      timer = setTimeout(hide, action ? 8000 : 2500);
    },
  };
}
