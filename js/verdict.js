/** Whether a model fits on this device, and what to choose where it does not, out of figures and in words. */
import { REGISTRY } from "./models.js";

/**
 * @typedef {object} Footprint bytes of memory, as the engine tells them (`src/survey.rs`) with its own on top
 * @property {number} contextLength
 * @property {number} weights
 * @property {number} cache keys and values of the context
 * @property {number} peak of the engine's whole memory
 *
 * @typedef {object} Found
 * @property {string} model its id in the registry, or ""
 * @property {number} totalBytes of the model's files
 * @property {number} lackingBytes those of them that are not on this device
 * @property {Footprint} asked with the context that is wanted
 * @property {Footprint[]} shorter with shorter ones, the longest first
 * @property {(bytes: number) => boolean} grows whether the engine's memory can have so many bytes here
 * @property {number} [deviceMemory] of the device, in GiB, as `navigator.deviceMemory` rounds it
 * @property {number} [room] bytes that storage has left; absent where nothing is to be kept, or the browser does not say
 * @property {number} heldBytes what other models take of storage
 * @property {string} speed in words
 *
 * @typedef {{ contextLength?: number, model?: string, cache?: "none" }} Instead options of `load` that would fit; `model` its first argument
 * @typedef {{ fits: boolean, why: string[], instead: Instead | null }} Verdict
 */

/** Browsers end a tab that takes much more of a device's memory than this. */
const SHARE_OF_DEVICE = 0.5;

const MOST_OF_WASM = 2 ** 32;

/** @param {Found} found @returns {Verdict} */
export function judge(found) {
  const { asked, shorter, deviceMemory, totalBytes, lackingBytes } = found;
  const most = deviceMemory ? deviceMemory * 2 ** 30 * SHARE_OF_DEVICE : Infinity;
  const fits = (/** @type {Footprint} */ { peak }) => peak <= most && found.grows(peak);
  const rest = asked.peak - asked.weights - asked.cache;
  const why = [
    lackingBytes === 0 ? `download: nothing, all of it (${size(totalBytes)}) is on this device`
      : lackingBytes < totalBytes ? `download: ${size(lackingBytes)} of ${size(totalBytes)}, the rest is on this device`
        : `download: ${size(totalBytes)}`,
    `memory: ${size(asked.peak)}, of which weights ${size(asked.weights)}, a context of ${count(asked.contextLength)} tokens `
      + `${size(asked.cache)}, everything else ${size(Math.max(0, rest))}`,
    found.speed,
  ];
  /** @type {Instead} */
  const instead = {};
  const roomy = fits(asked);
  if (!roomy) {
    why.push(`does not fit: ${asked.peak > MOST_OF_WASM ? "WebAssembly has at most 4 GiB"
      : asked.peak > most ? `this device has about ${deviceMemory} GiB of memory, of which a page gets about half`
        : `the browser gives the engine no ${size(asked.peak)}`}`);
    const context = shorter.find(fits);
    const model = smaller(found, most);
    if (context) {
      instead.contextLength = context.contextLength;
      why.push(`choose contextLength: ${context.contextLength}, which takes ${size(context.peak)}`);
    } else if (model) {
      instead.model = model.id;
      why.push(`choose the model ${model.id} (${model.label}), which takes ${size(model.memoryBytes)}`);
    } else {
      why.push("choose a smaller model, or one with fewer bits a weight");
    }
  }
  const lacking = found.room === undefined ? 0 : lackingBytes - found.room;
  if (lacking > 0) {
    const others = found.heldBytes > 0 ? `, or delete other models (SmolLM.models.usage() says which: ${size(found.heldBytes)})` : "";
    instead.cache = "none";
    why.push(`cannot be kept: storage lacks ${size(lacking)}; choose cache: "none" to run it from memory${others}`);
  }
  return { fits: roomy && lacking <= 0, why, instead: Object.keys(instead).length > 0 ? instead : null };
}

/** The largest model of the registry that takes less. @param {Found} found @param {number} most bytes of memory */
function smaller({ model, asked }, most) {
  return REGISTRY.filter(({ id, memoryBytes }) => id !== model && memoryBytes < asked.peak && memoryBytes <= most)
    .sort((a, b) => b.memoryBytes - a.memoryBytes)[0];
}

/** @param {number} bytes */
function size(bytes) {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/** @param {number} n */
function count(n) {
  return n.toLocaleString("en");
}
