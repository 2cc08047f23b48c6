/**
 * One worker of the engine, its pending calls, and the promise that each of them settles, whatever happens to the
 * worker.
 */
import { SmolLMError, abortError, fromWire } from "./errors.js";
import { locate } from "./models.js";
import { WorkerRelay } from "./relay.js";
import { spawnWorker } from "./spawn.js";

/**
 * @typedef {import("./protocol.js").Calls} Calls
 * @typedef {import("./protocol.js").WorkerEvent} WorkerEvent
 *
 * @typedef {{ resolve: (value: any) => void, reject: (error: Error) => void, onEvent?: (event: WorkerEvent) => void, settle: () => void }} Pending
 *
 * @typedef {{ assetsUrl?: string | URL, workerFactory?: import("./relay.js").Spawn }} WorkerOptions
 */

export class WorkerLink {
  #nextId = 1;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  /** @type {SmolLMError | null} */
  #lost = null;
  /** @type {(error: SmolLMError) => void} */
  #tellLost = () => {};
  #watch = new AbortController();
  /** @type {Promise<SmolLMError>} */
  lost = new Promise((resolve) => { this.#tellLost = resolve; });

  /**
   * Starts a worker.
   * @param {WorkerOptions} options @param {import("./log.js").Logger} log
   */
  static open({ assetsUrl, workerFactory = spawnWorker }, log) {
    // A literal `new URL` is what bundlers look for.
    const url = assetsUrl ? new URL("worker.js", locate({ assetsUrl }).assets) : new URL("./worker.js", import.meta.url);
    return new WorkerLink(url, workerFactory, log);
  }

  /** @param {URL} url @param {import("./relay.js").Spawn} spawn @param {import("./log.js").Logger} log */
  constructor(url, spawn, log) {
    const worker = this.worker = spawn(url, "smollm-web");
    this.threads = new WorkerRelay((message) => worker.postMessage(message), spawn);
    this.log = log;
    worker.addEventListener("message", (event) => this.#receive(event.data));
    worker.addEventListener("error", (event) => {
      event.preventDefault?.();
      const place = event.filename ? ` (${event.filename}:${event.lineno})` : "";
      this.end(new SmolLMError("engine_lost", `the engine's worker failed: ${event.message || "it could not be started"}${place}`,
        { cause: event.error ?? undefined }));
    });
    worker.addEventListener("messageerror", () => {
      this.end(new SmolLMError("engine_lost", "a message of the engine's worker could not be read"));
    });
  }

  /** A name for the Web Lock that tells of the worker's death; none where there are no locks. */
  lockName() {
    if (!globalThis.navigator?.locks) return undefined;
    return `smollm-web-${[...crypto.getRandomValues(new Uint32Array(4))].join("-")}`;
  }

  /**
   * @template {keyof Calls} K
   * @param {K} call
   * @param {Calls[K]["args"]} args
   * @param {{ signal?: AbortSignal | null, onEvent?: (event: WorkerEvent) => void, what?: string, wait?: boolean }} [options]
   *   `wait`: an aborted call settles when the worker has stopped, instead of at once
   * @returns {Promise<Calls[K]["result"]>}
   */
  call(call, args, { signal, onEvent, what = call, wait = false } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#lost) return reject(this.#lost);
      if (signal?.aborted) return reject(abortError(signal, what));
      const id = this.#nextId++;
      const onAbort = () => {
        this.worker.postMessage({ id, abort: true });
        if (!wait) this.#settle(id)?.reject(abortError(signal, what));
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#pending.set(id, { resolve, reject, onEvent, settle: () => signal?.removeEventListener("abort", onAbort) });
      try {
        this.worker.postMessage({ id, call, args });
      } catch (error) {
        this.#settle(id)?.reject(new SmolLMError("invalid_argument", `${call}: an argument cannot be sent to the worker`, { cause: error }));
      }
    });
  }

  /** @param {import("./protocol.js").FromWorker} message */
  #receive(message) {
    if ("log" in message) {
      this.log.write(message.log);
    } else if ("relay" in message) {
      this.threads.receive(message);
    } else if ("alive" in message) {
      this.#watchLock(message.alive);
    } else if ("event" in message) {
      this.#pending.get(message.id)?.onEvent?.(message.event);
    } else if ("error" in message) {
      const error = fromWire(message.error);
      this.#settle(message.id)?.reject(error);
      if (message.fatal) this.end(new SmolLMError("engine_lost", error.message, { cause: error }));
    } else if ("result" in message) {
      this.#settle(message.id)?.resolve(message.result);
    }
  }

  /** The lock comes free only when its worker is gone, by whatever hand. @param {string} name */
  #watchLock(name) {
    navigator.locks.request(name, { signal: this.#watch.signal }, () => {
      this.end(new SmolLMError("engine_lost", "the engine's worker was ended by the browser"));
    }).catch(() => {});
  }

  /** @param {number} id */
  #settle(id) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.settle();
    return pending;
  }

  /**
   * Rejects everything pending and every later call, and ends the worker.
   * @param {SmolLMError} error
   * @param {number} [graceMs] how long it may still tidy up
   */
  end(error, graceMs = 0) {
    if (this.#lost) return;
    this.#lost = error;
    this.log.debug(`worker: ended with ${this.#pending.size} calls pending`, error.message);
    this.#watch.abort();
    for (const id of [...this.#pending.keys()]) {
      this.worker.postMessage({ id, abort: true });
      this.#settle(id)?.reject(error);
    }
    this.#tellLost(error);
    const stop = () => {
      this.worker.terminate();
      this.threads.end();
    };
    if (graceMs > 0) setTimeout(stop, graceMs);
    else stop();
  }
}
