import { h, icon, setText } from "../dom.js";
import { formatBytes, formatDuration } from "../logic/format.js";
import { adviceFor } from "../logic/advice.js";

/**
 * How the model's loading goes, or why it did not.
 *
 * @param {{ load(): void, cancel(): void }} events
 */
export function createLoadCard(events) {
  const title = h("p", { class: "load-title" });
  const detail = h("p", { class: "load-detail" });
  const bar = h("progress", { class: "load-bar", "aria-label": "Loading the model" });
  const cancel = h("button", { class: "quiet-button", type: "button", onclick: events.cancel }, "Cancel");
  const load = h("button", { class: "main-button", type: "button", onclick: events.load });
  const error = h("p", { class: "load-error" });
  const element = h("section", { class: "load-card", "aria-label": "Model" },
    h("div", { class: "load-row" }, h("div", { class: "load-words" }, title, detail, error), cancel, load), bar);

  return {
    element,
    /** @param {Pick<import("../controller.js").State, "engine" | "progress" | "failure">} state @param {number} bytes of the download, 0 while unknown */
    update({ engine, progress, failure }, bytes) {
      element.hidden = engine === "ready";
      element.dataset.state = engine;
      bar.hidden = cancel.hidden = engine !== "loading";
      load.hidden = engine === "loading" || engine === "ready";
      setText(error, "");
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
      } else if (engine === "idle") {
        setText(title, "The model is not loaded yet");
        setText(detail, bytes > 0 ? `${formatBytes(bytes)}, downloaded once and kept on this device.` : "It is downloaded once and kept on this device.");
        load.replaceChildren("Load the model");
      }
    },
  };
}

/** @param {import("../controller.js").LoadProgress} progress */
function describeProgress({ phase, loaded, total, rate, timeLeft, cached }) {
  if (phase === "verify") return { title: "Checking the download", detail: "Comparing its SHA-256" };
  if (phase === "warmup") return { title: "Almost there", detail: "Getting the engine ready" };
  if (total === 0) return { title: "Starting the engine", detail: "A few moments" };
  const parts = [`${formatBytes(loaded)} of ${formatBytes(total)}`];
  if (rate > 0 && !cached) parts.push(`${formatBytes(rate)}/s`);
  if (timeLeft > 1000 && !cached) parts.push(`${formatDuration(timeLeft)} left`);
  return { title: cached ? "Loading the model from this device" : "Downloading the model", detail: parts.join(" · ") };
}
