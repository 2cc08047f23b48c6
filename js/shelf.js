/**
 * Where a model's files come from: a server, by way of this device's storage, or the visitor's own files.
 */
import { SmolLMError, throwIfAborted } from "./errors.js";
import { download, downloadText } from "./download.js";
import { sha256Hex } from "./hash.js";
import { MANIFEST } from "./pack.js";
import { SNIFF_BYTES, checkContent, kindOf } from "./sniff.js";

/**
 * @typedef {object} OpenFile
 * @property {number} total bytes, 0 while unknown
 * @property {boolean} cached
 * @property {AsyncIterable<Uint8Array>} chunks
 *
 * @typedef {object} Watch told how a whole file comes
 * @property {(bytes: number, cached: boolean) => void} bytes more of them are here
 * @property {() => void} verify the last one is, and the hash is compared
 *
 * @typedef {object} Shelf
 * @property {(name: string, optional: boolean) => Promise<string | null>} text
 * @property {(file: import("./protocol.js").RemoteFile, phase: (phase: "verify") => void) => Promise<OpenFile>} open
 * @property {(optional: boolean) => Promise<string | null>} manifest of a pack
 * @property {(manifest: string) => Promise<void>} keepManifest once it has proved good
 * @property {(file: import("./pack.js").PackFile, signal: AbortSignal, watch: Watch) => Promise<Uint8Array<ArrayBuffer>>} whole
 *   a file of a pack, its hash compared
 * @property {() => Promise<void>} forget deletes the stored copies of what was opened
 */

/** Big enough that crossing into wasm costs nothing, small enough that an abort is seen at once. */
const CHUNK = 1 << 20;

/** @implements {Shelf} */
export class UrlShelf {
  /** @type {string[]} */
  #opened = [];
  /** The manifest as it is stored. */
  #kept = "";

  /** @param {string} base directory URL, or "" @param {import("./loader.js").LoadContext} context */
  constructor(base, context) {
    this.base = base;
    this.context = context;
  }

  /** @param {string} name @param {boolean} optional */
  text(name, optional) {
    const { signal } = this.context;
    return downloadText(this.#url(name), { name, kind: kindOf(name), optional, signal });
  }

  /**
   * @param {import("./protocol.js").RemoteFile} file
   * @param {(phase: "verify") => void} phase
   * @returns {Promise<OpenFile>}
   */
  async open(file, phase) {
    const { store, signal, log } = this.context;
    const url = file.url || this.#url(file.name);
    this.#opened.push(url);
    const stored = await store?.get(url);
    if (stored) {
      if (await this.#current(stored.record, file)) {
        return { total: stored.file.size, cached: true, chunks: blobChunks(stored.file) };
      }
      await store?.delete(url);
    }
    const { total, etag, body } = await download(url, {
      name: file.name, kind: kindOf(file.name), bytes: file.bytes, sha256: file.sha256, signal,
      onRetry: ({ attempt, offset, error }) => log.warn(`${file.name}: going on at byte ${offset}, attempt ${attempt}`, error.message),
      onVerify: () => phase("verify"),
    });
    return { total, cached: false, chunks: this.#storing(body, url, etag) };
  }

  /**
   * The server's manifest decides; a server that cannot be reached leaves us the one we have.
   * @param {boolean} optional
   */
  async manifest(optional) {
    const { store, signal, log } = this.context;
    const url = this.#url(MANIFEST);
    const stored = await store?.get(url);
    this.#kept = await stored?.file.text() ?? "";
    try {
      return await downloadText(url, { name: MANIFEST, kind: "json", optional, signal, ...(stored && { retries: 0 }) });
    } catch (error) {
      if (!stored || /** @type {any} */ (error).code !== "network") throw error;
      log.warn(`${MANIFEST}: taken from this device`, error);
      return this.#kept;
    }
  }

  /** @param {string} manifest */
  async keepManifest(manifest) {
    if (manifest !== this.#kept) await this.#put(this.#url(MANIFEST), new TextEncoder().encode(manifest), "");
  }

  /**
   * @param {import("./pack.js").PackFile} file
   * @param {AbortSignal} signal
   * @param {Watch} watch
   */
  async whole(file, signal, watch) {
    const { store, log } = this.context;
    const { name, bytes, sha256 } = file;
    const url = this.#url(name);
    // The record says which hash was right when it was written; what matters is what is there now.
    const stored = await store?.get(url);
    if (stored && stored.record.etag === sha256) {
      const content = new Uint8Array(await stored.file.arrayBuffer());
      if (await sha256Hex(content) === sha256) {
        watch.bytes(content.length, true);
        return content;
      }
      log.warn(`${name}: damaged on this device, and downloaded again`);
    }
    if (stored) await store?.delete(url);

    const { body } = await download(url, {
      name, kind: "data", bytes, signal,
      onRetry: ({ attempt, offset, error }) => log.warn(`${name}: going on at byte ${offset}, attempt ${attempt}`, error.message),
    });
    const content = new Uint8Array(bytes);
    let at = 0;
    for await (const chunk of body) {
      if (at + chunk.length > bytes) throw new SmolLMError("integrity", `${name}: more than the ${bytes} bytes expected`);
      content.set(chunk, at);
      at += chunk.length;
      watch.bytes(chunk.length, false);
    }
    watch.verify();
    const found = await sha256Hex(content);
    if (found !== sha256) throw new SmolLMError("integrity", `${name}: sha-256 is ${found}, expected ${sha256}`);
    await this.#put(url, content, sha256);
    return content;
  }

  /** Storage that fails costs the copy, not the model. @param {string} url @param {Uint8Array<ArrayBuffer>} content @param {string} etag */
  async #put(url, content, etag) {
    const { store, log } = this.context;
    try {
      await store?.put(url, content, etag);
    } catch (error) {
      log.warn("the model is not kept on this device", error);
    }
  }

  /** A signed directory URL carries its signature in the query. @param {string} name */
  #url(name) {
    const url = new URL(name, this.base);
    url.search = new URL(this.base).search;
    return url.href;
  }

  async forget() {
    for (const url of this.#opened) await this.context.store?.delete(url);
  }

  /**
   * Whether a stored file is still the server's. Files pinned by hash are; of others the server is
   * asked for the validator alone, and a server that cannot be reached leaves us what we have.
   *
   * @param {import("./store.js").StoredRecord} record
   * @param {import("./protocol.js").RemoteFile} file
   */
  async #current(record, file) {
    if (file.sha256) return !file.bytes || record.bytes === file.bytes;
    try {
      const response = await fetch(record.url, { method: "HEAD", cache: "no-store", signal: this.context.signal });
      if (!response.ok) return true;
      const etag = response.headers.get("etag") || response.headers.get("last-modified") || "";
      const length = response.headers.has("content-encoding") ? 0 : Number(response.headers.get("content-length"));
      return (!etag || etag === record.etag) && (!length || length === record.bytes);
    } catch {
      throwIfAborted(this.context.signal, `loading ${file.name}`);
      return true;
    }
  }

  /**
   * Passes chunks on and stores them on the way; storage that fails (full, denied, held by another
   * tab) costs the copy, not the download.
   *
   * @param {AsyncIterable<Uint8Array>} body
   * @param {string} url
   * @param {string} etag
   */
  async *#storing(body, url, etag) {
    const { store, log } = this.context;
    /** @type {import("./store.js").StoreWriter | null} */
    let writer = null;
    const giveUp = async (/** @type {unknown} */ error) => {
      log.warn("the model is not kept on this device", error);
      const failed = writer;
      writer = null;
      await failed?.discard().catch(() => {});
    };
    try {
      writer = (await store?.writer(url)) ?? null;
    } catch (error) {
      await giveUp(error);
    }
    let whole = false;
    try {
      for await (const chunk of body) {
        try {
          writer?.write(/** @type {Uint8Array<ArrayBuffer>} */ (chunk));
        } catch (error) {
          await giveUp(error);
        }
        yield chunk;
      }
      whole = true;
    } finally {
      if (whole) await writer?.commit(etag).catch(giveUp);
      else await writer?.discard().catch(() => {});
    }
  }
}

/** @implements {Shelf} */
export class BlobShelf {
  /** @param {{ name: string, blob: Blob }[]} files */
  constructor(files) {
    this.files = files;
  }

  /** @param {string} name @param {boolean} optional */
  async text(name, optional) {
    const found = this.#find(name);
    if (!found && optional) return null;
    return (await this.#require(name, found)).text();
  }

  /** @param {{ name: string }} file @returns {Promise<OpenFile>} */
  async open({ name }) {
    const blob = await this.#require(name, this.#find(name));
    checkContent(new Uint8Array(await blob.slice(0, SNIFF_BYTES).arrayBuffer()), kindOf(name), name);
    return { total: blob.size, cached: true, chunks: blobChunks(blob) };
  }

  /** @param {boolean} optional */
  manifest(optional) {
    return this.text(MANIFEST, optional);
  }

  async keepManifest() {}

  /**
   * @param {import("./pack.js").PackFile} file
   * @param {AbortSignal} _signal
   * @param {Watch} watch
   */
  async whole({ name, sha256 }, _signal, watch) {
    const blob = await this.#require(name, this.#find(name));
    const content = new Uint8Array(await blob.arrayBuffer());
    const found = await sha256Hex(content);
    if (found !== sha256) throw new SmolLMError("integrity", `${name}: sha-256 is ${found}, expected ${sha256}`);
    watch.bytes(content.length, true);
    return content;
  }

  async forget() {}

  /** @param {string} name */
  #find(name) {
    return this.files.find((file) => file.name === name)?.blob;
  }

  /** @param {string} name @param {Blob | undefined} blob */
  async #require(name, blob) {
    if (blob) return blob;
    const given = this.files.map((file) => file.name).join(", ");
    throw new SmolLMError("not_a_model", `${name}: not among the files given (${given})`);
  }
}

/** @param {Blob} blob */
async function* blobChunks(blob) {
  for (let at = 0; at < blob.size; at += CHUNK) {
    yield new Uint8Array(await blob.slice(at, at + CHUNK).arrayBuffer());
  }
}
