/**
 * What the engine logged, the latest entries, for whoever wants to know what happened here.
 *
 * @typedef {import("../smollm-web/index.js").LogEntry} LogEntry
 * @typedef {{ at: string, level: LogEntry["level"], message: string, data: string }} JournalLine `at` in seconds since the first entry
 */

const MOST = 400;

export class Journal {
  /** @type {LogEntry[]} */
  #entries = [];
  #began = 0;

  /** @param {LogEntry} entry */
  add(entry) {
    this.#began ||= entry.time;
    this.#entries.push(entry);
    if (this.#entries.length > MOST) this.#entries.shift();
  }

  /** @returns {JournalLine[]} oldest first */
  lines() {
    // The worker's entries come a moment after they were made.
    return [...this.#entries].sort((a, b) => a.time - b.time).map(({ time, level, message, data }) => ({
      at: Math.max(0, (time - this.#began) / 1000).toFixed(3), level, message, data: describe(data),
    }));
  }

  /** As text, for a report. */
  toString() {
    return this.lines().map(({ at, level, message, data }) => `${at} ${level} ${message}${data && `  ${data}`}`).join("\n");
  }
}

/** @param {unknown} data @returns {string} short: numbers rounded, errors by their message */
function describe(data) {
  if (data === undefined) return "";
  if (typeof data === "string") return data;
  const { message } = /** @type {any} */ (data) ?? {};
  if (typeof message === "string") return message;
  return JSON.stringify(data, (_, value) => (typeof value === "number" ? Math.round(value * 100) / 100 : value)) ?? "";
}
