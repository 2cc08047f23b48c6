/** One conversation with memory, on an engine of its own or on one that is loaded already. */
import { SmolLM } from "./client.js";
import { SmolLMError, abortError } from "./errors.js";

/**
 * @typedef {import("./client.js").ModelArgument} ModelArgument
 * @typedef {import("./client.js").LoadOptions} LoadOptions
 * @typedef {import("./params.js").SamplingParams} SamplingParams
 *
 * @typedef {{ role: "system" | "user" | "assistant", content: string }} HistoryMessage
 *
 * @typedef {object} AnswerOptions
 * @property {(text: string) => void} [onToken] called with each new piece of the answer
 * @property {AbortSignal} [signal]
 *
 * @typedef {LoadOptions & { systemPrompt?: string, sampling?: SamplingParams,
 *   onDropped?: (messages: { role: string, content: string }[]) => void }} ChatOptions
 *   `sampling`: defaults for every answer; `onDropped`: told of the oldest messages when they no
 *   longer fit into the context and are forgotten
 */

export class SmolLMChat {
  #model;
  #options;
  /** @type {SmolLM | null} */
  #engine = null;
  /** @type {Promise<void> | null} */
  #loading = null;
  /** Why there is no engine any more. @type {SmolLMError | null} */
  #lost = null;
  /** @type {string | null} */
  #systemPrompt;
  /** Replaced, never changed, so that an answer knows whether its conversation is still the one. @type {readonly HistoryMessage[]} */
  #history = Object.freeze([]);
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  #waiting = 0;

  /**
   * @param {ModelArgument | SmolLM} model what `SmolLM.load` takes, or an engine
   * @param {ChatOptions} [options]
   */
  constructor(model, options = {}) {
    this.#model = model;
    this.#options = options;
    this.#systemPrompt = options.systemPrompt?.trim() ? options.systemPrompt : null;
    if (model instanceof SmolLM) this.#engine = model;
  }

  /** The engine under the conversation; null before `initialize`. */
  get engine() {
    return this.#engine;
  }

  /**
   * Loads the model. Calling again is harmless; after a failure it tries again, and after the engine was lost the
   * conversation goes on with a new one.
   */
  async initialize() {
    if (this.#engine) return;
    const { systemPrompt, sampling, onDropped, ...load } = this.#options;
    this.#loading ??= SmolLM.load(/** @type {ModelArgument} */ (this.#model), load)
      .then((engine) => {
        this.#engine = engine;
        void engine.lost.then((error) => {
          if (this.#engine !== engine) return;
          this.#engine = null;
          this.#lost = error;
        });
      })
      .finally(() => { this.#loading = null; });
    await this.#loading;
  }

  /**
   * Answers a message with the whole conversation in mind, and remembers both. An answer that was
   * stopped half-way is remembered as far as it got; one that failed leaves no trace. One message is answered at a
   * time: others wait, or get `busy` with `whenBusy: "error"`.
   *
   * @param {string} message
   * @param {AnswerOptions & SamplingParams} [options]
   * @returns {Promise<string>}
   */
  chat(message, options = {}) {
    return this.#inTurn(options.signal, async () => {
      const before = this.#history;
      const question = userMessage(message, "chat");
      let answer = "", dropped = 0;
      const remember = () => {
        // Cleared or given a new system prompt meanwhile: the answer belongs to a conversation that is gone.
        if (this.#history !== before) return;
        this.#history = Object.freeze([...before.slice(dropped), question, { role: /** @type {const} */ ("assistant"), content: answer }]);
      };
      try {
        await this.#answer([...before, question], options, (text) => {
          answer += text;
          options.onToken?.(text);
        }, (messages) => {
          dropped = messages.length;
          this.#options.onDropped?.(messages);
        });
      } catch (error) {
        if (answer && error instanceof SmolLMError && error.code === "aborted") remember();
        throw error;
      }
      remember();
      return answer;
    });
  }

  /**
   * Carries out one instruction, with no memory of the conversation and leaving none.
   *
   * @param {string} instruction
   * @param {AnswerOptions & SamplingParams} [options]
   * @returns {Promise<string>}
   */
  instruct(instruction, options = {}) {
    return this.#inTurn(options.signal, async () => {
      let answer = "";
      await this.#answer([userMessage(instruction, "instruct")], options, (text) => {
        answer += text;
        options.onToken?.(text);
      });
      return answer;
    });
  }

  /**
   * Sets the system prompt and starts the conversation afresh; `null` or "" gives the model's own back.
   * @param {string | null} text
   */
  setSystemPrompt(text) {
    if (text !== null && typeof text !== "string") {
      throw new SmolLMError("invalid_argument", "setSystemPrompt: expected text or null");
    }
    this.#systemPrompt = text?.trim() ? text : null;
    this.clearConversation();
  }

  /** Forgets the conversation; the system prompt stays. */
  clearConversation() {
    this.#history = Object.freeze([]);
  }

  /** The conversation as the model reads it, oldest first: the system prompt if one was set, then what was said. @returns {HistoryMessage[]} */
  getConversationHistory() {
    return [...this.#system(), ...this.#history.map((message) => ({ ...message }))];
  }

  /** @returns {HistoryMessage[]} */
  #system() {
    return this.#systemPrompt === null ? [] : [{ role: "system", content: this.#systemPrompt }];
  }

  /** Ends the engine, also one that was handed in. */
  async unload() {
    await this.#loading?.catch(() => {});
    await this.#engine?.unload();
    // An engine that was handed in cannot be made again from here.
    if (!(this.#model instanceof SmolLM)) this.#engine = null;
  }

  /**
   * One answer at a time: the next message is about this answer. Whoever is stopped while it waits is told at once.
   * @template T @param {AbortSignal | undefined} signal @param {() => Promise<T>} task @returns {Promise<T>}
   */
  #inTurn(signal, task) {
    if (this.#waiting > 0 && this.#options.whenBusy === "error") {
      return Promise.reject(new SmolLMError("busy", "the chat is answering another message"));
    }
    this.#waiting++;
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(abortError(signal, "the request"));
      if (signal?.aborted) onAbort();
      signal?.addEventListener?.("abort", onAbort);
      this.#last = this.#last.then(async () => {
        signal?.removeEventListener?.("abort", onAbort);
        const turn = signal?.aborted ? Promise.resolve() : task();
        await turn.finally(() => { this.#waiting--; }).then(/** @type {any} */ (resolve), reject);
      });
    });
  }

  /**
   * @param {HistoryMessage[]} messages
   * @param {AnswerOptions & SamplingParams} options
   * @param {(text: string) => void} onText
   * @param {(messages: { role: string, content: string }[]) => void} [onDropped]
   */
  async #answer(messages, { onToken, ...options }, onText, onDropped) {
    if (!this.#engine) {
      throw this.#lost
        ? new SmolLMError("engine_lost", `${this.#lost.message}: call initialize() to load it again`, { cause: this.#lost })
        : new SmolLMError("engine_lost", "no model is loaded: call initialize() first");
    }
    const stream = await this.#engine.chat.completions.create({
      ...this.#options.sampling, ...options, messages: [...this.#system(), ...messages], stream: true,
    });
    for await (const chunk of stream) {
      if (chunk.dropped_messages?.length) onDropped?.(chunk.dropped_messages);
      const text = chunk.choices[0].delta.content;
      if (text) onText(text);
    }
  }
}

/** @param {unknown} text @param {string} method @returns {HistoryMessage} */
function userMessage(text, method) {
  if (typeof text !== "string" || text.trim() === "") {
    throw new SmolLMError("invalid_argument", `${method}: expected a message with text in it`);
  }
  return { role: "user", content: text };
}
