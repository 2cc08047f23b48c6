/**
 * Between the page and the engine: holds the state, carries out what the reader wants, and says when
 * something changed. Knows no element.
 */
import { SmolLM, SmolLMError } from "./smollm-web/index.js";
import * as conversation from "./logic/conversation.js";
import { Journal } from "./logic/journal.js";

/**
 * @typedef {import("./logic/conversation.js").Conversation} Conversation
 * @typedef {{ phase: string, loaded: number, total: number, rate: number, timeLeft: number, cached: boolean }} LoadProgress
 *
 * @typedef {object} State
 * @property {"idle" | "loading" | "ready" | "unfit" | "failed"} engine `unfit`: not loaded, as it would hardly go well
 * @property {LoadProgress | null} progress
 * @property {{ code: string, message: string } | null} failure why the engine is not there
 * @property {import("./smollm-web/index.js").Preflight | null} needs what the model takes here, where that was asked
 * @property {{ contextLength?: number, model?: string } | null} instead what would fit, after it was seen that this does not
 * @property {import("./smollm-web/index.js").EngineInfo | null} info
 * @property {Conversation} conversation
 * @property {{ done: number, total: number } | null} prefill of the answer that is waited for
 */

/** A 135M model that does not find an end rarely finds one later. */
const MAX_TOKENS = 1024;
/** What the engine takes without being asked for another, and what is proposed at least. */
const CONTEXT = 2048, SHORTEST_CONTEXT = 256;

/** What of the journal goes to the console too, least first. */
const LEVELS = ["silent", "error", "warn", "info", "debug"];

export class Controller extends EventTarget {
  /** Everything the engine says. */
  journal = new Journal();
  /** @type {State} */
  state;
  /** @type {SmolLM | null} */
  #engine = null;
  /** @type {Promise<SmolLM> | null} */
  #loading = null;
  #stopLoading = new AbortController();
  #stopAnswer = new AbortController();
  /** Whether to load without asking first: the model was here already, or the reader wants it all the same. */
  #sure;
  /** @type {Promise<void>} */
  #answering = Promise.resolve();

  /**
   * @param {{ model: string | File[], kernel?: "relaxed" | "simd128", threads?: number, contextLength?: number, seed?: number, logLevel?: any }} options
   * @param {Conversation} kept
   * @param {boolean} here whether the model is on this device
   */
  constructor(options, kept, here) {
    super();
    this.options = options;
    this.#sure = here;
    this.state = {
      engine: "idle", progress: null, failure: null, needs: null, instead: null, info: null, conversation: kept, prefill: null,
    };
  }

  /** @returns {SmolLM | null} null while no model is loaded */
  get engine() {
    return this.#engine;
  }

  /**
   * Loads the model, once; after a failure, again. Before a download, what it takes is found out; what does not fit waits until
   * this is called with `sure`. Never throws: the state says how it went.
   * @param {{ sure?: boolean, contextLength?: number, model?: string }} [how] other options than before
   */
  async load({ sure = false, ...instead } = {}) {
    this.#sure ||= sure;
    this.options = { ...this.options, ...instead };
    await this.#load().catch(() => {});
  }

  cancelLoad() {
    this.#stopLoading.abort();
  }

  /** Loads the visitor's own files in the place of the model. The conversation stays. @param {File[]} files */
  async open(files) {
    this.stop();
    this.cancelLoad();
    await Promise.allSettled([this.#answering, this.#loading]);
    await this.#drop();
    this.#sure = false;
    this.options = { ...this.options, model: files };
    await this.load();
  }

  /** @param {string} text */
  async send(text) {
    const message = text.trim();
    if (!message || conversation.isAnswering(this.state.conversation)) return;
    this.#change({ conversation: conversation.ask(this.state.conversation, message) });
    await this.#answer();
  }

  /** Asks for the last answer again. */
  async retry() {
    if (conversation.isAnswering(this.state.conversation)) return;
    this.#change({ conversation: conversation.retryLast(this.state.conversation) });
    await this.#answer();
  }

  stop() {
    this.#stopAnswer.abort();
  }

  /** Settles when no answer is being written. @returns {Promise<void>} */
  answered() {
    return this.#answering;
  }

  /** Starts afresh and says what was there before, for whoever wants it back. @returns {Conversation} */
  clear() {
    const before = this.state.conversation;
    this.stop();
    this.#change({ conversation: conversation.emptyConversation(before.systemPrompt), prefill: null });
    return before;
  }

  /** @param {string | null} systemPrompt */
  setSystemPrompt(systemPrompt) {
    this.stop();
    this.#change({ conversation: conversation.emptyConversation(systemPrompt), prefill: null });
  }

  /** @param {Conversation} before */
  restore(before) {
    this.stop();
    const last = before.messages.at(-1);
    const open = last?.status === "waiting" || last?.status === "streaming";
    this.#change({ conversation: open ? conversation.finish(before, "stopped") : before, prefill: null });
  }

  /** @returns {Promise<SmolLM>} */
  #load() {
    if (this.#engine) return Promise.resolve(this.#engine);
    this.#loading ??= this.#loadOnce().finally(() => { this.#loading = null; });
    return this.#loading;
  }

  async #loadOnce() {
    const stop = this.#stopLoading = new AbortController();
    const begun = { loaded: 0, total: 0, rate: 0, timeLeft: 0, cached: false };
    this.#change({
      engine: "loading", failure: null, info: null, needs: null, instead: null,
      progress: { ...begun, phase: this.#sure ? "load" : "check" },
    });
    try {
      const { model, options } = this.#engineOptions();
      if (!this.#sure) {
        await this.#check(stop.signal);
        this.#change({ progress: { ...begun, phase: "load" } });
      }
      const engine = await SmolLM.load(model, {
        ...options, signal: stop.signal,
        onProgress: ({ file: _, ...progress }) => this.#change({ progress }),
      });
      this.#engine = engine;
      this.#sure = true;
      this.#change({ engine: "ready", progress: null, info: engine.info });
      void engine.lost.then((error) => {
        this.#engine = null;
        // An answer that is being written says it itself; the next message loads the model again.
        const answering = conversation.isAnswering(this.state.conversation);
        this.#change({ info: null, ...(answering ? { engine: "idle" } : { engine: "failed", failure: describe(error) }) });
      });
      return engine;
    } catch (error) {
      const failure = describe(error);
      if (failure.code === "aborted") this.#change({ engine: "idle", progress: null });
      else if (error instanceof Unfit) this.#change({ engine: "unfit", progress: null });
      else this.#change({ engine: "failed", progress: null, failure, instead: this.#shorter(failure.code) });
      throw error;
    }
  }

  /** Finds out what the model takes here. Throws where it does not fit. @param {AbortSignal} signal */
  async #check(signal) {
    const { model, options } = this.#engineOptions();
    /** @type {import("./smollm-web/index.js").Preflight} */
    let needs;
    try {
      needs = await SmolLM.models.preflight(model, { ...options, signal });
    } catch (error) {
      if (describe(error).code === "aborted") throw error;
      // Whatever is wrong, loading says it better.
      return;
    }
    // What only cannot be kept is loaded all the same.
    const { cache: _cache, ...instead } = needs.instead ?? {};
    const unfit = !needs.fits && (!needs.instead?.cache || Object.keys(instead).length > 0);
    this.#change({ needs, instead: unfit ? instead : null });
    if (unfit) throw new Unfit(needs);
  }

  /** What the engine is told, all of whose logs go to the journal. */
  #engineOptions() {
    const { model, seed: _, logLevel = "warn", ...options } = this.options;
    /** @type {import("./smollm-web/index.js").LoadOptions["logger"]} */
    const logger = (entry) => {
      this.journal.add(entry);
      if (LEVELS.indexOf(entry.level) <= LEVELS.indexOf(logLevel)) console[entry.level](`[smollm-web] ${entry.message}`, entry.data ?? "");
    };
    return { model, options: { ...options, logLevel: /** @type {const} */ ("debug"), logger } };
  }

  /** What to try after memory ran out. @param {string} code of the failure */
  #shorter(code) {
    const contextLength = (this.options.contextLength ?? CONTEXT) >> 1;
    return code === "out_of_memory" && contextLength >= SHORTEST_CONTEXT ? { contextLength } : null;
  }

  async #drop() {
    await this.#engine?.unload();
    this.#engine = null;
  }

  async #answer() {
    const previous = this.#answering;
    const stop = this.#stopAnswer = new AbortController();
    /** Whether the conversation on the page is still the one this answer belongs to. */
    const current = () => this.#stopAnswer === stop && conversation.isAnswering(this.state.conversation);
    /** @param {(c: Conversation) => Conversation} change @param {Partial<State>} [more] */
    const update = (change, more) => {
      if (current()) this.#change({ conversation: change(this.state.conversation), ...more });
    };

    this.#answering = (async () => {
      await previous;
      /** @type {SmolLM | undefined} */
      let engine;
      try {
        engine = await abortable(this.#load(), stop.signal);
        const stream = await engine.chat.completions.create({
          messages: conversation.toRequest(this.state.conversation),
          max_tokens: MAX_TOKENS,
          ...(this.options.seed !== undefined && { seed: this.options.seed }),
          stream: true,
          signal: stop.signal,
          onPrefill: (prefill) => { if (current()) this.#change({ prefill }); },
        });
        for await (const { choices: [{ delta, finish_reason }], usage } of stream) {
          if (delta.content) update((c) => conversation.appendText(c, delta.content ?? ""), { prefill: null });
          if (!finish_reason) continue;
          const status = finish_reason === "length" ? "length" : finish_reason === "abort" ? "stopped" : "done";
          update((c) => conversation.finish(c, status, usage && {
            tokens: usage.completion_tokens,
            tokensPerSecond: usage.timings.decode_tokens_per_second,
            firstTokenMs: usage.timings.first_token_ms,
          }), { prefill: null, info: engine.info });
        }
      } catch (error) {
        const failure = describe(error);
        if (failure.code === "aborted") {
          update((c) => conversation.finish(c, "stopped"), { prefill: null });
        } else {
          // Memory that ran out is given back only with the engine.
          const spent = failure.code === "out_of_memory" && engine !== undefined;
          if (spent) await this.#drop();
          update((c) => conversation.fail(c, failure), {
            prefill: null, ...(spent && { engine: "idle", info: null, instead: this.#shorter(failure.code) }),
          });
        }
      }
    })();
    await this.#answering;
  }

  /** @param {Partial<State>} change */
  #change(change) {
    this.state = { ...this.state, ...change };
    this.dispatchEvent(new Event("change"));
  }
}

/** A model that was not loaded, since it would hardly go well. */
class Unfit extends SmolLMError {
  /** @param {import("./smollm-web/index.js").Preflight} needs */
  constructor({ why }) {
    super("out_of_memory", `not loaded: ${why.find((reason) => reason.startsWith("does not fit")) ?? "it does not fit"}`);
  }
}

/** @param {unknown} error */
function describe(error) {
  return error instanceof SmolLMError
    ? { code: error.code, message: error.message }
    : { code: "unknown", message: error instanceof Error ? error.message : String(error) };
}

/** Stopping an answer that waits for the model leaves the loading alone. @template T @param {Promise<T>} promise @param {AbortSignal} signal @returns {Promise<T>} */
function abortable(promise, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new SmolLMError("aborted", "the answer was stopped"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject);
  });
}
