import { h, icon, setText } from "../dom.js";
import { formatBytes, formatDuration, formatRate } from "../logic/format.js";
import { adviceFor } from "../logic/advice.js";

/**
 * @typedef {(how?: { sure?: boolean, contextLength?: number, model?: string }) => void} Load
 *
 * How the model's loading goes, what it takes, or why it did not go.
 *
 * @param {{ load: Load, cancel(): void }} events
 */
export function createLoadCard(events) {
  const title = h("p", { class: "load-title" });
  const detail = h("p", { class: "load-detail" });
  const needed = h("p", { class: "load-detail load-needs" });
  const bar = h("progress", { class: "load-bar", "aria-label": "Loading the model" });
  const cancel = h("button", { class: "quiet-button", type: "button", onclick: events.cancel }, "Cancel");
  const load = h("button", { class: "main-button", type: "button", onclick: () => events.load() });
  const instead = h("button", { class: "main-button", type: "button", onclick: () => { if (proposed) events.load(proposed); } });
  const anyway = h("button", { class: "quiet-button", type: "button", onclick: () => events.load({ sure: true }) }, "Load it all the same");
  /** @type {{ contextLength?: number, model?: string } | null} */
  let proposed = null;
  const error = h("p", { class: "load-error" });
  const element = h("section", { class: "load-card", "aria-label": "Model" },
    h("div", { class: "load-row" }, h("div", { class: "load-words" }, title, detail, needed, error), cancel,
      h("div", { class: "load-choice" }, instead, anyway, load)), bar);

  return {
    element,
    /**
     * @param {Pick<import("../controller.js").State, "engine" | "progress" | "failure" | "needs" | "instead">} state
     * @param {{ bytes: number, memoryBytes: number }} model of download and memory, 0 while unknown
     */
    update({ engine, progress, failure, needs, instead: smaller }, { bytes, memoryBytes }) {
      element.hidden = engine === "ready";
      element.dataset.state = engine;
      bar.hidden = cancel.hidden = engine !== "loading";
      load.hidden = engine === "loading" || engine === "ready" || engine === "unfit";
      proposed = smaller;
      instead.hidden = !smaller || Object.keys(smaller).length === 0 || engine === "loading";
      anyway.hidden = engine !== "unfit";
      setText(instead, smaller ? `Load ${smaller.model ? "a smaller model" : `with ${smaller.contextLength?.toLocaleString("en")} tokens of context`}` : "");
      element.classList.toggle("is-choosing", !instead.hidden || !anyway.hidden);
      setText(error, "");
      setText(needed, engine === "loading" && needs ? describeNeeds(needs) : "");
      if (engine === "loading" && progress) {
        const { title: words, detail: figures } = describeProgress(progress);
        setText(title, words);
        setText(detail, figures);
        if (progress.total > 0 && progress.phase !== "warmup") {
          bar.max = progress.total;
          bar.value = progress.loaded;
        } else {
          bar.removeAttribute("value");
        }
      } else if (engine === "failed" && failure) {
        const { title: words, advice, retry } = adviceFor(failure.code);
        setText(title, words);
        setText(detail, advice);
        setText(error, failure.message);
        load.hidden = retry === null;
        load.replaceChildren(icon("retry"), retry ?? "");
      } else if (engine === "unfit" && needs) {
        setText(title, "This model may be too large for this device");
        setText(detail, describeNeeds(needs));
        setText(error, needs.why.filter((reason) => /^(does not fit|cannot be kept)/.test(reason)).join("\n"));
      } else if (engine === "idle") {
        setText(title, "The model is not loaded yet");
        setText(detail, bytes > 0 ? `${formatBytes(bytes)}, downloaded once and kept on this device. Takes about ${formatBytes(memoryBytes)} of memory.`
          : "It is downloaded once and kept on this device.");
        load.replaceChildren("Load the model");
      }
    },
  };
}

/** @param {import("../smollm-web/index.js").Preflight} needs */
function describeNeeds({ downloadBytes, memoryBytes, tokensPerSecond, instead }) {
  const parts = [
    ...(downloadBytes > 0 ? [`${formatBytes(downloadBytes)} to download`] : []),
    `${formatBytes(memoryBytes)} of memory`,
    `about ${formatRate(tokensPerSecond)} tokens/s`,
    ...(instead?.cache ? ["no room to keep it on this device"] : []),
  ];
  return parts.join(" · ");
}

/** @param {import("../controller.js").LoadProgress} progress */
function describeProgress({ phase, loaded, total, rate, timeLeft, cached }) {
  if (phase === "check") return { title: "Looking whether the model fits on this device", detail: "A moment" };
  if (phase === "verify") return { title: "Checking the download", detail: "Comparing its SHA-256" };
  if (phase === "warmup") return { title: "Almost there", detail: "Getting the engine ready" };
  if (total === 0) return { title: "Starting the engine", detail: "A few moments" };
  const parts = [`${formatBytes(loaded)} of ${formatBytes(total)}`];
  if (rate > 0 && !cached) parts.push(`${formatBytes(rate)}/s`);
  if (timeLeft > 1000 && !cached) parts.push(`${formatDuration(timeLeft)} left`);
  return { title: cached ? "Loading the model from this device" : "Downloading the model", detail: parts.join(" · ") };
}
