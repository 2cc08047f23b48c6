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
 * @property {"idle" | "loading" | "ready" | "failed"} engine
 * @property {LoadProgress | null} progress
 * @property {{ code: string, message: string } | null} failure why the engine is not there
 * @property {import("./smollm-web/index.js").EngineInfo | null} info
 * @property {Conversation} conversation
 * @property {{ done: number, total: number } | null} prefill of the answer that is waited for
 */

/** A 135M model that does not find an end rarely finds one later. */
const MAX_TOKENS = 1024;

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
  /** @type {Promise<void>} */
  #answering = Promise.resolve();

  /**
   * @param {{ model: string | File[], kernel?: "relaxed" | "simd128", threads?: number, seed?: number, logLevel?: any }} options
   * @param {Conversation} kept
   */
  constructor(options, kept) {
    super();
    this.options = options;
    this.state = { engine: "idle", progress: null, failure: null, info: null, conversation: kept, prefill: null };
  }

  /** Loads the model, once; after a failure, again. Never throws: the state says how it went. */
  async load() {
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
    await this.#engine?.unload();
    this.#engine = null;
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
    this.#change({
      engine: "loading", failure: null, info: null,
      progress: { phase: "load", loaded: 0, total: 0, rate: 0, timeLeft: 0, cached: false },
    });
    try {
      const { model, seed: _, logLevel = "warn", ...options } = this.options;
      const engine = await SmolLM.load(model, {
        ...options, signal: stop.signal, logLevel: "debug",
        logger: (entry) => {
          this.journal.add(entry);
          if (LEVELS.indexOf(entry.level) <= LEVELS.indexOf(logLevel)) console[entry.level](`[smollm-web] ${entry.message}`, entry.data ?? "");
        },
        onProgress: ({ file: _, ...progress }) => this.#change({ progress }),
      });
      this.#engine = engine;
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
      this.#change(failure.code === "aborted"
        ? { engine: "idle", progress: null }
        : { engine: "failed", progress: null, failure });
      throw error;
    }
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
      try {
        const engine = await abortable(this.#load(), stop.signal);
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
          update((c) => conversation.fail(c, failure), { prefill: null });
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
