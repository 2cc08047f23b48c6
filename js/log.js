/**
 * Logging by level, with a hook. Silent levels cost one comparison. Entries tell of stages, sizes, times and choices, and
 * hold no words of a conversation.
 *
 * @typedef {"silent" | "error" | "warn" | "info" | "debug"} LogLevel
 * @typedef {object} LogEntry
 * @property {Exclude<LogLevel, "silent">} level
 * @property {string} message
 * @property {unknown} [data]
 * @property {number} time ms since 1970, with fractions: page and worker have different clocks for `performance.now()`
 *
 * @typedef {(entry: LogEntry) => void} LogSink
 * @typedef {{ error: LogMethod, warn: LogMethod, info: LogMethod, debug: LogMethod, write: LogSink }} Logger
 *   `write` passes on what was logged elsewhere
 * @typedef {(message: string, data?: unknown) => void} LogMethod
 */

/** @type {readonly LogLevel[]} */
export const LOG_LEVELS = Object.freeze(["silent", "error", "warn", "info", "debug"]);

/** In a page's `localStorage`, says how much its engines log where their code does not: to look into a page as it is. */
const KEY = "smollm-web:log";

/** @type {LogSink} */
const toConsole = ({ level, message, data }) => {
  const line = `[smollm-web] ${message}`;
  if (data === undefined) console[level](line);
  else console[level](line, data);
};

/** @returns {LogLevel} what `localStorage` asks for, else warnings and errors */
export function defaultLogLevel() {
  try {
    const wanted = localStorage.getItem(KEY);
    return LOG_LEVELS.find((level) => level === wanted) ?? "warn";
  } catch {
    return "warn";
  }
}

/**
 * @param {LogLevel} level entries below it are dropped
 * @param {LogSink} [sink] where the rest goes; the console without one
 * @returns {Logger}
 */
export function createLogger(level, sink = toConsole) {
  const limit = LOG_LEVELS.indexOf(level);
  /** @type {LogSink} */
  const write = (entry) => {
    if (LOG_LEVELS.indexOf(entry.level) > limit) return;
    try {
      sink(entry);
    } catch (error) {
      // Whoever only listens must not stop the engine.
      console.error("[smollm-web] the logger failed", error);
    }
  };
  /** @param {Exclude<LogLevel, "silent">} at @returns {LogMethod} */
  const method = (at) => LOG_LEVELS.indexOf(at) > limit
    ? () => {}
    : (message, data) => write({ level: at, message, ...(data !== undefined && { data }), time: performance.timeOrigin + performance.now() });
  return { error: method("error"), warn: method("warn"), info: method("info"), debug: method("debug"), write };
}
