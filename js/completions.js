/**
 * OpenAI's shapes around what the worker sends: whole completions, and chunks as an async iterable.
 */
import { SmolLMError, abortError, throwIfAborted } from "./errors.js";
import { checkCompletion } from "./params.js";

/**
 * @typedef {import("./protocol.js").WireToken} WireToken
 * @typedef {import("./protocol.js").WireMessage} WireMessage
 * @typedef {import("./protocol.js").Timings} Timings
 * @typedef {import("./protocol.js").GenerateResult} GenerateResult
 * @typedef {import("./params.js").CompletionParams} CompletionParams
 * @typedef {"stop" | "length" | "abort" | "tool_calls"} FinishReason
 *
 * @typedef {{ token: string, token_id: number, logprob: number, bytes: number[] | null }} TopLogprob
 *   `token_id` is ours; OpenAI has no such field
 * @typedef {TopLogprob & { top_logprobs: TopLogprob[] }} TokenLogprob
 * @typedef {{ content: TokenLogprob[], refusal: null }} ChoiceLogprobs
 *
 * @typedef {object} Usage
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {number} total_tokens
 * @property {{ cached_tokens: number }} prompt_tokens_details
 * @property {Timings} timings
 *
 * @typedef {object} ChatCompletion
 * @property {string} id
 * @property {"chat.completion"} object
 * @property {number} created
 * @property {string} model
 * @property {{ index: 0, finish_reason: FinishReason, logprobs: ChoiceLogprobs | null,
 *   message: { role: "assistant", content: string, refusal: null } }[]} choices
 * @property {Usage} usage
 * @property {number} seed the seed in use, given or drawn
 * @property {WireMessage[]} dropped_messages oldest messages, left out because all did not fit into the context
 *
 * @typedef {object} ChatCompletionChunk
 * @property {string} id
 * @property {"chat.completion.chunk"} object
 * @property {number} created
 * @property {string} model
 * @property {{ index: 0, finish_reason: FinishReason | null, logprobs: ChoiceLogprobs | null,
 *   delta: { role?: "assistant", content?: string } }[]} choices
 * @property {Usage} [usage] on the last chunk
 * @property {number} [seed] on the first chunk
 * @property {WireMessage[]} [dropped_messages] on the first chunk
 *
 * @typedef {(args: import("./protocol.js").GenerateArgs, options: {
 *   signal?: AbortSignal | null, onEvent: (event: import("./protocol.js").WorkerEvent) => void,
 * }) => Promise<GenerateResult>} Generate
 */

/** `engine.chat.completions`. */
export class Completions {
  #generate;
  #model;

  /**
   * @param {Generate} generate
   * @param {() => string} model its name
   */
  constructor(generate, model) {
    this.#generate = generate;
    this.#model = model;
  }

  /**
   * Answers a conversation. Where it does not fit into the context, whole oldest exchanges are left
   * out, and `dropped_messages` says which. With `stream: true`, the promise is fulfilled when the prompt is
   * accepted, and the stream then yields one chunk a token; an abort by `signal` ends it with a
   * chunk whose `finish_reason` is `abort`, then throws an AbortError. Leaving the loop early
   * stops the generation.
   *
   * @overload
   * @param {CompletionParams & { stream: true }} params
   * @returns {Promise<CompletionStream>}
   */
  /**
   * @overload
   * @param {CompletionParams & { stream?: false }} params
   * @returns {Promise<ChatCompletion>}
   */
  /**
   * @param {CompletionParams} params
   * @returns {Promise<CompletionStream | ChatCompletion>}
   */
  async create(params) {
    const args = checkCompletion(params);
    throwIfAborted(params.signal, "the request");
    const stream = new CompletionStream(this.#generate, args, params, this.#model());
    await stream.accepted;
    return params.stream ? stream : collect(stream, args.seed);
  }
}

/** The chunks of one answer, to be read once. */
export class CompletionStream {
  /** @type {ChatCompletionChunk[]} */
  #chunks = [];
  /** @type {"open" | "closed" | SmolLMError} */
  #state = "open";
  #wake = () => {};
  #stop = new AbortController();
  #head;
  #generated = 0;
  #prompt = { tokens: 0, cached: 0 };
  #began = performance.now();
  #firstAt = 0;
  /** Fulfilled when the engine took the prompt. @type {Promise<void>} */
  accepted;

  /**
   * @param {Generate} generate
   * @param {import("./protocol.js").GenerateArgs} args
   * @param {Pick<CompletionParams, "signal" | "onPrefill">} params
   * @param {string} model
   */
  constructor(generate, args, { signal, onPrefill }, model) {
    this.#head = {
      id: `chatcmpl-${randomId()}`,
      object: /** @type {const} */ ("chat.completion.chunk"),
      created: Math.floor(Date.now() / 1000),
      model,
    };
    const onAbort = () => this.#aborted(signal);
    signal?.addEventListener("abort", onAbort, { once: true });

    this.accepted = new Promise((accept, refuse) => {
      this.#stop.signal.addEventListener("abort", () => refuse(abortError(signal, "the request")), { once: true });
      generate(args, {
        signal: this.#stop.signal,
        onEvent: (event) => {
          if (this.#state !== "open") return;
          if (event.type === "start") {
            this.#prompt = { tokens: event.promptTokens, cached: event.cachedTokens };
            this.#push({ role: "assistant", content: "" }, null, { seed: args.seed, dropped_messages: event.dropped });
            accept();
          } else if (event.type === "prefill") {
            onPrefill?.({ done: event.done, total: event.total });
          } else if (event.type === "tokens") {
            this.#tokens(event.tokens, Boolean(args.logprobs));
          }
        },
      }).then((result) => this.#finish(result), (error) => {
        refuse(error);
        this.#close(error);
      }).finally(() => signal?.removeEventListener("abort", onAbort));
    });
    // Whoever iterates hears of it too; nobody has to await `accepted`.
    this.accepted.catch(() => {});
  }

  /** @param {WireToken[]} tokens @param {boolean} logprobs */
  #tokens(tokens, logprobs) {
    this.#firstAt ||= performance.now();
    for (const { id, text, logprob } of tokens) {
      // The flushed rest of the text at the end is no token of its own.
      if (id >= 0) this.#generated++;
      if (text || logprob) this.#push({ content: text }, logprobs ? chunkLogprobs(logprob) : null);
    }
  }

  /** @param {GenerateResult} result */
  #finish({ finishReason, usage, timings }) {
    if (this.#state !== "open") return;
    this.#push({}, null, {
      usage: {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details: { cached_tokens: usage.cached_tokens },
        timings,
      },
    }, finishReason);
    this.#close("closed");
  }

  /**
   * Ends at once with what is known here; the worker stops at its next step, and the next request
   * waits for that.
   * @param {AbortSignal | null | undefined} signal
   */
  #aborted(signal) {
    if (this.#state !== "open") return;
    const now = performance.now();
    const { tokens, cached } = this.#prompt;
    const prefill = (this.#firstAt || now) - this.#began, decode = this.#firstAt ? now - this.#firstAt : 0;
    const prefilled = this.#firstAt ? tokens - cached : 0;
    if (tokens > 0) {
      this.#push({}, null, {
        usage: {
          prompt_tokens: tokens, completion_tokens: this.#generated, total_tokens: tokens + this.#generated,
          prompt_tokens_details: { cached_tokens: cached },
          timings: {
            prefill_ms: prefill, prefill_tokens_per_second: prefill > 0 ? prefilled * 1000 / prefill : 0,
            first_token_ms: this.#firstAt ? prefill : 0,
            decode_ms: decode, decode_tokens_per_second: decode > 0 ? Math.max(0, this.#generated - 1) * 1000 / decode : 0,
          },
        },
      }, "abort");
    }
    this.#close(abortError(signal, "the request"));
    this.#stop.abort();
  }

  /**
   * @param {ChatCompletionChunk["choices"][0]["delta"]} delta
   * @param {ChoiceLogprobs | null} logprobs
   * @param {Partial<ChatCompletionChunk>} [more]
   * @param {FinishReason | null} [finish_reason]
   */
  #push(delta, logprobs, more, finish_reason = null) {
    this.#chunks.push({ ...this.#head, choices: [{ index: 0, delta, logprobs, finish_reason }], ...more });
    this.#wake();
  }

  /** @param {"closed" | SmolLMError} state */
  #close(state) {
    if (this.#state === "open") this.#state = state;
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk) yield chunk;
        else if (this.#state === "closed") return;
        else if (this.#state !== "open") throw this.#state;
        else await /** @type {Promise<void>} */ (new Promise((resolve) => { this.#wake = resolve; }));
      }
    } finally {
      // Left early, by `break` or an error of the caller's.
      if (this.#state === "open") {
        this.#state = "closed";
        this.#stop.abort();
      }
    }
  }
}

/** @param {CompletionStream} stream @param {number} seed @returns {Promise<ChatCompletion>} */
async function collect(stream, seed) {
  let content = "";
  /** @type {TokenLogprob[]} */
  const logprobs = [];
  /** @type {WireMessage[]} */
  let dropped = [];
  /** @type {ChatCompletionChunk | undefined} */
  let last;
  for await (const chunk of stream) {
    const [choice] = chunk.choices;
    content += choice.delta.content ?? "";
    if (choice.logprobs) logprobs.push(...choice.logprobs.content);
    dropped = chunk.dropped_messages ?? dropped;
    last = chunk;
  }
  if (!last?.usage) throw new SmolLMError("engine_lost", "the answer ended without its figures");
  const { id, created, model, usage, choices: [{ finish_reason }] } = last;
  return {
    id, object: "chat.completion", created, model,
    choices: [{
      index: 0,
      message: { role: "assistant", content, refusal: null },
      logprobs: logprobs.length > 0 ? { content: logprobs, refusal: null } : null,
      finish_reason: finish_reason ?? "stop",
    }],
    usage, seed, dropped_messages: dropped,
  };
}

/** @param {import("./protocol.js").WireLogprob | undefined} found @returns {ChoiceLogprobs | null} */
function chunkLogprobs(found) {
  if (!found) return null;
  /** @param {import("./protocol.js").WireAlternative} alternative @returns {TopLogprob} */
  const shaped = ({ id, token, bytes, logprob }) => ({ token, token_id: id, logprob, bytes });
  return { content: [{ ...shaped(found), top_logprobs: found.top.map(shaped) }], refusal: null };
}

function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
