/** Models by their id on a model hub, `owner/name`: which of its files to load, and where they are. */
import { downloadText } from "./download.js";
import { SmolLMError } from "./errors.js";
import { hubFolder } from "./models.js";
import { MANIFEST } from "./pack.js";

/**
 * @typedef {object} HubOptions
 * @property {string | URL} [endpoint] the hub, `https://huggingface.co` without it
 * @property {string} [token] for models that are not public; sent to the hub alone
 * @property {string} [revision] branch, tag or commit, `main` without it
 * @property {string} [file] the `.gguf` file to take where there are several
 *
 * @typedef {{ kind: "hub", repo: string, endpoint: string, revision: string, token?: string, file?: string }} HubSource
 * @typedef {Exclude<import("./protocol.js").ModelSource, HubSource>} PlainSource
 *
 * @typedef {{ type: string, path: string, size: number, lfs?: { oid: string } }} TreeEntry
 */

/** Of several GGUF files, the first of these: smallest where the engine is fastest, then as good as can be. */
const QUANTIZATIONS = ["q4_1", "q4_0", "q4_k_m", "q4_k_s", "q5_k_m", "q5_1", "q5_0", "q6_k", "q8_0", "f16", "bf16", "f32"];

/**
 * Asks the hub for the list of files. It is kept, so that a model that is here loads without the hub.
 *
 * @param {HubSource} source
 * @param {import("./loader.js").LoadContext} context
 * @returns {Promise<{ found: PlainSource, headers: Record<string, string> }>} `headers`: to send when asking for the files
 */
export async function resolveHub(source, { store, signal, log, stallMs }) {
  const { endpoint, repo, revision, token } = source;
  /** @type {Record<string, string>} */
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const url = `${endpoint}/api/models/${repo}/tree/${encodeURIComponent(revision)}?recursive=true`;
  const folder = hubFolder(source);
  const stored = await store?.model(folder).get(url);
  const kept = await stored?.file.text() ?? "";
  let text = kept;
  try {
    text = String(await downloadText(url, { name: repo, kind: "json", signal, headers, stallMs, ...(stored && { retries: 0 }) }));
    if (text !== kept) {
      await store?.model(folder).put(url, new TextEncoder().encode(text), "")
        .catch((/** @type {unknown} */ error) => log.debug("the list of files is not kept", error));
    }
  } catch (thrown) {
    const error = /** @type {SmolLMError} */ (thrown);
    if (error.code === "http_status" && /status 40[134]\b/.test(error.message)) {
      throw new SmolLMError("http_status", `${error.message}: there is no such model, or it takes ${token ? "another" : "a"} token to read it`, { cause: error });
    }
    if (!stored || error.code !== "network") throw error;
    log.warn(`${repo}: the list of its files is taken from this device`, error);
  }
  return { found: choose(source, readTree(text, repo)), headers };
}

/** @param {string} text @param {string} repo @returns {TreeEntry[]} */
function readTree(text, repo) {
  try {
    const list = JSON.parse(text);
    if (Array.isArray(list)) return list.filter((entry) => entry?.type === "file" && typeof entry.path === "string");
  } catch {
    // Said below.
  }
  throw new SmolLMError("not_a_model", `${repo}: the hub's list of files cannot be read`);
}

/**
 * A pack, else a checkpoint, else a GGUF file; the hub's SHA-256 of large files goes along.
 * @param {HubSource} source @param {TreeEntry[]} tree @returns {PlainSource}
 */
function choose(source, tree) {
  const { repo, file } = source;
  const url = hubFolder(source);
  const has = (/** @type {string} */ path) => tree.some((entry) => entry.path === path);
  /** @param {TreeEntry} entry */
  const remote = ({ path, size, lfs }) => ({
    name: path.slice(path.lastIndexOf("/") + 1), url: new URL(path.split("/").map(encodeURIComponent).join("/"), url).href,
    bytes: size, ...(/^[0-9a-f]{64}$/.test(lfs?.oid ?? "") && { sha256: lfs?.oid }),
  });
  if (!file) {
    if (has(MANIFEST)) return { kind: "pack", name: repo, url };
    if (has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json"))) {
      return { kind: "directory", url, files: tree.filter(({ path }) => /^[^/]+\.safetensors$/.test(path)).map(remote) };
    }
  }
  const gguf = tree.filter(({ path }) => /\.gguf$/i.test(path));
  const rank = (/** @type {TreeEntry} */ { path }) => {
    const at = QUANTIZATIONS.findIndex((name) => path.toLowerCase().includes(name));
    return at < 0 ? QUANTIZATIONS.length : at;
  };
  const chosen = file ? gguf.find(({ path }) => path === file) : gguf.sort((a, b) => rank(a) - rank(b))[0];
  if (chosen) return { kind: "gguf", file: remote(chosen), base: url };
  throw new SmolLMError("not_a_model", file ? `${repo}: has no file ${file}`
    : `${repo}: has neither a ${MANIFEST}, nor config.json and model.safetensors, nor a .gguf file`);
}
