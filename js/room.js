/** Whether a model fits on this device, asked before it is downloaded, and what is done where it does not. */
import { SmolLMError } from "./errors.js";

/**
 * What happens where the model does not fit on this device:
 * `memory`, it is loaded and not kept; `error`, the loading fails with `storage_full`; `evict`, other models are deleted,
 * the least recently used first, and where even that is not enough it is not kept.
 * @typedef {"memory" | "error" | "evict"} WhenFull
 */

/** @type {readonly WhenFull[]} */
export const WHEN_FULL = Object.freeze(["memory", "error", "evict"]);

/**
 * @param {import("./store.js").ModelStore} store
 * @param {import("./stored-model.js").StoredModel} model
 * @param {{ bytes: number, whenFull: WhenFull, log: import("./log.js").Logger }} wanted `bytes`: of the whole model
 * @returns {Promise<string>} why there is no room, or "" where there is
 */
export async function makeRoom(store, model, { bytes, whenFull, log }) {
  let lacking = await missingBytes(model, bytes);
  if (lacking <= 0) return "";
  if (whenFull === "evict") {
    for (const gone of await store.evict(lacking, model.url)) {
      log.info(`${gone.name || gone.url || "an unfinished model"}: deleted from this device, to make room for another (${gone.bytes} bytes)`);
    }
    lacking = await missingBytes(model, bytes);
    if (lacking <= 0) return "";
  }
  const why = `its storage has no room for ${megabytes(bytes)}, ${megabytes(lacking)} are lacking`;
  if (whenFull === "error") throw new SmolLMError("storage_full", `${model.url}: this device cannot keep the model: ${why}`);
  return why;
}

/** @param {import("./stored-model.js").StoredModel} model @param {number} bytes */
async function missingBytes(model, bytes) {
  if (typeof globalThis.navigator?.storage?.estimate !== "function") return 0;
  const here = await model.bytes();
  if (here >= bytes) return 0;
  // Who does not say is believed to have room; writing shows.
  /** @type {StorageEstimate} */
  const { quota = Infinity, usage = 0 } = await navigator.storage.estimate().catch(() => ({}));
  return bytes - here - Math.max(0, quota - usage);
}

/** @param {number} bytes */
function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
