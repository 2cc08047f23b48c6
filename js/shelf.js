/**
 * A model's files on a server, by way of this device's storage: what is here and right is taken from here, the rest is
 * fetched, and kept as it comes.
 */
import { blobChunks } from "./blob-shelf.js";
import { downloadText } from "./download.js";
import { SmolLMError, throwIfAborted } from "./errors.js";
import { sha256Hex } from "./hash.js";
import { MANIFEST } from "./pack.js";
import { BLOCK } from "./partial.js";
import { fetchRange, openInPieces } from "./pieces.js";
import { makeRoom } from "./room.js";
import { Sha256 } from "./sha256.js";
import { kindOf } from "./sniff.js";
import { takeTurn } from "./turns.js";

/**
 * @typedef {import("./protocol.js").RemoteFile} RemoteFile
 * @typedef {import("./stored-model.js").StoredModel} StoredModel
 * @typedef {import("./partial.js").Partial} Partial
 * @typedef {(position: number, cached: boolean) => void} At told how far a file is
 *
 * @typedef {object} OpenFile
 * @property {boolean} cached
 * @property {AsyncIterable<Uint8Array<ArrayBuffer>>} chunks
 *
 * @typedef {object} Shelf where a model's files come from
 * @property {string} notStored why the next visit will not find them on this device; "" where it will
 * @property {(name: string, optional: boolean) => Promise<string | null>} text
 * @property {(file: RemoteFile, consume: (file: OpenFile) => Promise<void>) => Promise<void>} read
 * @property {(optional: boolean) => Promise<string | null>} manifest of a pack
 * @property {(file: import("./pack.js").PackFile, signal: AbortSignal) => Promise<Uint8Array<ArrayBuffer>>} whole
 *   a file of a pack, its hash compared
 * @property {(bytes: number) => Promise<void>} reserve asks for room, once it is known how much the files take
 * @property {(what: { name: string, manifest?: string }) => Promise<void>} keep notes that the model is whole and good
 * @property {() => Promise<void>} forget deletes the stored copies of what was read
 */

/** @implements {Shelf} */
export class UrlShelf {
  notStored = "";
  /** Where files are kept; null where they are not. @type {StoredModel | null} */
  #model;
  /** @type {string[]} */
  #opened = [];
  /** The manifest as it is stored. */
  #kept = "";
  /** Whether a write failed for want of room: some browsers do not say beforehand how much there is. */
  #full = false;
  /** Bytes that the files take. */
  #total = 0;

  /**
   * @param {string} base directory URL, or the address of the one file that is the model
   * @param {import("./loader.js").LoadContext} context
   * @param {import("./meter.js").Meter} meter
   */
  constructor(base, context, meter) {
    this.base = base;
    this.context = context;
    this.meter = meter;
    this.#model = context.store?.model(base) ?? null;
    if (!this.#model) this.notStored = "this browser or window has no storage for models, or it is switched off";
  }

  /** @param {string} name @param {boolean} optional */
  text(name, optional) {
    return downloadText(this.url(name), { ...this.#options({ name }), kind: kindOf(name), optional });
  }

  /**
   * @param {RemoteFile} file
   * @param {(file: OpenFile) => Promise<void>} consume
   */
  async read(file, consume) {
    const url = file.url || this.url(file.name);
    this.#opened.push(url);
    if (await this.#readStored(url, file, consume)) return;
    await this.#inTurn(url, file.name, this.context.signal, async (model, at) => {
      // Another tab may have been first.
      if (await this.#readStored(url, file, consume)) return;
      // How much it takes is known only from the server's answer; for its beginning there has to be room before.
      await this.#makeRoom(this.#total + (file.bytes ?? BLOCK));
      const partial = await this.#partial(this.#model && model, url);
      try {
        const { total, etag, chunks } = await openInPieces(url, { ...this.#options(file), kind: kindOf(file.name) }, partial, at);
        this.meter.expect(file.bytes ?? total);
        await this.reserve(total);
        if (!this.#model) partial?.abandon();
        await consume({ cached: false, chunks: this.#checked(file, chunks) });
        if (model && partial) await this.#guard(() => model.commit(partial, etag));
        this.#requireStored();
      } finally {
        await partial?.close();
      }
    });
  }

  /**
   * The server's manifest decides; a server that cannot be reached leaves us the one we have.
   * @param {boolean} optional
   */
  async manifest(optional) {
    const url = this.url(MANIFEST);
    const stored = await this.#model?.get(url);
    this.#kept = await stored?.file.text() ?? "";
    try {
      return await downloadText(url, {
        ...this.#options({ name: MANIFEST }), kind: "json", optional, ...(stored && { retries: 0 }),
      });
    } catch (error) {
      if (!stored || /** @type {any} */ (error).code !== "network") throw error;
      this.context.log.warn(`${MANIFEST}: taken from this device`, error);
      return this.#kept;
    }
  }

  /**
   * @param {import("./pack.js").PackFile} file
   * @param {AbortSignal} signal
   */
  async whole(file, signal) {
    const url = this.url(file.name);
    const asked = performance.now();
    let from = "from this device";
    const content = await this.#wholeStored(url, file)
      ?? await this.#inTurn(url, file.name, signal, async (model, at) => {
        const stored = await this.#wholeStored(url, file);
        if (stored) return stored;
        from = "downloaded";
        return this.#wholeFetched(url, file, signal, model, at);
      });
    this.context.log.debug(`file: ${file.name}, ${file.bytes} bytes ${from} in ${Math.round(performance.now() - asked)} ms`);
    return content;
  }

  /** @param {number} bytes */
  async reserve(bytes) {
    this.#total += bytes;
    await this.#makeRoom(this.#total);
  }

  /** @param {{ name: string, manifest?: string }} what */
  async keep({ name, manifest }) {
    await this.#guard(async () => {
      const model = this.#model;
      if (!model) return;
      // Another tab may have loaded it at the same time.
      const turn = await takeTurn(this.url(MANIFEST), { signal: this.context.signal, onNews() {} });
      try {
        if (manifest !== undefined && manifest !== this.#kept) {
          await model.put(this.url(MANIFEST), new TextEncoder().encode(manifest), "");
        }
        await model.note(name, true);
      } finally {
        turn?.end();
      }
    });
  }

  async forget() {
    const model = this.context.store?.model(this.base);
    for (const url of this.#opened) await model?.delete(url);
  }

  /** The address of a file. A signed directory URL carries its signature in the query. @param {string} name */
  url(name) {
    const url = new URL(name, this.base);
    url.search = new URL(this.base).search;
    return url.href;
  }

  /** @param {{ name: string, bytes?: number }} file */
  #options({ name, bytes }) {
    const { signal, log, stallMs, headers } = this.context;
    return {
      name, bytes, signal, stallMs, headers,
      onRetry: (/** @type {{ attempt: number, offset: number, error: SmolLMError }} */ { attempt, offset, error }) =>
        log.warn(`${name}: going on at byte ${offset}, attempt ${attempt}`, error.message),
    };
  }

  /** For whoever wants the model kept or not at all. */
  #requireStored() {
    if (this.#full && this.context.whenFull === "error") {
      throw new SmolLMError("storage_full", `${this.base}: this device cannot keep the model: ${this.notStored}`);
    }
  }

  /** @param {number} bytes that the model takes */
  async #makeRoom(bytes) {
    const { store, whenFull = "memory", log } = this.context;
    this.#requireStored();
    if (!this.#model || !store) return;
    const why = await makeRoom(store, this.#model, { bytes, whenFull, log });
    if (why) this.#stopStoring(why);
  }

  /**
   * Runs `action` while no other tab fetches the same file.
   *
   * @template T
   * @param {string} url @param {string} name @param {AbortSignal} signal
   * @param {(model: StoredModel | null, at: At) => Promise<T>} action its first argument is null where nothing is to be kept
   */
  async #inTurn(url, name, signal, action) {
    const turn = this.#model && await takeTurn(url, { signal, onNews: (position) => this.meter.at(name, position, false) });
    try {
      return await action(turn && this.#model, (position, cached) => {
        turn?.tell(position);
        this.meter.at(name, position, cached);
      });
    } finally {
      turn?.end();
    }
  }

  /** @param {StoredModel | null} model @param {string} url @returns {Promise<Partial | null>} */
  async #partial(model, url) {
    return await this.#guard(() => model?.partial(url, (error) => this.#storageFailed(error))) ?? null;
  }

  /** Storage that fails costs the copy, not the model. @template T @param {() => T} action */
  async #guard(action) {
    try {
      return await action();
    } catch (error) {
      this.#storageFailed(error);
      return undefined;
    }
  }

  /** @param {any} error */
  #storageFailed(error) {
    this.#full ||= error?.name === "QuotaExceededError";
    this.#stopStoring(error?.name === "QuotaExceededError" ? "its storage is full" : `its storage failed (${error?.message})`, error);
  }

  /** @param {string} why @param {unknown} [error] */
  #stopStoring(why, error) {
    if (!this.notStored) this.context.log.warn(`the model is not kept on this device: ${why}`, error);
    this.notStored ||= why;
    this.#model = null;
  }

  /**
   * @param {string} url @param {RemoteFile} file @param {(file: OpenFile) => Promise<void>} consume
   * @returns {Promise<boolean>} whether the file was here
   */
  async #readStored(url, file, consume) {
    const stored = await this.#model?.get(url);
    if (!stored || !await this.#current(stored.record, file)) return false;
    this.#total += stored.file.size;
    this.meter.expect(this.#total);
    await consume({ cached: true, chunks: blobChunks(stored.file, (position) => this.meter.at(file.name, position, true)) });
    return true;
  }

  /**
   * Whether a stored file is still the server's. Files pinned by hash are; of others the server is
   * asked for the validator alone, and a server that cannot be reached leaves us what we have.
   *
   * @param {import("./stored-model.js").StoredRecord} record
   * @param {RemoteFile} file
   */
  async #current(record, file) {
    if (file.sha256) return !file.bytes || record.bytes === file.bytes;
    const { signal, headers } = this.context;
    try {
      const response = await fetch(record.url, { method: "HEAD", cache: "no-store", signal, headers });
      if (!response.ok) return true;
      const etag = response.headers.get("etag") || response.headers.get("last-modified") || "";
      const length = response.headers.has("content-encoding") ? 0 : Number(response.headers.get("content-length"));
      return (!etag || etag === record.etag) && (!length || length === record.bytes);
    } catch {
      throwIfAborted(signal, `loading ${file.name}`);
      return true;
    }
  }

  /**
   * Passes chunks on, and throws where they are not what was promised.
   * @param {RemoteFile} file @param {AsyncIterable<Uint8Array<ArrayBuffer>>} chunks
   */
  async *#checked({ name, bytes, sha256 }, chunks) {
    const hash = sha256 ? new Sha256() : null;
    let seen = 0;
    for await (const chunk of chunks) {
      hash?.update(chunk);
      seen += chunk.length;
      yield chunk;
    }
    if (bytes && seen !== bytes) throw new SmolLMError("integrity", `${name}: ${seen} bytes arrived, ${bytes} expected`);
    if (!hash) return;
    this.meter.phase("verify");
    const found = hash.hex();
    if (found !== sha256) throw new SmolLMError("integrity", `${name}: sha-256 is ${found}, expected ${sha256}`);
  }

  /** @param {string} url @param {import("./pack.js").PackFile} file */
  async #wholeStored(url, { name, sha256 }) {
    const { log } = this.context;
    // The record says which hash was right when it was written; what matters is what is there now.
    const stored = await this.#model?.get(url);
    if (stored?.record.etag !== sha256) return null;
    try {
      const content = new Uint8Array(await stored.file.arrayBuffer());
      if (await sha256Hex(content) === sha256) {
        this.meter.at(name, content.length, true);
        return content;
      }
    } catch (error) {
      log.debug(`${name}: cannot be read`, error);
    }
    log.warn(`${name}: damaged on this device, and downloaded again`);
    await this.#guard(() => this.#model?.delete(url));
    return null;
  }

  /**
   * @param {string} url @param {import("./pack.js").PackFile} file @param {AbortSignal} signal
   * @param {StoredModel | null} model @param {At} at
   */
  async #wholeFetched(url, file, signal, model, at) {
    const { name, bytes, sha256 } = file;
    const partial = bytes > BLOCK ? await this.#partial(model, url) : null;
    try {
      for (;;) {
        partial?.begin({ total: bytes, etag: sha256 }, { hashed: true });
        const resumed = partial ? partial.bytes > 0 : false;
        const content = await fetchRange(url, { ...this.#options(file), kind: "data", signal }, bytes, partial, at);
        this.meter.phase("verify");
        const found = await sha256Hex(content);
        if (found === sha256) {
          await this.#guard(() => (partial ? model?.commit(partial, sha256) : model?.put(url, content, sha256)));
          this.#requireStored();
          return content;
        }
        // Wrong bytes are not gone on with; those of an earlier visit may be the wrong ones.
        partial?.reset();
        if (!resumed) throw new SmolLMError("integrity", `${name}: sha-256 is ${found}, expected ${sha256}`);
      }
    } finally {
      await partial?.close();
    }
  }
}
