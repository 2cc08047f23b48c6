/**
 * Workers for a worker, started by its page: what a worker would get from `new Worker` itself, were it not that Firefox
 * (seen in 153) now and then never returns from that: of 120 workers that started three each, 10 never came back. From a page it does.
 *
 * The page only starts and ends them: what is said goes by a port between the two workers. A page that had passed the engine's
 * memory on would keep all of it until its next collection of garbage, long after the workers are gone.
 */

/**
 * @typedef {import("./spawn.js").WorkerLike} WorkerLike
 * @typedef {(url: URL, name: string) => WorkerLike} Spawn
 * @typedef {"message" | "error"} EventName
 *
 * Worker → page: about its worker number `relay`.
 * @typedef {{ relay: number, start: { url: string, name: string, port: MessagePort } }
 *   | { relay: number, terminate: true }} ToRelay
 *
 * Page → worker: it failed.
 * @typedef {{ relay: number, error: string }} FromRelay
 */

/** The worker's side. */
export class RelayedWorkers {
  /** @type {Map<number, RelayedWorker>} */
  #workers = new Map();
  #send;
  #next = 1;

  /** @param {(message: ToRelay, transfer: Transferable[]) => void} send to the page */
  constructor(send) {
    this.#send = send;
  }

  /** @type {Spawn} */
  spawn = (url, name) => {
    const relay = this.#next++;
    const { port1, port2 } = new MessageChannel();
    const worker = new RelayedWorker(port1, () => {
      this.#workers.delete(relay);
      this.#send({ relay, terminate: true }, []);
    });
    this.#workers.set(relay, worker);
    this.#send({ relay, start: { url: url.href, name, port: port2 } }, [port2]);
    return worker;
  };

  /** @param {FromRelay} message from the page */
  receive({ relay, error }) {
    this.#workers.get(relay)?.emit("error", { message: error });
  }
}

/** A {@link WorkerLike} whose worker is the page's. */
class RelayedWorker {
  /** @type {Record<EventName, ((event: any) => void)[]>} */
  #listeners = { message: [], error: [] };
  #port;
  #end;

  /** @param {MessagePort} port @param {() => void} end */
  constructor(port, end) {
    this.#port = port;
    this.#end = end;
    port.onmessage = ({ data }) => this.emit("message", { data });
  }

  /** @param {unknown} data */
  postMessage(data) {
    this.#port.postMessage(data);
  }

  /** @param {EventName} type @param {(event: any) => void} listener */
  addEventListener(type, listener) {
    this.#listeners[type].push(listener);
  }

  terminate() {
    this.#port.close();
    this.#end();
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
    } else {
      this.#workers.get(relay)?.terminate();
      this.#workers.delete(relay);
    }
  }

  /** @param {number} relay @param {{ url: string, name: string, port: MessagePort }} start */
  #start(relay, { url, name, port }) {
    /** @param {unknown} message */
    const failed = (message) => this.#send({ relay, error: String(message ?? "") });
    try {
      const worker = this.#spawn(new URL(url), name);
      worker.addEventListener("error", (event) => {
        event.preventDefault?.();
        failed(event.message);
      });
      worker.postMessage({ port }, [port]);
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
