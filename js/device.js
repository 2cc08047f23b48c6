/** What this device holds of models, asked and changed by a page: `SmolLM.models`. */
import { SmolLMError, throwIfAborted } from "./errors.js";
import { WorkerLink } from "./link.js";
import { createLogger, defaultLogLevel } from "./log.js";
import { REGISTRY, locate, modelUrl, resolveModel } from "./models.js";
import { checkOptions } from "./options.js";
import { ModelStore } from "./store.js";

/**
 * @typedef {import("./models.js").SiteOptions} SiteOptions
 *
 * @typedef {Pick<import("./client.js").LoadOptions, "signal" | "threads" | "contextLength" | "cache" | "stallMs" | "assetsUrl"
 *   | "modelsUrl" | "hub" | "logLevel" | "logger" | "workerFactory" | "kernel">} PreflightOptions those of `load` that make a difference
 *
 * @typedef {import("./models.js").RegistryModel & { cached: boolean }} KnownModel `cached`: whether it is whole on this device
 *
 * @typedef {object} HeldModel
 * @property {string | null} id in the registry
 * @property {string} name in its own metadata, or the registry's id; "" of one that was never loaded to its end
 * @property {string} url
 * @property {number} bytes on this device
 * @property {boolean} whole whether all of it is here; a part is gone on with
 * @property {Date | null} used when it was last loaded
 *
 * @typedef {object} StorageUsage
 * @property {number} usage bytes that this site takes, models and everything else
 * @property {number} quota bytes that it may take
 * @property {boolean} persisted whether the browser keeps them until the visitor deletes them
 * @property {HeldModel[]} models the least recently used first
 */

const silent = createLogger("silent");

/** @param {string} id @param {SiteOptions} [options] */
const urlOf = (id, options) => {
  const source = resolveModel(id, locate(options));
  if (source.kind === "blobs") throw new SmolLMError("invalid_argument", "model: files are not kept on this device");
  return modelUrl(source);
};

export const deviceModels = Object.freeze({
  /**
   * The registry's models.
   * @param {SiteOptions} [options] as given to `load`
   * @returns {Promise<KnownModel[]>}
   */
  async list(options) {
    const held = await (await ModelStore.open(silent))?.list() ?? [];
    return REGISTRY.map((model) => ({
      ...model, cached: held.some(({ url, whole }) => whole && url === urlOf(model.id, options)),
    }));
  },

  /**
   * What loading a model would take: bytes of download and of memory, and how fast it would answer. Fetches the manifest of a
   * pack, the header of a `.gguf` file or a checkpoint's config, and runs the engine on a stand-in for less than a second.
   *
   * @param {import("./client.js").ModelArgument} model as given to `load`
   * @param {PreflightOptions} [options] as given to `load`
   * @returns {Promise<import("./preflight.js").Preflight>} rejects with what `load` would reject with at once
   */
  async preflight(model, options = {}) {
    checkOptions(options);
    throwIfAborted(options.signal, "the preflight");
    const where = locate(options);
    const source = resolveModel(model, where);
    const { cache = "auto", threads = "auto", stallMs, contextLength, kernel, logLevel = defaultLogLevel() } = options;
    const worker = WorkerLink.open(options, createLogger(logLevel, options.logger));
    try {
      return await worker.call("preflight", {
        source, pkgUrl: new URL("pkg/", where.assets).href, cache, threads, stallMs, contextLength, kernel, logLevel,
      }, { signal: options.signal, what: "the preflight" });
    } finally {
      worker.end(new SmolLMError("engine_lost", "the preflight is over"));
    }
  },

  /**
   * Deletes what this device holds of a model. An engine that runs goes on.
   * @param {string | URL} model as given to `load`
   * @param {SiteOptions} [options]
   * @returns {Promise<boolean>} whether there was something; rejects with `busy` while a tab downloads it
   */
  async delete(model, options) {
    const url = urlOf(/** @type {string} */ (model), options);
    try {
      return await (await ModelStore.open(silent))?.delete(url) ?? false;
    } catch (cause) {
      throw new SmolLMError("busy", `${model}: is being downloaded`, { cause });
    }
  },

  /**
   * What all models take, this one's site and its other data included.
   * @param {SiteOptions} [options]
   * @returns {Promise<StorageUsage>}
   */
  async usage(options) {
    const storage = globalThis.navigator?.storage;
    /** @type {StorageEstimate} */
    const { usage = 0, quota = 0 } = await storage?.estimate?.().catch(() => ({})) ?? {};
    const held = await (await ModelStore.open(silent))?.list() ?? [];
    return {
      usage, quota, persisted: await storage?.persisted?.().catch(() => false) ?? false,
      models: held.map(({ url, name, bytes, whole, used }) => ({
        id: REGISTRY.find(({ id }) => urlOf(id, options) === url)?.id ?? null,
        name, url, bytes, whole, used: used ? new Date(used) : null,
      })),
    };
  },

  /**
   * Asks the browser not to delete this site's storage when the device runs short. Some ask the visitor.
   * @returns {Promise<boolean>} whether it agreed
   */
  async persist() {
    const storage = globalThis.navigator?.storage;
    if (await storage?.persisted?.().catch(() => false)) return true;
    return await storage?.persist?.().catch(() => false) ?? false;
  },
});
