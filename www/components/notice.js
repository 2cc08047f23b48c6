import { h, icon } from "../dom.js";

/**
 * A quiet line under the top bar, which stays until it is answered.
 * @param {HTMLElement} element a live region
 */
export function mountNotice(element) {
  const hide = () => element.replaceChildren();
  return {
    hide,
    /** @param {string} text @param {{ label: string, run(): void }} [action] */
    show(text, action) {
      element.replaceChildren(h("div", { class: "notice" }, h("span", { class: "notice-text" }, text),
        action && h("button", { class: "notice-action", type: "button", onclick: action.run }, action.label),
        h("button", { class: "icon-button small", type: "button", "aria-label": "Dismiss", onclick: hide }, icon("close"))));
    },
  };
}
