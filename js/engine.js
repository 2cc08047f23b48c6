/**
 * The worker's side: owns the wasm engine, answers calls in turn, and generates one step at a time,
 * letting the message queue in between two steps, so that an abort is seen within one step.
 */
import { openBuild } from "./build.js";
import { fitMessages } from "./context.js";
import { SmolLMError, abortError, throwIfAborted, toSmolLMError, toWire } from "./errors.js";
import { loadModel } from "./loader.js";
import { createLogger } from "./log.js";
import { isoDay } from "./params.js";
import { preflight } from "./preflight.js";
import { chooseBuild, probe } from "./probe.js";
import { CALLS } from "./protocol.js";
import { RelayedWorkers } from "./relay.js";
import { withStates } from "./states.js";
import { ModelStore } from "./store.js";
import { createTurn } from "./turn.js";

/**
 * @typedef {import("./protocol.js").ToWorker} ToWorker
 * @typedef {import("./protocol.js").FromWorker} FromWorker
 * @typedef {import("./protocol.js").CallMessage} CallMessage
 * @typedef {import("./protocol.js").WireToken} WireToken
 *
 * @typedef {object} Port what the page's `Worker` object is connected to
 * @property {(message: FromWorker, transfer?: Transferable[]) => void} postMessage
 * @property {((event: { data: ToWorker }) => void) | null} onmessage
 *
 * The wasm class (`src/wasm/`), whose objects travel as JSON text:
 * @typedef {import("./loader.js").WasmLoader & {
 *   tokenize(text: string, parseSpecial: boolean): Uint32Array,
 *   detokenize(ids: Uint32Array): string,
 *   count_messages(messages: string, options: string): number,
 *   start(request: string): string,
 *   step(): string,
 *   abort(): string,
 * }} WasmEngine
 *
 * @typedef {{ type: "prefill", done: number, total: number }
 *   | ({ type: "token" } & StepToken)
 *   | { type: "done", finish_reason: "stop" | "length" | "abort", text: string,
 *       usage: { prompt_tokens: number, completion_tokens: number, cached_tokens: number } }} Step
 * @typedef {{ id: number, token: string, bytes: number[], logprob: number }} StepLogprob
 * @typedef {{ id: number, text: string } & Partial<StepLogprob & { top_logprobs: StepLogprob[] }>} StepToken
 *
 * @typedef {{ step(engine: WasmEngine): string | undefined, free(): void }} FingerprintRun
 * @typedef {{ tokens(): number, bytes(): number, next(engine: WasmEngine): Uint8Array | undefined, free(): void }} StateWriter
 * @typedef {{ feed(engine: WasmEngine, chunk: Uint8Array): void, finish(engine: WasmEngine): number, free(): void }} StateReader
 *
 * @typedef {import("./kernel.js").Rivals & {
 *   default(options: { module_or_path: unknown, memory?: WebAssembly.Memory }): Promise<{ memory: WebAssembly.Memory }>,
 *   SmolLMInstruct: new () => WasmEngine,
 *   Preflight: new (spec: string) => import("./preflight.js").WasmPreflight,
 *   FingerprintRun: new (engine: WasmEngine, text: string, answer: number) => FingerprintRun,
 *   StateWriter: new (engine: WasmEngine) => StateWriter, StateReader: new () => StateReader, kernel_name(): string, set_threads(n: number): number }} WasmModule
 *
 * @typedef {{ message: CallMessage, abort: AbortController, came: number }} Job
 */

/** Tokens closer together than this share one message; a screen shows no more anyway. */
const FLUSH_MS = 16;

/**
 * What is around the engine.
 * @typedef {object} Host
 * @property {(url: string) => Promise<WasmModule>} importModule
 * @property {boolean} isolated
 * @property {number} cores
 */

/** @returns {Host} */
const browser = () => ({
  importModule: (url) => import(/* @vite-ignore */ /* webpackIgnore: true */ url),
  isolated: Boolean(globalThis.crossOriginIsolated),
  cores: globalThis.navigator?.hardwareConcurrency ?? 1,
});

/**
 * Answers calls on `port`.
 *
 * @param {Port} port
 * @param {Partial<Host>} [host] what differs from the browser's own
 */
export function serve(port, host) {
  const worker = new EngineWorker(port, { ...browser(), ...host });
  port.onmessage = ({ data }) => worker.receive(data);
}

class EngineWorker {
  /** @type {Job[]} */
  #queue = [];
  /** @type {Job | null} */
  #running = null;
  /** @type {WasmEngine | null} */
  #engine = null;
  /** @type {WasmModule | null} */
  #wasm = null;
  /** @type {WebAssembly.Memory | null} */
  #memory = null;
  #contextLength = 0;
  /** What ended the instance while nobody waited for it. @type {WebAssembly.RuntimeError | null} */
  #trap = null;
  /** Settles when the engine is nobody's. @type {Promise<void>} */
  #warming = Promise.resolve();
  #log = createLogger("silent");
  #turn = createTurn();
  #threads = new RelayedWorkers((message, transfer) => this.port.postMessage(message, transfer));

  /** @param {Port} port @param {Host} host */
  constructor(port, host) {
    this.port = port;
    this.host = host;
  }

  /** The dispatch table: one method a call. */
  #calls = {
    load: (/** @type {any} */ args, /** @type {Job} */ job) => this.#load(args, job),
    preflight: (/** @type {any} */ args, /** @type {Job} */ job) => this.#preflight(args, job),
    generate: (/** @type {any} */ args, /** @type {Job} */ job) => this.#generate(args, job),
    tokenize: (/** @type {any} */ { text, parseSpecial }) => [...this.#ready().tokenize(text, parseSpecial)],
    detokenize: (/** @type {any} */ { ids }) => this.#ready().detokenize(Uint32Array.from(ids)),
    countTokens: (/** @type {any} */ args) => this.#countTokens(args),
    fingerprint: (/** @type {any} */ args, /** @type {Job} */ job) => this.#fingerprint(args, job),
    saveState: (/** @type {any} */ args, /** @type {Job} */ job) => this.#saveState(args, job),
    restoreState: (/** @type {any} */ args, /** @type {Job} */ job) => this.#restoreState(args, job),
  };

  /** @param {ToWorker} message */
  receive(message) {
    if ("relay" in message) return this.#threads.receive(message);
    if ("abort" in message) return this.#abort(message.id);
    const job = { message, abort: new AbortController(), came: performance.now() };
    if (CALLS[message.call] === "now") return void this.#run(job);
    this.#queue.push(job);
    void this.#pump();
  }

  /** @param {number} id */
  #abort(id) {
    const waiting = this.#queue.findIndex(({ message }) => message.id === id);
    if (waiting >= 0) {
      this.#queue.splice(waiting, 1);
      this.port.postMessage({ id, error: toWire(abortError(null, "the request")) });
    } else if (this.#running?.message.id === id) {
      this.#running.abort.abort();
    }
  }

  async #pump() {
    if (this.#running) return;
    while ((this.#running = this.#queue.shift() ?? null)) {
      await this.#warming;
      await this.#run(this.#running);
    }
  }

  /** @param {Job} job */
  async #run(job) {
    const { id, call, args } = job.message;
    try {
      this.port.postMessage({ id, result: await this.#calls[call](args, job) });
    } catch (thrown) {
      const { error, fatal } = this.#explain(thrown, call);
      this.#log[error.code === "aborted" ? "debug" : "error"](`${call}: ${error.message}`, error);
      this.port.postMessage({ id, error: toWire(error), ...(fatal && { fatal }) });
    }
  }

  /**
   * A trap leaves the wasm instance in an unknown state: nothing may be asked of it again.
   * @param {unknown} thrown @param {string} call
   */
  #explain(thrown, call) {
    const trapped = thrown instanceof WebAssembly.RuntimeError;
    if (trapped && !this.#canGrow()) {
      return { error: new SmolLMError("out_of_memory", `${call}: the engine's memory could not grow`, { cause: thrown }), fatal: true };
    }
    if (thrown instanceof RangeError && /memory/i.test(thrown.message)) {
      return { error: new SmolLMError("out_of_memory", `${call}: ${thrown.message}`, { cause: thrown }), fatal: true };
    }
    return { error: toSmolLMError(thrown, "engine_lost", trapped ? `${call}: the engine crashed` : undefined), fatal: trapped };
  }

  #canGrow() {
    try {
      this.#memory?.grow(256);
      return true;
    } catch {
      return false;
    }
  }

  #ready() {
    if (this.#trap) throw this.#trap;
    if (this.#engine) return this.#engine;
    throw new SmolLMError("engine_lost", "no model is loaded");
  }

  /** @param {import("./protocol.js").LoadArgs} args @param {Job} job */
  async #load(args, { message: { id }, abort: { signal } }) {
    if (args.lockName) this.#holdLock(args.lockName);
    this.#log = createLogger(args.logLevel, (log) => this.port.postMessage({ log: cloneable(log) }));
    const began = performance.now();
    // The model's files are on their way while the engine is compiled.
    const opened = this.#open(args, signal);
    const engine = opened.then(({ wasm, memory }) => {
      this.#memory = memory;
      return new wasm.SmolLMInstruct();
    });
    // Whoever awaits it hears of a failure; until then it is nobody's.
    engine.catch(() => {});
    const store = args.cache === "none" ? null : await ModelStore.open(this.#log);
    const { info: found, notStored } = await loadModel(args.source, {
      engine, store, signal, log: this.#log, contextLength: args.contextLength, whenFull: args.whenFull, stallMs: args.stallMs,
      progress: (progress) => this.port.postMessage({ id, event: { type: "progress", ...progress } }),
    });
    const { wasm, choice: { build, threads, why } } = await opened;
    this.#engine = await engine;
    this.#wasm = wasm;
    this.#contextLength = Number(found.context_length);

    /** @type {import("./protocol.js").EngineInfo} */
    const info = {
      model: String(found.model ?? ""),
      architecture: String(found.architecture ?? ""),
      parameters: Number(found.parameters),
      quantization: String(found.quantization ?? ""),
      contextLength: this.#contextLength,
      threads,
      kernel: String(found.kernel ?? wasm.kernel_name()),
      build,
      crossOriginIsolated: this.host.isolated,
      why: notStored ? [...why, `not stored: ${notStored}`] : why,
      stored: !notStored,
      weightBytes: Number(found.weight_bytes),
      memoryBytes: this.#memoryBytes(),
    };
    this.#log.info(`ready: ${info.model} after ${msSince(began)} ms`, info);
    this.#warming = this.#warmUp(this.#engine);
    return info;
  }

  /**
   * @param {import("./protocol.js").PreflightArgs} args @param {Job} job
   * @returns {Promise<import("./preflight.js").Preflight>}
   */
  async #preflight(args, { abort: { signal } }) {
    this.#log = createLogger(args.logLevel, (log) => this.port.postMessage({ log: cloneable(log) }));
    const opened = this.#open(args, signal);
    opened.then(({ memory }) => { this.#memory = memory; }, () => {});
    const store = args.cache === "none" ? null : await ModelStore.open(this.#log);
    return preflight(args, { opened, context: { store, signal, log: this.#log, stallMs: args.stallMs } });
  }

  /** @param {import("./protocol.js").PreflightArgs} args @param {AbortSignal} signal */
  #open({ kernel, threads, pkgUrl }, signal) {
    const { importModule, isolated, cores } = this.host;
    const can = probe();
    this.#log.debug("probe: what this browser has", { ...can, crossOriginIsolated: isolated, cores });
    const choice = chooseBuild(can, { kernel, threads, isolated, cores });
    return openBuild(choice, { pkgUrl, importModule, spawn: this.#threads.spawn, signal, log: this.#log });
  }

  /**
   * Browsers compile wasm quickly first and well later, once it has run for a while. So it runs,
   * while the visitor still types, and stops as soon as a request is there. The prompt begins as the
   * first real one probably will, which is then in the cache.
   *
   * @param {WasmEngine} engine
   */
  async #warmUp(engine) {
    const began = performance.now();
    let steps = 0;
    try {
      const messages = [{ role: "user", content: "Hello" }];
      engine.start(JSON.stringify({ kind: "completion", messages, max_tokens: 24, temperature: 0, seed: 0, date: isoDay(new Date()) }));
      for (;;) {
        await this.#turn();
        const wanted = this.#running || this.#queue.length > 0;
        if (wanted) engine.abort();
        if (wanted || /** @type {Step} */ (JSON.parse(engine.step())).type === "done") break;
        steps++;
      }
      this.#log.debug(`warmup: ${steps} steps in ${msSince(began)} ms`);
    } catch (error) {
      // Whatever it is, a request will tell whoever asks.
      this.#log.debug("warming up failed", error);
      if (error instanceof WebAssembly.RuntimeError) this.#trap = error;
      else quietly(() => engine.abort());
    }
  }

  /** A browser may kill a worker without a word; the page waits for this lock to come free. */
  #holdLock(/** @type {string} */ name) {
    navigator.locks?.request(name, () => {
      this.port.postMessage({ alive: name });
      return new Promise(() => {});
    }).catch(() => {});
  }

  #memoryBytes() {
    return this.#memory?.buffer.byteLength ?? 0;
  }

  /** @param {import("./protocol.js").Calls["countTokens"]["args"]} args */
  #countTokens(args) {
    return "text" in args
      ? this.#ready().tokenize(args.text, false).length
      : this.#countMessages(args.messages, args.options);
  }

  /** @param {readonly import("./protocol.js").WireMessage[]} messages @param {import("./protocol.js").RenderOptions} options */
  #countMessages(messages, options) {
    return this.#ready().count_messages(JSON.stringify(messages), JSON.stringify({ add_generation_prompt: true, ...options }));
  }

  /**
   * @param {import("./protocol.js").GenerateArgs} args @param {Job} job
   * @returns {Promise<import("./protocol.js").GenerateResult>}
   */
  async #generate(args, { message: { id }, abort: { signal }, came }) {
    const engine = this.#ready();
    const began = performance.now();
    const { enable_thinking, date } = args;
    this.#log.debug(`request: ${args.messages.length} messages, after ${msSince(came)} ms of waiting`, samplingOf(args));
    const { messages, dropped } = fitMessages(args.messages, {
      contextLength: this.#contextLength, maxTokens: args.max_tokens,
      count: (some) => this.#countMessages(some, { enable_thinking, date }),
    });
    /** @type {{ prompt_tokens: number, cached_tokens: number }} */
    const started = JSON.parse(engine.start(JSON.stringify({ kind: "completion", ...args, messages })));
    this.#log.debug(`prompt: ${started.prompt_tokens} tokens, ${started.cached_tokens} of them in the cache, after ${msSince(began)} ms`,
      { dropped: dropped.length });
    this.port.postMessage({ id, event: {
      type: "start", promptTokens: started.prompt_tokens, cachedTokens: started.cached_tokens, dropped,
    } });

    /** @type {WireToken[]} */
    let batch = [];
    let firstAt = 0, flushedAt = 0;
    const flush = () => {
      if (batch.length > 0) this.port.postMessage({ id, event: { type: "tokens", tokens: batch } });
      batch = [];
      flushedAt = performance.now();
    };
    try {
      for (;;) {
        await this.#turn();
        /** @type {Step} */
        const step = JSON.parse(signal.aborted ? engine.abort() : engine.step());
        if (step.type === "prefill") {
          this.port.postMessage({ id, event: step });
        } else if (step.type === "token") {
          const now = performance.now();
          if (!firstAt) {
            firstAt = now;
            this.#log.debug(`prefill: ${started.prompt_tokens - started.cached_tokens} tokens in ${msSince(began)} ms`);
          }
          batch.push(wireToken(step));
          if (now - flushedAt >= FLUSH_MS) flush();
        } else {
          if (step.text) batch.push({ id: -1, text: step.text });
          flush();
          return this.#finished(step, began, firstAt);
        }
      }
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) quietly(() => engine.abort());
      throw error;
    }
  }

  /**
   * @param {import("./protocol.js").Calls["fingerprint"]["args"]} args @param {Job} job
   * @returns {Promise<import("./protocol.js").Fingerprint>}
   */
  async #fingerprint({ text, answer }, { abort: { signal } }) {
    const engine = this.#ready();
    const run = new /** @type {WasmModule} */ (this.#wasm).FingerprintRun(engine, text, answer);
    try {
      for (;;) {
        await this.#turn();
        throwIfAborted(signal, "the fingerprint");
        const found = run.step(engine);
        if (found !== undefined) return JSON.parse(found);
      }
    } finally {
      // After a trap there is nothing left that could free it.
      quietly(() => run.free());
    }
  }

  /**
   * @param {import("./protocol.js").Calls["saveState"]["args"]} args @param {Job} job
   * @returns {Promise<import("./protocol.js").StateInfo>}
   */
  async #saveState({ key, maxBytes }, { abort: { signal } }) {
    const engine = this.#ready();
    const writer = new /** @type {WasmModule} */ (this.#wasm).StateWriter(engine);
    try {
      const found = { tokens: writer.tokens(), bytes: writer.bytes() };
      const next = async () => {
        await this.#turn();
        throwIfAborted(signal, "saving the conversation");
        return writer.next(engine);
      };
      await withStates((states) => states.save(key, { bytes: found.bytes, next, maxBytes }), { signal });
      this.#log.debug(`saved ${found.tokens} tokens as ${key}`, found);
      return found;
    } finally {
      quietly(() => writer.free());
    }
  }

  /**
   * @param {import("./protocol.js").Calls["restoreState"]["args"]} args @param {Job} job
   * @returns {Promise<import("./protocol.js").StateInfo | null>}
   */
  async #restoreState({ key }, { abort: { signal } }) {
    const engine = this.#ready();
    const found = await withStates((states) => states.restore(key, async (chunks) => {
      const reader = new /** @type {WasmModule} */ (this.#wasm).StateReader();
      try {
        for await (const chunk of chunks) {
          await this.#turn();
          throwIfAborted(signal, "restoring the conversation");
          reader.feed(engine, chunk);
        }
        return reader.finish(engine);
      } finally {
        quietly(() => reader.free());
      }
    }), { signal });
    this.#log.debug(`restored ${key}`, found);
    return found;
  }

  /**
   * @param {Extract<Step, { type: "done" }>} step
   * @param {number} began @param {number} firstAt 0 where no token came
   * @returns {import("./protocol.js").GenerateResult}
   */
  #finished({ finish_reason, usage }, began, firstAt) {
    const ended = performance.now();
    const prefillMs = (firstAt || ended) - began;
    const decodeMs = firstAt ? ended - firstAt : 0;
    const prefilled = usage.prompt_tokens - usage.cached_tokens;
    const result = {
      finishReason: finish_reason,
      usage: {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        cached_tokens: usage.cached_tokens,
      },
      timings: {
        prefill_ms: prefillMs,
        prefill_tokens_per_second: perSecond(prefilled, prefillMs),
        first_token_ms: firstAt ? firstAt - began : 0,
        decode_ms: decodeMs,
        // The first token belongs to prefill: its time is not in decode_ms.
        decode_tokens_per_second: perSecond(Math.max(0, usage.completion_tokens - 1), decodeMs),
      },
      memoryBytes: this.#memoryBytes(),
    };
    this.#log.info(`answer: ${usage.completion_tokens} tokens, then ${finish_reason}`, { ...result.timings, memoryBytes: result.memoryBytes });
    return result;
  }
}

/** @param {StepToken} step @returns {WireToken} */
function wireToken({ id, text, token = "", bytes = [], logprob, top_logprobs = [] }) {
  return logprob === undefined ? { id, text } : { id, text, logprob: { id, token, bytes, logprob, top: top_logprobs } };
}

/** What decides how the answer is drawn, and nothing that was said. @param {import("./protocol.js").GenerateArgs} args */
function samplingOf({ messages: _, stop, ...sampling }) {
  return { ...sampling, ...(stop && { stop: stop.length }) };
}

/** @param {number} began */
function msSince(began) {
  return Math.round(performance.now() - began);
}

/** @param {number} count @param {number} ms */
function perSecond(count, ms) {
  return ms > 0 ? (count * 1000) / ms : 0;
}

/** Log data may hold errors or DOM objects; what `postMessage` cannot carry goes as text. */
function cloneable(/** @type {any} */ log) {
  if (log.data instanceof Error) return { ...log, data: toWire(log.data) };
  try {
    structuredClone(log.data);
    return log;
  } catch {
    return { ...log, data: String(log.data) };
  }
}

/** @param {() => void} action */
function quietly(action) {
  try {
    action();
  } catch {
    // The first error is the one to report.
  }
}
