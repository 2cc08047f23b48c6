/**
 * The one error type. The codes are those of `src/error.rs`, so a failure keeps its code from the
 * wasm engine through the worker to whoever called.
 *
 * @typedef {"network" | "http_status" | "integrity" | "not_a_model" | "unsupported_architecture"
 *   | "unsupported_quantization" | "out_of_memory" | "storage_full" | "context_overflow"
 *   | "invalid_argument" | "busy" | "aborted" | "engine_lost" | "unsupported_browser"} ErrorCode
 */

/** Every code there is, in the order of `src/error.rs`. @type {readonly ErrorCode[]} */
export const ERROR_CODES = Object.freeze([
  "network", "http_status", "integrity", "not_a_model", "unsupported_architecture",
  "unsupported_quantization", "out_of_memory", "storage_full", "context_overflow",
  "invalid_argument", "busy", "aborted", "engine_lost", "unsupported_browser",
]);

/** What everything in this package throws: a stable `code`, a lower-case message naming the culprit. */
export class SmolLMError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message
   * @param {{ cause?: unknown }} [options]
   */
  constructor(code, message, options) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    /** @type {ErrorCode} */
    this.code = code;
    // Callers know an abort by this name from fetch and every other browser API.
    this.name = code === "aborted" ? "AbortError" : "SmolLMError";
  }
}

/**
 * @param {AbortSignal | null | undefined} signal its `reason` becomes the cause
 * @param {string} what what was stopped, e.g. "loading"
 */
export function abortError(signal, what) {
  return new SmolLMError("aborted", `${what} was aborted`, { cause: signal?.reason });
}

/**
 * @param {AbortSignal | null | undefined} signal
 * @param {string} what
 */
export function throwIfAborted(signal, what) {
  if (signal?.aborted) throw abortError(signal, what);
}

/**
 * Anything thrown, as a SmolLMError: ours stay as they are, errors of the wasm engine (a plain
 * Error with one of our codes) keep their code, a browser's AbortError becomes `aborted`, all
 * others take `fallback`.
 *
 * @param {unknown} thrown
 * @param {ErrorCode} fallback
 * @param {string} [place] put in front of the message, as in `model.gguf: …`
 * @returns {SmolLMError}
 */
export function toSmolLMError(thrown, fallback, place) {
  if (thrown instanceof SmolLMError) return thrown;
  const error = /** @type {{ code?: unknown, name?: unknown, message?: unknown }} */ (
    typeof thrown === "object" && thrown !== null ? thrown : { message: String(thrown) });
  const known = ERROR_CODES.find((code) => code === error.code);
  const code = known ?? (error.name === "AbortError" ? "aborted" : fallback);
  const message = typeof error.message === "string" && error.message ? error.message : "unknown failure";
  return new SmolLMError(code, place ? `${place}: ${message}` : message, { cause: thrown });
}

/**
 * An error as plain data for `postMessage`, cause chain included (a structured clone of an Error
 * would drop `code` and lose its class).
 *
 * @typedef {{ name: string, code?: ErrorCode, message: string, stack?: string, cause?: WireError }} WireError
 *
 * @param {unknown} thrown
 * @param {number} [depth] how much of the cause chain is left to keep
 * @returns {WireError}
 */
export function toWire(thrown, depth = 4) {
  if (!(thrown instanceof Error)) return { name: "Error", message: String(thrown) };
  /** @type {WireError} */
  const wire = { name: thrown.name, message: thrown.message, stack: thrown.stack };
  const code = ERROR_CODES.find((c) => c === /** @type {any} */ (thrown).code);
  if (code) wire.code = code;
  if (thrown.cause !== undefined && depth > 0) wire.cause = toWire(thrown.cause, depth - 1);
  return wire;
}

/**
 * @param {WireError} wire
 * @returns {Error}
 */
export function fromWire(wire) {
  const cause = wire.cause && fromWire(wire.cause);
  const error = wire.code
    ? new SmolLMError(wire.code, wire.message, { cause })
    : Object.assign(new Error(wire.message, cause && { cause }), { name: wire.name });
  if (wire.stack) error.stack = wire.stack;
  return error;
}
