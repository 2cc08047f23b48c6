/**
 * Workers for a worker, started by its page: what a worker would get from `new Worker` itself, were it not that Firefox
 * (seen in 153) now and then never returns from that, one time in thirty where three are started at once. From a page it does.
 */

/**
 * @typedef {import("./spawn.js").WorkerLike} WorkerLike
 * @typedef {(url: URL, name: string) => WorkerLike} Spawn
 * @typedef {"message" | "error"} EventName
 *
 * Worker → page: about its worker number `relay`.
 * @typedef {{ relay: number, start: { url: string, name: string } }
 *   | { relay: number, post: unknown }
 *   | { relay: number, terminate: true }} ToRelay
 *
 * Page → worker: what came of it.
 * @typedef {{ relay: number, event: "message", data: unknown } | { relay: number, event: "error", message: string }} FromRelay
 */

/** The worker's side. */
export class RelayedWorkers {
  /** @type {Map<number, RelayedWorker>} */
  #workers = new Map();
  #send;
  #next = 1;

  /** @param {(message: ToRelay) => void} send to the page */
  constructor(send) {
    this.#send = send;
  }

  /** @type {Spawn} */
  spawn = (url, name) => {
    const relay = this.#next++;
    const worker = new RelayedWorker((what) => this.#send(/** @type {ToRelay} */ ({ relay, ...what })), () => this.#workers.delete(relay));
    this.#workers.set(relay, worker);
    this.#send({ relay, start: { url: url.href, name } });
    return worker;
  };

  /** @param {FromRelay} message from the page */
  receive({ relay, ...event }) {
    this.#workers.get(relay)?.emit(event.event, event);
  }
}

/** A {@link WorkerLike} whose worker is the page's. */
class RelayedWorker {
  /** @type {Record<EventName, ((event: any) => void)[]>} */
  #listeners = { message: [], error: [] };
  #send;
  #forget;

  /** @param {(what: { post: unknown } | { terminate: true }) => void} send @param {() => void} forget */
  constructor(send, forget) {
    this.#send = send;
    this.#forget = forget;
  }

  /** @param {unknown} data */
  postMessage(data) {
    this.#send({ post: data });
  }

  /** @param {EventName} type @param {(event: any) => void} listener */
  addEventListener(type, listener) {
    this.#listeners[type].push(listener);
  }

  terminate() {
    this.#forget();
    this.#send({ terminate: true });
  }

  /** @param {EventName} type @param {unknown} event */
  emit(type, event) {
    for (const listener of this.#listeners[type]) listener(event);
  }
}

/** The page's side. */
export class WorkerRelay {
  /** @type {Map<number, WorkerLike>} */
  #workers = new Map();
  #ended = false;
  #send;
  #spawn;

  /** @param {(message: FromRelay) => void} send to the worker @param {Spawn} spawn */
  constructor(send, spawn) {
    this.#send = send;
    this.#spawn = spawn;
  }

  /** @param {ToRelay} message from the worker */
  receive(message) {
    if (this.#ended) return;
    const { relay } = message;
    if ("start" in message) {
      this.#start(relay, message.start);
    } else if ("post" in message) {
      this.#workers.get(relay)?.postMessage(message.post);
    } else {
      this.#workers.get(relay)?.terminate();
      this.#workers.delete(relay);
    }
  }

  /** @param {number} relay @param {{ url: string, name: string }} start */
  #start(relay, { url, name }) {
    /** @param {unknown} message */
    const failed = (message) => this.#send({ relay, event: "error", message: String(message ?? "") });
    try {
      const worker = this.#spawn(new URL(url), name);
      worker.addEventListener("message", ({ data }) => this.#send({ relay, event: "message", data }));
      worker.addEventListener("error", (event) => {
        event.preventDefault?.();
        failed(event.message);
      });
      this.#workers.set(relay, worker);
    } catch (error) {
      failed(/** @type {any} */ (error)?.message);
    }
  }

  /** Ends all workers, and starts none any more. */
  end() {
    this.#ended = true;
    for (const worker of this.#workers.values()) worker.terminate();
    this.#workers.clear();
  }
}
