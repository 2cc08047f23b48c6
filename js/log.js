/**
 * Logging by level, with a hook. Silent levels cost one comparison.
 *
 * @typedef {"silent" | "error" | "warn" | "info" | "debug"} LogLevel
 * @typedef {(entry: { level: Exclude<LogLevel, "silent">, message: string, data?: unknown, time: number }) => void} LogSink
 * @typedef {{ error: LogMethod, warn: LogMethod, info: LogMethod, debug: LogMethod }} Logger
 * @typedef {(message: string, data?: unknown) => void} LogMethod
 */

/** @type {readonly LogLevel[]} */
export const LOG_LEVELS = Object.freeze(["silent", "error", "warn", "info", "debug"]);

/** @type {LogSink} */
const toConsole = ({ level, message, data }) => {
  const line = `[smollm-web] ${message}`;
  if (data === undefined) console[level](line);
  else console[level](line, data);
};

/**
 * @param {LogLevel} level entries below it are dropped
 * @param {LogSink} [sink] where the rest goes; the console without one
 * @returns {Logger}
 */
export function createLogger(level, sink = toConsole) {
  const limit = LOG_LEVELS.indexOf(level);
  /** @param {Exclude<LogLevel, "silent">} at @returns {LogMethod} */
  const method = (at) => LOG_LEVELS.indexOf(at) > limit
    ? () => {}
    : (message, data) => sink({ level: at, message, data, time: performance.now() });
  return { error: method("error"), warn: method("warn"), info: method("info"), debug: method("debug") };
}
