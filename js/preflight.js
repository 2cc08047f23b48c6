/** What loading a model would take on this device, found out in a worker that is ended afterwards. */
import { throwIfAborted } from "./errors.js";
import { modelUrl } from "./models.js";
import { rehearse } from "./rehearse.js";
import { surveyModel } from "./survey.js";
import { createTurn } from "./turn.js";
import { judge } from "./verdict.js";

/**
 * @typedef {object} Preflight
 * @property {number} downloadBytes bytes of the model that are not on this device
 * @property {number} memoryBytes what `engine.info.memoryBytes` would be
 * @property {boolean} fits whether memory and, unless nothing is kept, storage suffice
 * @property {number} tokensPerSecond of an answer in a short conversation, about
 * @property {string[]} why what was found, in words; and what does not fit, and what to choose instead
 * @property {number} contextLength tokens that the figures are for
 * @property {import("./verdict.js").Instead | null} instead options of `load` that would fit; null where there is nothing to
 *   change, or nothing is known
 *
 * @typedef {object} WasmPreflight (`src/wasm/preflight.rs`)
 * @property {(chunk: Uint8Array) => boolean} feed
 * @property {(contextLength?: number) => string} footprint
 * @property {() => number} rehearse
 * @property {() => void} step
 * @property {() => void} free
 */

const PAGE = 64 << 10;
/** Contexts that are proposed where a longer one does not fit. */
const CONTEXTS = [32768, 16384, 8192, 4096, 2048, 1024, 512, 256];

/**
 * @param {import("./protocol.js").PreflightArgs} args
 * @param {object} around
 * @param {Promise<import("./build.js").OpenBuild>} around.opened
 * @param {import("./survey.js").SurveyContext} around.context
 * @returns {Promise<Preflight>}
 */
export async function preflight({ source, contextLength }, { opened, context }) {
  const { signal, store } = context;
  const [{ wasm, memory, choice }, surveyed] = await Promise.all([opened, surveyModel(source, context)]);
  // What the engine takes before it has a model: its code's data, and the stacks of its threads.
  const own = memory.buffer.byteLength;
  const engine = new wasm.Preflight(JSON.stringify({ ...surveyed.spec, context_length: contextLength }));
  for await (const chunk of surveyed.header ?? []) if (engine.feed(chunk)) break;
  /** @param {number} [length] @returns {import("./verdict.js").Footprint} */
  const footprint = (length) => {
    const found = JSON.parse(engine.footprint(length));
    return {
      contextLength: found.context_length, weights: found.weight_bytes, cache: found.cache_bytes, peak: own + found.peak_bytes,
    };
  };
  const asked = footprint();
  const tokensPerSecond = await rehearse(engine, { turn: stoppable(signal) });
  const verdict = judge({
    model: source.kind === "pack" ? source.name ?? "" : "", ...surveyed, asked,
    shorter: CONTEXTS.filter((length) => length < asked.contextLength).map(footprint),
    grows: (bytes) => grows(memory, bytes),
    deviceMemory: /** @type {any} */ (globalThis.navigator)?.deviceMemory,
    ...await storageOf(source, store),
    speed: `speed: about ${tokensPerSecond < 10 ? tokensPerSecond.toFixed(1) : Math.round(tokensPerSecond)} tokens a second on ${
      choice.threads} ${choice.threads === 1 ? "thread" : "threads"}`,
  });
  return {
    downloadBytes: surveyed.lackingBytes, memoryBytes: asked.peak, tokensPerSecond, contextLength: asked.contextLength, ...verdict,
  };
}

/** Whether a memory can have so many bytes: it is asked. @param {WebAssembly.Memory} memory @param {number} bytes */
function grows(memory, bytes) {
  const pages = Math.ceil((bytes - memory.buffer.byteLength) / PAGE);
  try {
    if (pages > 0) memory.grow(pages);
    return true;
  } catch {
    return false;
  }
}

/**
 * @param {import("./protocol.js").ModelSource} source
 * @param {import("./store.js").ModelStore | null} store
 * @returns {Promise<{ room?: number, heldBytes: number }>}
 */
async function storageOf(source, store) {
  if (!store || source.kind === "blobs") return { heldBytes: 0 };
  const held = (await store.list()).filter(({ key }) => key !== store.model(modelUrl(source)).name);
  /** @type {StorageEstimate} */
  const { quota, usage = 0 } = await navigator.storage.estimate?.().catch(() => ({})) ?? {};
  return {
    ...(quota !== undefined && { room: Math.max(0, quota - usage) }),
    heldBytes: held.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** @param {AbortSignal} signal */
function stoppable(signal) {
  const turn = createTurn();
  return async () => {
    await turn();
    throwIfAborted(signal, "the preflight");
  };
}
