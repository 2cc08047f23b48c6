/**
 * Threads for the engine: Web Workers beside the engine's own (relay.js starts them), each with an instance of its module
 * on its memory (src/kernels/pool.rs says what they do there). They end with it, by whatever hand.
 */
import { SmolLMError, throwIfAborted } from "./errors.js";

/**
 * @typedef {import("./spawn.js").WorkerLike} WorkerLike
 * @typedef {import("./relay.js").Spawn} Spawn
 * @typedef {{ index: number, glueUrl: string, module: WebAssembly.Module, memory: WebAssembly.Memory }} ThreadStart
 * @typedef {{ ready: true } | { failed: string }} ThreadMessage
 */

/** Pages (64 KiB) that a shared memory begins with: what scripts/build-wasm tells the linker, and one of wasm-bindgen's. */
const FIRST_PAGES = 65;

/** Pages it may grow to. Address space for all of them is taken at once, and phones have less of it. */
const MOST_PAGES = [65536, 32768, 16384];

/** A worker that has not begun by then will not be waited for. */
const START_MS = 10_000;

/** @returns {WebAssembly.Memory} the largest shared one to be had */
export function sharedMemory() {
  /** @type {unknown} */
  let cause;
  for (const maximum of MOST_PAGES) {
    try {
      return new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared: true });
    } catch (error) {
      cause = error;
    }
  }
  throw new SmolLMError("out_of_memory", "no shared memory could be had", { cause });
}

/** The threads beside the engine's own. */
export class KernelThreads {
  #workers;
  /** Rejects when one cannot start. @type {Promise<never>} */
  #failed;

  /**
   * Starts workers, which wait for {@link run}.
   * @param {number} count
   * @param {Spawn} spawn
   */
  constructor(count, spawn) {
    this.#workers = Array.from({ length: count }, (_, i) => spawn(new URL("./threads-worker.js", import.meta.url), `smollm-web-${i + 1}`));
    this.#failed = new Promise((_, reject) => {
      for (const worker of this.#workers) worker.addEventListener("error", ({ message }) => reject(failure(message || "it could not be started")));
    });
    // Also before anybody waits for it.
    this.#failed.catch(() => {});
  }

  /**
   * Lets the workers compute, from the moment on that this settles.
   *
   * @param {Omit<ThreadStart, "index">} start
   * @param {AbortSignal} signal
   */
  async run(start, signal) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    /** @type {(() => void) | undefined} */
    let stop;
    const given = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new SmolLMError("unsupported_browser",
        `a thread's worker did not start within ${START_MS / 1000} s`)), START_MS);
      stop = () => reject(signal.reason);
      signal.addEventListener("abort", stop);
    });
    try {
      throwIfAborted(signal, "starting threads");
      await Promise.race([given, this.#failed, Promise.all(this.#workers.map((worker, index) => begun(worker, { ...start, index })))]);
    } catch (error) {
      this.end();
      throw error;
    } finally {
      clearTimeout(timer);
      if (stop) signal.removeEventListener("abort", stop);
    }
  }

  /** Ends the workers, whatever they are at. */
  end() {
    for (const worker of this.#workers) worker.terminate();
  }
}

/**
 * @param {WorkerLike} worker @param {ThreadStart} start
 * @returns {Promise<void>}
 */
function begun(worker, start) {
  return new Promise((resolve, reject) => {
    worker.addEventListener("message", (/** @type {{ data: ThreadMessage }} */ { data }) => {
      if ("ready" in data) resolve();
      else reject(failure(data.failed));
    });
    worker.postMessage(start);
  });
}

/** @param {string} why */
function failure(why) {
  return new SmolLMError("unsupported_browser", `a thread's worker: ${why}`);
}
