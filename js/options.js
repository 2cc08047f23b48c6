/** The options of `load` and of what asks for some of them. */
import { SmolLMError } from "./errors.js";
import { LOG_LEVELS } from "./log.js";
import { WHEN_FULL } from "./room.js";

/** Throws `invalid_argument` naming the first that is wrong. @param {import("./client.js").LoadOptions} options */
export function checkOptions(options) {
  const { threads, contextLength, cache, whenFull, stallMs, logLevel, kernel, whenBusy } = options;
  const positive = (/** @type {unknown} */ v) => Number.isInteger(v) && /** @type {number} */ (v) > 0;
  /** @type {[string, unknown, boolean, string][]} */
  const checks = [
    ["threads", threads, threads === "auto" || positive(threads), '"auto" or a whole number of at least 1'],
    ["contextLength", contextLength, positive(contextLength), "a whole number of at least 1"],
    ["cache", cache, cache === "auto" || cache === "none", '"auto" or "none"'],
    ["whenFull", whenFull, WHEN_FULL.includes(/** @type {any} */ (whenFull)), WHEN_FULL.join(", ")],
    ["stallMs", stallMs, positive(stallMs), "a whole number of at least 1"],
    ["logLevel", logLevel, LOG_LEVELS.includes(/** @type {any} */ (logLevel)), LOG_LEVELS.join(", ")],
    ["kernel", kernel, kernel === "relaxed" || kernel === "simd128", '"relaxed" or "simd128"'],
    ["whenBusy", whenBusy, whenBusy === "queue" || whenBusy === "error", '"queue" or "error"'],
  ];
  for (const [name, value, fine, expected] of checks) {
    if (value !== undefined && !fine) {
      throw new SmolLMError("invalid_argument", `${name}: expected ${expected}, found ${JSON.stringify(value)}`);
    }
  }
}
