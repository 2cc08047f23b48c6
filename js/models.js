/**
 * Known models, and what a model argument means. The registry's models are packs in `models/<id>/`
 * beside the package, so a built site can be moved anywhere as a whole.
 */
import { SmolLMError } from "./errors.js";
import { MANIFEST } from "./pack.js";

/**
 * @typedef {object} RegistryModel
 * @property {string} id
 * @property {string} label
 * @property {string} licence of the weights
 * @property {number} bytes of download, about; what its manifest says counts
 * @property {number} memoryBytes of the engine with it, on one thread and unless another context is asked for, about
 */

/** @type {readonly RegistryModel[]} */
export const REGISTRY = Object.freeze([
  {
    id: "smollm2-135m-instruct",
    label: "SmolLM2 135M Instruct",
    licence: "Apache-2.0",
    bytes: 67_500_000,
    memoryBytes: 143_000_000,
  },
]);

/**
 * @typedef {object} SiteOptions
 * @property {string | URL} [assetsUrl] the package's folder, where a bundler moved it
 * @property {string | URL} [modelsUrl] the folder that registry ids are relative to
 * @property {import("./hub.js").HubOptions} [hub] where ids like `HuggingFaceTB/SmolLM2-135M-Instruct` are looked for, and how
 *
 * @param {SiteOptions} [options]
 * @returns {{ assets: URL, modelsUrl: string, baseUrl: string, hub?: import("./hub.js").HubOptions }}
 */
export function locate({ assetsUrl, modelsUrl, hub } = {}) {
  const baseUrl = globalThis.document?.baseURI ?? globalThis.location?.href ?? import.meta.url;
  const assets = folder(assetsUrl ?? "./", assetsUrl ? baseUrl : import.meta.url);
  return { assets, modelsUrl: folder(modelsUrl ?? "../models/", modelsUrl ? baseUrl : assets).href, baseUrl, hub };
}

/** @param {string | URL} url @param {string | URL} base */
function folder(url, base) {
  const found = new URL(url, base);
  if (!found.pathname.endsWith("/")) found.pathname += "/";
  return found;
}

const HUB = "https://huggingface.co";

/** `owner/name`, as hubs name models; a folder beside the page is `./owner/name`, or has a slash at its end. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;

/**
 * A model argument as a plain description of where its bytes are: a registry id, a hub's id
 * (`HuggingFaceTB/SmolLM2-135M-Instruct`), the URL of a `.gguf` file, the URL of a pack or of the
 * `manifest.json` in it, the URL of a checkpoint directory (`config.json`, `tokenizer.json`,
 * `model.safetensors`, …), a File or Blob holding a GGUF, or the Files of a pack or of a checkpoint directory.
 *
 * @param {unknown} model
 * @param {{ modelsUrl: string, baseUrl: string, hub?: import("./hub.js").HubOptions }} where absolute URLs: the
 *   registry's folder, and what relative URLs are relative to
 * @returns {import("./protocol.js").ModelSource}
 */
export function resolveModel(model, { modelsUrl, baseUrl, hub = {} }) {
  if (model instanceof Blob) return { kind: "blobs", files: [{ name: nameOf(model), blob: model }] };
  if (Array.isArray(model) && model.length > 0 && model.every((m) => m instanceof Blob)) {
    return { kind: "blobs", files: model.map((blob) => ({ name: nameOf(blob), blob })) };
  }
  if (model instanceof URL) model = model.href;
  if (typeof model !== "string" || model.trim() === "") {
    throw new SmolLMError("invalid_argument",
      "model: expected a registry id, a URL, a File or an array of Files");
  }

  const known = REGISTRY.find(({ id }) => id === model);
  if (known) {
    return { kind: "pack", name: known.id, url: new URL(`${known.id}/`, modelsUrl).href };
  }
  // A bare word is a misspelt id far more often than a folder beside the page.
  if (!/[/.:]/.test(model)) {
    throw new SmolLMError("invalid_argument",
      `model "${model}": no such id (known: ${REGISTRY.map(({ id }) => id).join(", ")})`);
  }
  if (HUB_ID.test(model) && !/\.(gguf|json)$/i.test(model)) {
    const { endpoint = HUB, revision = "main", token, file } = hub;
    return { kind: "hub", repo: model, endpoint: new URL(endpoint, baseUrl).href.replace(/\/+$/, ""), revision, token, file };
  }
  const url = URL.parse?.(model, baseUrl) ?? tryUrl(model, baseUrl);
  if (!url || !/^(https?|blob|data|file|[a-z-]+-extension):$/.test(url.protocol)) {
    throw new SmolLMError("invalid_argument", `model "${model}": not a usable URL`);
  }
  if (/\.gguf$/i.test(url.pathname)) {
    return { kind: "gguf", file: { name: fileName(url.pathname), url: url.href } };
  }
  if (url.pathname.endsWith(`/${MANIFEST}`)) {
    url.pathname = url.pathname.slice(0, -MANIFEST.length);
    return { kind: "pack", url: url.href };
  }
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return { kind: "directory", url: url.href };
}

/**
 * The address under which a model is known on this device.
 * @param {Exclude<import("./protocol.js").ModelSource, { kind: "blobs" }>} source @returns {string}
 */
export function modelUrl(source) {
  if (source.kind === "hub") return hubFolder(source);
  return source.kind === "gguf" ? source.base ?? source.file.url : source.url;
}

/** @param {import("./hub.js").HubSource} source @returns {string} the folder of the model's files */
export function hubFolder({ endpoint, repo, revision }) {
  return `${endpoint}/${repo}/resolve/${encodeURIComponent(revision)}/`;
}

/** @param {string} model @param {string} base */
function tryUrl(model, base) {
  try {
    return new URL(model, base);
  } catch {
    return null;
  }
}

/** @param {Blob} blob */
function nameOf(blob) {
  const name = /** @type {Partial<File>} */ (blob).name;
  return name ? fileName(name) : "model.gguf";
}

/** @param {string} path */
function fileName(path) {
  const last = path.slice(path.lastIndexOf("/") + 1);
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}
