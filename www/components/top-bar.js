import { h, icon, setText } from "../dom.js";

/**
 * Name, state of the engine, and what can be done with the conversation as a whole.
 *
 * @param {HTMLElement} element
 * @param {{ clear(): void, editSystemPrompt(): void, showEngine(): void, toggleTheme(): void }} events
 */
export function mountTopBar(element, events) {
  const dot = h("span", { class: "engine-dot", "aria-hidden": "true" });
  const status = h("span", { class: "engine-status" });
  const engine = h("button", { class: "engine-pill", type: "button", title: "About the engine", onclick: events.showEngine }, dot, status);
  const persona = action("System prompt", "persona", events.editSystemPrompt);
  const clear = action("New chat", "fresh", events.clear);
  const theme = h("button", { class: "icon-button", type: "button", onclick: events.toggleTheme }, icon("moon"));

  const logo = h("img", { class: "brand-mark", src: "icon.svg", alt: "", width: 34, height: 34 });
  element.append(
    h("div", { class: "brand" }, logo, h("h1", { class: "brand-name" }, "SmolLM")),
    engine,
    h("nav", { class: "top-actions", "aria-label": "Conversation" }, persona, clear, theme),
  );

  let shownDark = /** @type {boolean | null} */ (null);
  return {
    /** @param {{ engine: string, percent: number | null, name: string, dark: boolean, empty: boolean, custom: boolean }} props */
    update({ engine: state, percent, name, dark, empty, custom }) {
      engine.dataset.state = state;
      setText(status, {
        idle: "Not loaded", failed: "Not loaded", unfit: "Not loaded",
        loading: percent === null ? "Loading…" : `Loading ${percent}%`,
        ready: name,
      }[state] ?? state);
      engine.setAttribute("aria-label", `Engine: ${status.textContent}`);
      clear.disabled = empty;
      persona.classList.toggle("is-on", custom);
      if (shownDark !== dark) {
        shownDark = dark;
        theme.replaceChildren(icon(dark ? "sun" : "moon"));
        const label = dark ? "Switch to the light theme" : "Switch to the dark theme";
        theme.setAttribute("aria-label", label);
        theme.title = label;
      }
    },
  };
}

/** @param {string} label @param {Parameters<typeof icon>[0]} name @param {() => void} onclick */
function action(label, name, onclick) {
  return h("button", { class: "text-button", type: "button", title: label, "aria-label": label, onclick },
    icon(name), h("span", { class: "text-button-label" }, label));
}
