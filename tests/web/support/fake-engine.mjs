/**
 * The real client and the real worker code, in one thread over a message channel, with the fake
 * wasm module underneath: what the package does between page and engine, without a browser.
 */
import { serve } from "../../../js/engine.js";
import { SmolLM } from "../../../js/index.js";
import * as fake from "../fake/smollm_web.js";

/** A Worker as far as the client can tell. */
export class LocalWorker {
  #channel = new MessageChannel();
  #listeners = { message: [], error: [], messageerror: [] };
  /** Every message the page sent. */
  sent = [];
  terminated = false;

  /** @param {object} [host] what the engine's worker finds around it */
  constructor(host = {}) {
    const { port1, port2 } = this.#channel;
    port1.onmessage = ({ data }) => this.emit("message", { data });
    const port = { postMessage: (m, transfer) => port2.postMessage(m, transfer), onmessage: null };
    port2.onmessage = ({ data }) => { if (!this.terminated) port.onmessage?.({ data }); };
    serve(port, { importModule: async () => fake, ...host });
  }

  postMessage(message) {
    this.sent.push(message);
    if (!this.terminated) this.#channel.port1.postMessage(structuredClone(message));
  }

  addEventListener(type, listener) {
    this.#listeners[type].push(listener);
  }

  emit(type, event) {
    if (!this.terminated) for (const listener of this.#listeners[type]) listener(event);
  }

  terminate() {
    this.terminated = true;
    this.#channel.port1.close();
    this.#channel.port2.close();
  }
}

/** Bytes that pass for a GGUF file as far as the fake looks. */
export function fakeGguf(bytes = 1000) {
  const data = new Uint8Array(bytes);
  data.set(new TextEncoder().encode("GGUF"));
  return new File([data], "fake.gguf");
}

/** A module without anything in it. */
const WASM = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0);

/** The wasm file is fetched, and for threads compiled, by the worker before the fake ignores it. */
export async function withWasm(load) {
  const realFetch = globalThis.fetch;
  globalThis.fetch = async (url, init) => (String(url).endsWith("_bg.wasm") ? new Response(WASM) : realFetch(url, init));
  try {
    return await load();
  } finally {
    globalThis.fetch = realFetch;
  }
}

/** An engine over the fake; `worker` is its worker, in the surroundings `host`, and `spawnThread` makes those of its threads. */
export async function loadFake(options = {}, model = fakeGguf(), { spawnThread, ...host } = {}) {
  let worker;
  const engine = await withWasm(() => SmolLM.load(model, {
    logLevel: "silent", ...options,
    workerFactory: options.workerFactory ?? ((url, name) => (worker ? spawnThread(url, name) : (worker = new LocalWorker(host)))),
  }));
  return { engine, worker };
}
