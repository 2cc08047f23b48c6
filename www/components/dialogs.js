import { h, icon } from "../dom.js";
import { formatBytes } from "../logic/format.js";

/**
 * Asks for a system prompt.
 *
 * @param {string | null} current null for the model's own
 * @param {(text: string | null) => void} save
 */
export function openSystemDialog(current, save) {
  const text = h("textarea", {
    id: "system-prompt", class: "dialog-text", rows: 6, maxLength: 4000, dir: "auto", value: current ?? "",
    placeholder: "You are a helpful AI assistant named SmolLM.",
  });
  const done = () => {
    save(text.value.trim() || null);
    dialog.close();
  };
  const dialog = openDialog("System prompt", [
    h("p", { class: "dialog-lead", id: "system-prompt-about" },
      "Tells the model who it is and how to answer. Changing it starts a new chat."),
    h("label", { class: "visually-hidden", for: "system-prompt" }, "System prompt"),
    text,
  ], [
    h("button", { class: "quiet-button", type: "button", hidden: current === null, onclick: () => { save(null); dialog.close(); } }, "Use the model's own"),
    h("button", { class: "quiet-button", type: "button", onclick: () => dialog.close() }, "Cancel"),
    h("button", { class: "main-button", type: "button", onclick: done }, "Save"),
  ]);
  text.setAttribute("aria-describedby", "system-prompt-about");
  text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) done(); });
  text.focus();
}

/**
 * What runs here, and why so.
 *
 * @param {import("../smollm-web/index.js").EngineInfo | null} info
 * @param {string} label of the model
 * @param {boolean} offline whether it runs without the network too
 * @param {import("../logic/journal.js").Journal} journal
 */
export function openEngineDialog(info, label, offline, journal) {
  /** @type {[string, string][]} */
  const rows = info ? [
    ["Model", label],
    ["Parameters", `${(info.parameters / 1e6).toFixed(0)} million, ${info.quantization}`],
    ["Context", `${info.contextLength.toLocaleString("en")} tokens`],
    ["Kernel", info.kernel],
    ["Threads", String(info.threads)],
    ["Weights", formatBytes(info.weightBytes)],
    ["Memory", formatBytes(info.memoryBytes)],
    ["Page works offline", offline ? "yes" : "no"],
    ["Cross-origin isolated", info.crossOriginIsolated ? "yes" : "no"],
  ] : [];
  openDialog("The engine", info ? [
    h("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("ul", { class: "why" }, ...info.why.map((reason) => h("li", {}, reason))),
    h("p", { class: "dialog-lead" }, "The model runs in a worker of this tab, on the processor. What you write never leaves this device."),
    journalView(journal),
  ] : [h("p", { class: "dialog-lead" }, "No model is loaded yet."), journalView(journal)], []);
}

/** Each stage as it went, to look at and to take into a report. @param {import("../logic/journal.js").Journal} journal */
function journalView(journal) {
  const version = document.documentElement.dataset.version || "not built";
  const copy = h("button", { class: "quiet-button", type: "button" }, "Copy for a report");
  copy.onclick = async () => {
    const report = `page ${version}\n${navigator.userAgent}\n\n${journal}\n`;
    copy.textContent = await navigator.clipboard.writeText(report).then(() => "Copied", () => "The browser did not allow it");
  };
  const lines = journal.lines().map(({ at, level, message, data }) => h("li", { "data-level": level },
    h("span", { class: "journal-time" }, at), h("span", {}, message, data && h("span", { class: "journal-data" }, data))));
  return h("details", { class: "journal" }, h("summary", {}, "What happened"),
    h("p", { class: "dialog-lead" }, `Page version ${version}. Times in seconds; nothing of what was said is in here.`),
    h("ol", { class: "journal-lines", tabIndex: 0, "aria-label": "What happened" }, ...lines), copy);
}

/** @param {string} title @param {(Node | string)[]} content @param {Node[]} actions */
function openDialog(title, content, actions) {
  const dialog = h("dialog", { class: "dialog", "aria-label": title },
    h("header", { class: "dialog-head" }, h("h2", {}, title),
      h("button", { class: "icon-button", type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
    h("div", { class: "dialog-body" }, ...content),
    actions.length > 0 && h("footer", { class: "dialog-actions" }, ...actions));
  // A click on the backdrop lands on the dialog itself, outside its box.
  dialog.addEventListener("click", ({ target, clientX: x, clientY: y }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    if (target === dialog && (x < left || x > right || y < top || y > bottom)) dialog.close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
