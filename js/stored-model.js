/**
 * One model's files on this device. A file is there whole or not at all: its bytes are written first, and only then
 * the small record that makes them count; what is half here is a `Partial`.
 *
 *   <sha-256 of the file's URL>.data       the bytes
 *   <sha-256 of the file's URL>.record     { url, bytes, etag }: they are whole
 *   <sha-256 of the file's URL>.journal    they are not yet (partial.js)
 *   model.json                             { url, name, whole, used }
 *
 * Files are written in a worker: synchronous handles exist only there. Reading and deleting work on a page too.
 */
import { Sha256 } from "./sha256.js";
import { Partial, readJournal, writeAll } from "./partial.js";

/**
 * @typedef {{ url: string, bytes: number, etag: string }} StoredRecord
 * @typedef {{ url: string, name: string, whole: boolean, used: number }} ModelRecord `whole`: all of its files are; `used`: when
 *   it was last loaded, in ms since 1970
 * @typedef {FileSystemFileHandle & { createSyncAccessHandle(): Promise<import("./partial.js").SyncAccessHandle> }} WorkerFileHandle
 */

const ABOUT = "model.json";
/** A handle outlives its worker by moments. */
const HANDLE_TRIES = 10;
const HANDLE_PAUSE_MS = 100;

export class StoredModel {
  /** @type {Promise<void> | null} */
  #begun = null;

  /**
   * @param {FileSystemDirectoryHandle} parent
   * @param {string} url of the model
   */
  constructor(parent, url) {
    this.parent = parent;
    this.url = url;
    this.name = keyOf(url);
  }

  /**
   * @param {string} url
   * @returns {Promise<{ file: File, record: StoredRecord } | null>}
   */
  async get(url) {
    try {
      const folder = await this.#folder(false);
      const key = keyOf(url);
      const [record, file] = await Promise.all([readJson(folder, `${key}.record`), readFile(folder, `${key}.data`)]);
      return record?.url === url && record.bytes === file.size ? { file, record } : null;
    } catch {
      return null;
    }
  }

  /**
   * How many bytes of that file are here, whole or in part, without a look at them.
   * @param {string} url @param {string} etag of the version that counts; "" for any
   */
  async held(url, etag) {
    const found = await this.get(url);
    if (found) return !etag || found.record.etag === etag ? found.record.bytes : 0;
    try {
      const journal = await (await readFile(await this.#folder(false), `${keyOf(url)}.journal`)).text();
      const { identity, blocks } = readJournal(journal, url);
      if (!identity?.etag || (etag && identity.etag !== etag)) return 0;
      let sum = 0;
      for (const { length } of blocks.values()) sum += length;
      return sum;
    } catch {
      return 0;
    }
  }

  /**
   * The file of that URL as far as it is here. It is not whole any more, if it was.
   * @param {string} url
   * @param {(error: unknown) => void} onFailure told when storage fails; nothing is kept then
   * @returns {Promise<Partial>}
   */
  async partial(url, onFailure) {
    const folder = await this.#folder(true);
    const key = keyOf(url);
    // A whole file that is fetched again has no journal, and what it has is no part of the new one.
    await remove(folder, `${key}.record`);
    await (this.#begun ??= this.note("", false));
    const data = await openForWriting(folder, `${key}.data`);
    try {
      return new Partial(url, { data, journal: await openForWriting(folder, `${key}.journal`) }, onFailure);
    } catch (error) {
      data.close();
      throw error;
    }
  }

  /**
   * Makes a file count whose bytes are all written; ends its writing.
   * @param {Partial} partial @param {string} etag
   */
  async commit(partial, etag) {
    const bytes = await partial.finish();
    if (bytes === null) return this.delete(partial.url);
    const folder = await this.#folder(true);
    const key = keyOf(partial.url);
    await writeJson(folder, `${key}.record`, { url: partial.url, bytes, etag });
    await remove(folder, `${key}.journal`);
  }

  /**
   * Stores a small file, or one that is whole already.
   * @param {string} url @param {Uint8Array<ArrayBuffer>} content @param {string} etag
   */
  async put(url, content, etag) {
    const folder = await this.#folder(true);
    const key = keyOf(url);
    await remove(folder, `${key}.record`);
    try {
      await write(folder, `${key}.data`, content);
      await writeJson(folder, `${key}.record`, { url, bytes: content.length, etag });
    } catch (error) {
      await this.delete(url);
      throw error;
    }
  }

  /** @param {string} url */
  async delete(url) {
    try {
      const folder = await this.#folder(false);
      // The record first: without it the rest counts for nothing.
      for (const ending of ["record", "journal", "data"]) await remove(folder, `${keyOf(url)}.${ending}`);
      await remove(folder, ABOUT);
    } catch {
      // There is no folder, or another tab writes the file.
    }
  }

  /** Notes that the model was used. @param {string} name @param {boolean} whole */
  async note(name, whole) {
    await writeJson(await this.#folder(true), ABOUT, { url: this.url, name, whole, used: Date.now() });
  }

  /** Bytes on this device, whole files and parts. */
  async bytes() {
    try {
      return await folderBytes(await this.#folder(false));
    } catch {
      return 0;
    }
  }

  /** @param {boolean} create */
  #folder(create) {
    return this.parent.getDirectoryHandle(this.name, { create });
  }
}

/** The name under which an address is kept. @param {string} url */
export function keyOf(url) {
  return new Sha256().update(new TextEncoder().encode(url)).hex().slice(0, 32);
}

/** @param {FileSystemDirectoryHandle} folder */
export async function folderBytes(folder) {
  let sum = 0;
  for await (const entry of /** @type {any} */ (folder).values()) {
    if (entry.kind === "file") sum += (await entry.getFile()).size;
  }
  return sum;
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name @returns {Promise<ModelRecord | null>} of a model's folder */
export async function aboutFolder(folder, name) {
  try {
    const found = await readJson(folder, ABOUT);
    return typeof found?.url === "string" && keyOf(found.url) === name ? found : null;
  } catch {
    return null;
  }
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name */
async function readFile(folder, name) {
  return (await folder.getFileHandle(name)).getFile();
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name */
async function readJson(folder, name) {
  return JSON.parse(await (await readFile(folder, name)).text());
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name @param {unknown} value */
function writeJson(folder, name, value) {
  return write(folder, name, new TextEncoder().encode(JSON.stringify(value)));
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name @param {Uint8Array<ArrayBuffer>} content */
async function write(folder, name, content) {
  const file = await openForWriting(folder, name);
  try {
    file.truncate(0);
    writeAll(file, content, 0);
    file.flush();
  } finally {
    file.close();
  }
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name */
async function openForWriting(folder, name) {
  const handle = /** @type {WorkerFileHandle} */ (await folder.getFileHandle(name, { create: true }));
  for (let attempt = 1; ; attempt++) {
    try {
      return await handle.createSyncAccessHandle();
    } catch (error) {
      // Exclusive: somebody else writes it, or a worker that just ended did.
      if (/** @type {any} */ (error)?.name !== "NoModificationAllowedError" || attempt === HANDLE_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, HANDLE_PAUSE_MS));
    }
  }
}

/** @param {FileSystemDirectoryHandle} folder @param {string} name */
async function remove(folder, name) {
  await folder.removeEntry(name).catch((/** @type {any} */ error) => {
    if (error?.name !== "NotFoundError") throw error;
  });
}
