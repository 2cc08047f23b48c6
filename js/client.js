/** The page's side of the engine: a loaded model. */
import { Completions } from "./completions.js";
import { deviceModels } from "./device.js";
import { SmolLMError, throwIfAborted } from "./errors.js";
import { WorkerLink } from "./link.js";
import { createLogger, defaultLogLevel } from "./log.js";
import { locate, resolveModel } from "./models.js";
import { checkOptions } from "./options.js";
import { checkMessages, isoDay } from "./params.js";
import { checkKey, withStates } from "./states.js";

/**
 * @typedef {import("./protocol.js").Progress} Progress
 * @typedef {import("./protocol.js").EngineInfo} EngineInfo
 * @typedef {import("./log.js").LogLevel} LogLevel
 *
 * @typedef {string | URL | Blob | Blob[]} ModelArgument a registry id, a hub's id (`owner/name`), the URL of a pack, of a
 *   `.gguf` file or of a checkpoint directory, a File, or the Files of a pack or of a checkpoint directory
 *
 * @typedef {object} LoadOptions
 * @property {(progress: Progress) => void} [onProgress]
 * @property {AbortSignal} [signal] stops the loading
 * @property {"auto" | number} [threads] how many compute, where the page is cross-origin isolated; elsewhere one does
 * @property {number} [contextLength] tokens, prompt and answer together; the model's default without it
 * @property {"auto" | "none"} [cache] whether downloaded files are kept on this device
 * @property {import("./room.js").WhenFull} [whenFull] what is done where it has no room for the model: `memory`, load and do
 *   not keep it; `error`, reject with `storage_full`, before the download where the browser says what room there is; `evict`, where it
 *   says so, delete other models, the least recently used first
 * @property {number} [stallMs] silence after which a connection counts as broken, 30,000 without it
 * @property {string | URL} [assetsUrl] the package's folder, where a bundler moved it
 * @property {string | URL} [modelsUrl] the folder that registry ids are relative to
 * @property {import("./hub.js").HubOptions} [hub] where ids like `HuggingFaceTB/SmolLM2-135M-Instruct` are looked for, and how
 * @property {LogLevel} [logLevel] what is logged; without it, what `localStorage["smollm-web:log"]` says, else "warn"
 * @property {import("./log.js").LogSink} [logger] takes log entries instead of the console
 * @property {import("./relay.js").Spawn} [workerFactory] makes the engine's worker and those of its threads; called with the module's
 *   URL and a name
 * @property {"relaxed" | "simd128"} [kernel] asks for one build, for tests and comparisons
 * @property {"queue" | "error"} [whenBusy] what a request gets while another runs: its turn, or `busy`
 */

/** How long a worker gets to put away a half-written download before it is ended. */
const GRACE_MS = 100;

/** A loaded model. Made by `SmolLM.load`. */
export class SmolLM {
  /** Known models, and what this device holds of any. */
  static models = deviceModels;

  /** Conversations that `saveState` keeps on this device. */
  static states = Object.freeze({
    /** What is saved, the oldest first. @returns {Promise<import("./states.js").SavedState[]>} */
    list: () => withStates((states) => states.list()),
    /** @param {string} key @returns {Promise<boolean>} whether there was one */
    delete: async (key) => {
      checkKey(key);
      return withStates((states) => states.delete(key));
    },
  });

  #worker;
  #info;
  #whenBusy;

  /**
   * Loads a model in a worker of its own.
   *
   * @param {ModelArgument} model
   * @param {LoadOptions} [options]
   * @returns {Promise<SmolLM>}
   */
  static async load(model, options = {}) {
    checkOptions(options);
    throwIfAborted(options.signal, "loading");
    const where = locate(options);
    const source = resolveModel(model, where);
    // Not waited for: some browsers ask the visitor.
    if (options.cache !== "none" && source.kind !== "blobs") void deviceModels.persist();

    const logLevel = options.logLevel ?? defaultLogLevel();
    const log = createLogger(logLevel, options.logger);
    const worker = WorkerLink.open(options, log);
    const lockName = worker.lockName();
    try {
      const info = await worker.call("load", {
        source, pkgUrl: new URL("pkg/", where.assets).href, logLevel, lockName,
        cache: options.cache ?? "auto", threads: options.threads ?? "auto",
        whenFull: options.whenFull, stallMs: options.stallMs, contextLength: options.contextLength, kernel: options.kernel,
      }, {
        signal: options.signal,
        what: "loading",
        onEvent: (event) => {
          if (event.type !== "progress") return;
          const { type: _, ...progress } = event;
          options.onProgress?.(progress);
        },
      });
      return new SmolLM(worker, info, options);
    } catch (error) {
      // Nothing of a model that did not load is worth keeping; its memory is.
      worker.end(new SmolLMError("engine_lost", "the engine never finished loading"), GRACE_MS);
      throw error;
    }
  }

  /**
   * @internal
   * @param {WorkerLink} worker
   * @param {EngineInfo} info
   * @param {LoadOptions} options
   */
  constructor(worker, info, options) {
    this.#worker = worker;
    this.#info = info;
    this.#whenBusy = options.whenBusy ?? "queue";
    let running = 0;
    const completions = new Completions(async (args, { signal, onEvent }) => {
      if (running > 0 && this.#whenBusy === "error") {
        throw new SmolLMError("busy", "the engine is answering another request");
      }
      running++;
      let free = () => {
        running--;
        free = () => {};
      };
      // Whoever asks again right after stopping only waits for the worker's last step.
      const onAbort = () => free();
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        const result = await worker.call("generate", args, { signal, onEvent, what: "the request", wait: true });
        this.#info = { ...this.#info, memoryBytes: result.memoryBytes };
        return result;
      } finally {
        free();
        signal?.removeEventListener("abort", onAbort);
      }
    }, () => this.#info.model);
    /**
     * Fulfilled when the engine is gone, with the reason: it crashed, the browser ended its worker, or it was unloaded. All
     * that is pending is rejected then; load again to go on.
     * @type {Promise<SmolLMError>}
     */
    this.lost = worker.lost;
    /** OpenAI's shape. */
    this.chat = Object.freeze({ completions });
  }

  /** What is loaded, what is in use, and why. @returns {EngineInfo} */
  get info() {
    return this.#info;
  }

  /**
   * @param {string} text
   * @param {{ parseSpecial?: boolean }} [options] `parseSpecial`: text like `<|im_end|>` becomes the
   *   control token instead of the characters it is made of
   * @returns {Promise<number[]>}
   */
  async tokenize(text, { parseSpecial = false } = {}) {
    if (typeof text !== "string") throw new SmolLMError("invalid_argument", "tokenize: expected text");
    return this.#worker.call("tokenize", { text, parseSpecial });
  }

  /** @param {Iterable<number>} ids @returns {Promise<string>} */
  async detokenize(ids) {
    const list = [...ids];
    const bad = list.find((id) => !Number.isInteger(id) || id < 0 || id > 0xffff_ffff);
    if (bad !== undefined) throw new SmolLMError("invalid_argument", `detokenize: ${bad} is no token id`);
    return this.#worker.call("detokenize", { ids: list });
  }

  /**
   * How many tokens a text has, or a conversation as the model would be asked it, its template and
   * the opening of the answer included.
   *
   * @param {string | import("./params.js").ChatMessage[]} input
   * @returns {Promise<number>}
   */
  async countTokens(input) {
    return this.#worker.call("countTokens", typeof input === "string"
      ? { text: input }
      : { messages: checkMessages(input), options: { date: isoDay(new Date()) } });
  }

  /**
   * A digest of every bit that the model computes for `text` and for the likeliest `tokens` after it. The same weights
   * give the same digests in every browser, build and number of threads, and by `smollm fingerprint` natively.
   *
   * @param {string} text
   * @param {{ tokens?: number, signal?: AbortSignal }} [options]
   * @returns {Promise<import("./protocol.js").Fingerprint>}
   */
  async fingerprint(text, { tokens = 200, signal } = {}) {
    if (typeof text !== "string" || text === "") throw new SmolLMError("invalid_argument", "fingerprint: expected text");
    if (!Number.isInteger(tokens) || tokens < 0 || tokens > 1 << 20) {
      throw new SmolLMError("invalid_argument", `fingerprint: tokens: expected a whole number, found ${tokens}`);
    }
    return this.#worker.call("fingerprint", { text, answer: tokens }, { signal, what: "the fingerprint", wait: true });
  }

  /**
   * Keeps on this device what the engine has read and said last, some 18 KB a token with the 135M models, so that
   * `restoreState` spares a later visit the reading. The words themselves are the caller's to keep. What was saved under
   * that key before stays until all of this is there; other keys' go, the oldest first, where `maxBytes` asks for it.
   *
   * @param {string} key up to 64 of a-z, 0-9, - and _
   * @param {{ maxBytes?: number, signal?: AbortSignal }} [options] `maxBytes`: what all saved conversations may take
   *   together, 256 MiB unless given
   * @returns {Promise<import("./protocol.js").StateInfo>}
   */
  async saveState(key, { maxBytes, signal } = {}) {
    if (maxBytes !== undefined && !(maxBytes >= 0)) {
      throw new SmolLMError("invalid_argument", `maxBytes: expected a number, found ${JSON.stringify(maxBytes)}`);
    }
    return this.#worker.call("saveState", { key: checkKey(key), maxBytes }, { signal, what: "saving the conversation", wait: true });
  }

  /**
   * Takes up what `saveState` kept: a request that begins with the same messages then counts them as `cached_tokens`, and
   * gets the same answer as if the engine had never been away. Refused (`invalid_argument`) where another model or another
   * version of the engine saved it, and, after it was deleted, where it is damaged (`integrity`).
   *
   * @param {string} key
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<import("./protocol.js").StateInfo | null>} null where nothing is saved
   */
  async restoreState(key, { signal } = {}) {
    return this.#worker.call("restoreState", { key: checkKey(key) }, { signal, what: "restoring the conversation", wait: true });
  }

  /** Ends the engine and frees its memory; pending requests are rejected. */
  async unload() {
    // The worker's end is what gives wasm memory back: it can grow, but never shrink.
    this.#worker.end(new SmolLMError("engine_lost", "the engine was unloaded"));
  }
}
