/**
 * Downloaded files kept in the origin private file system, so that a reload downloads nothing.
 * A file is there whole or not at all: its bytes are written first, and only then the small record
 * of their length that makes them count. Runs in a worker (synchronous handles exist only there).
 *
 *   smollm-web/v1/<sha-256 of the key>/data          the bytes
 *   smollm-web/v1/<sha-256 of the key>/record.json   { url, bytes, etag }
 */
import { Sha256 } from "./sha256.js";

const LAYOUT = ["smollm-web", "v1"];

/**
 * @typedef {{ url: string, bytes: number, etag: string }} StoredRecord
 *
 * What workers have and the library's DOM types lack:
 * @typedef {object} SyncAccessHandle
 * @property {(data: Uint8Array<ArrayBuffer>, options?: { at: number }) => number} write
 * @property {(bytes: number) => void} truncate
 * @property {() => void} flush
 * @property {() => void} close
 * @typedef {FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncAccessHandle> }} WorkerFileHandle
 */

export class ModelStore {
  /** @param {FileSystemDirectoryHandle} root */
  constructor(root) {
    this.root = root;
  }

  /**
   * @param {import("./log.js").Logger} log
   * @returns {Promise<ModelStore | null>} null where the browser has no such storage, or denies it
   */
  static async open(log) {
    try {
      let folder = await navigator.storage.getDirectory();
      for (const name of LAYOUT) folder = await folder.getDirectoryHandle(name, { create: true });
      return new ModelStore(folder);
    } catch (error) {
      log.info("no storage for models in this browser or window; they are downloaded every time", error);
      return null;
    }
  }

  /**
   * @param {string} url
   * @returns {Promise<{ file: File, record: StoredRecord } | null>}
   */
  async get(url) {
    try {
      const folder = await this.root.getDirectoryHandle(folderName(url));
      const record = JSON.parse(await (await (await folder.getFileHandle("record.json")).getFile()).text());
      const file = await (await folder.getFileHandle("data")).getFile();
      return record.url === url && record.bytes === file.size ? { file, record } : null;
    } catch {
      return null;
    }
  }

  /**
   * @param {string} url
   * @returns {Promise<StoreWriter>}
   */
  async writer(url) {
    const folder = await this.root.getDirectoryHandle(folderName(url), { create: true });
    await folder.removeEntry("record.json").catch(() => {});
    // Exclusive: a second tab downloading the same file fails here, and goes on without storing.
    const access = await openForWriting(folder, "data");
    return new StoreWriter(this, url, folder, access);
  }

  /**
   * Stores a file that is whole already.
   * @param {string} url @param {Uint8Array<ArrayBuffer>} content @param {string} etag
   */
  async put(url, content, etag) {
    const writer = await this.writer(url);
    try {
      writer.write(content);
      await writer.commit(etag);
    } catch (error) {
      await writer.discard();
      throw error;
    }
  }

  /** @param {string} url */
  async delete(url) {
    await this.root.removeEntry(folderName(url), { recursive: true }).catch(() => {});
  }
}

export class StoreWriter {
  #at = 0;
  #open = true;

  /**
   * @param {ModelStore} store
   * @param {string} url
   * @param {FileSystemDirectoryHandle} folder
   * @param {SyncAccessHandle} access
   */
  constructor(store, url, folder, access) {
    this.store = store;
    this.url = url;
    this.folder = folder;
    this.access = access;
  }

  /** @param {Uint8Array<ArrayBuffer>} chunk */
  write(chunk) {
    let done = 0;
    while (done < chunk.length) {
      const wrote = this.access.write(chunk.subarray(done), { at: this.#at + done });
      if (wrote === 0) throw new DOMException("storage took no more bytes", "QuotaExceededError");
      done += wrote;
    }
    this.#at += chunk.length;
  }

  /** Makes the file count. @param {string} etag */
  async commit(etag) {
    this.access.flush();
    this.#close();
    /** @type {StoredRecord} */
    const record = { url: this.url, bytes: this.#at, etag };
    const access = await openForWriting(this.folder, "record.json");
    access.write(new TextEncoder().encode(JSON.stringify(record)));
    access.flush();
    access.close();
  }

  /** Forgets what was written. */
  async discard() {
    this.#close();
    await this.store.delete(this.url);
  }

  #close() {
    if (this.#open) this.access.close();
    this.#open = false;
  }
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name */
async function openForWriting(folder, name) {
  const handle = /** @type {WorkerFileHandle} */ (await folder.getFileHandle(name, { create: true }));
  const access = await handle.createSyncAccessHandle();
  access.truncate(0);
  return access;
}

/** @param {string} url */
function folderName(url) {
  return new Sha256().update(new TextEncoder().encode(url)).hex().slice(0, 32);
}
