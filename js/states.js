/**
 * Saved conversations, in a room of their own of the origin private file system:
 *
 *   smollm-web-states/v1/<key>/<generation>-<bytes>
 *
 * A save is a file of the next generation, and counts from the moment that it has the bytes its name promises; the one
 * before goes only then. So whenever a tab dies, one whole state is there. Generations are counted over all keys, so that
 * they tell what is oldest. What is in a file is the engine's to judge (`src/session/state.rs`).
 */
import { ERROR_CODES, SmolLMError, throwIfAborted, toSmolLMError } from "./errors.js";
import { removeFolder } from "./store.js";

const LAYOUT = ["smollm-web-states", "v1"];
const LOCK = "smollm-web-states";
/** What all saved conversations may take unless the caller says otherwise: thirteen thousand tokens of the 135M models. */
export const MAX_STATE_BYTES = 256 << 20;
/** Keys are names of folders. */
const KEY = /^[a-z0-9_-]{1,64}$/;
const CHUNK = 1 << 20;

/**
 * @typedef {{ key: string, bytes: number, saved: number }} SavedState `saved`: when, in ms since 1970
 *
 * @typedef {object} StateFile
 * @property {string} key
 * @property {string} name
 * @property {number} generation
 * @property {File} file
 * @property {boolean} whole
 *
 * @typedef {{ write(data: Uint8Array, options: { at: number }): number, flush(): void, close(): void }} SyncAccessHandle
 *   what workers have and the library's DOM types lack
 */

/** @param {unknown} key @returns {string} */
export function checkKey(key) {
  if (typeof key === "string" && KEY.test(key)) return key;
  throw new SmolLMError("invalid_argument", `key: expected up to 64 of a-z, 0-9, - and _, found ${JSON.stringify(key)}`);
}

/**
 * Does something with the saved conversations while no other tab or worker does.
 *
 * @template T
 * @param {(store: StateStore) => Promise<T>} task
 * @param {{ signal?: AbortSignal, origin?: FileSystemDirectoryHandle }} [options] `origin`: the file system, for tests
 * @returns {Promise<T>}
 */
export async function withStates(task, { signal, origin } = {}) {
  const run = async () => {
    throwIfAborted(signal, "the saved conversation");
    return task(await StateStore.open(origin));
  };
  try {
    const { locks } = globalThis.navigator ?? {};
    return locks ? await locks.request(LOCK, { signal }, run) : await run();
  } catch (error) {
    // The engine's own, which say all there is to say.
    const { code, name } = /** @type {any} */ (error) ?? {};
    if (error instanceof WebAssembly.RuntimeError || ERROR_CODES.includes(code)) throw error;
    throw toSmolLMError(error, name === "QuotaExceededError" ? "storage_full" : "unsupported_browser", "saved conversations");
  }
}

export class StateStore {
  /** @param {FileSystemDirectoryHandle} root */
  constructor(root) {
    this.root = root;
  }

  /** @param {FileSystemDirectoryHandle} [origin] */
  static async open(origin) {
    let folder = origin ?? await navigator.storage.getDirectory();
    for (const name of LAYOUT) folder = await folder.getDirectoryHandle(name, { create: true });
    return new StateStore(folder);
  }

  /** What is saved, the oldest first. @returns {Promise<SavedState[]>} */
  async list() {
    const { newest } = await this.#survey();
    return newest.map(({ key, file }) => ({ key, bytes: file.size, saved: file.lastModified }));
  }

  /** @param {string} key @returns {Promise<boolean>} whether there was one */
  delete(key) {
    return removeFolder(this.root, key);
  }

  /**
   * Saves a conversation in the place of the one of that key; the oldest others go where there is no room for all.
   *
   * @param {string} key
   * @param {object} state
   * @param {number} state.bytes
   * @param {() => Promise<Uint8Array | undefined>} state.next its parts
   * @param {number} [state.maxBytes] what all may take together
   */
  async save(key, { bytes, next, maxBytes = MAX_STATE_BYTES }) {
    if (bytes > maxBytes) {
      throw new SmolLMError("storage_full", `the conversation takes ${bytes} bytes, and all together may take ${maxBytes}`);
    }
    const { newest, stale, generation } = await this.#survey();
    for (const { key, name } of stale) await this.#remove(key, name);
    const before = newest.find((state) => state.key === key);
    const others = newest.filter((state) => state !== before);
    const evictOldest = async () => {
      const oldest = others.shift();
      return oldest !== undefined && this.delete(oldest.key);
    };
    while (others.reduce((sum, { file }) => sum + file.size, bytes) > maxBytes) await evictOldest();

    const folder = await this.root.getDirectoryHandle(key, { create: true });
    const name = `${generation + 1}-${bytes}`;
    try {
      await write(await folder.getFileHandle(name, { create: true }), next, evictOldest);
    } catch (error) {
      await this.#remove(key, name);
      throw error;
    }
    if (before) await this.#remove(key, before.name);
  }

  /**
   * Reads the newest whole state of a key. One that turns out to be damaged is deleted, and the one before it, if a
   * save was cut short, is read in its place.
   *
   * @param {string} key
   * @param {(chunks: AsyncIterable<Uint8Array>) => Promise<number>} read gives the tokens
   * @returns {Promise<{ tokens: number, bytes: number } | null>} null where nothing is saved
   */
  async restore(key, read) {
    /** @type {unknown} */
    let damage;
    for (const { name, file, whole } of await this.#files(key)) {
      if (!whole) continue;
      try {
        return { tokens: await read(chunksOf(file)), bytes: file.size };
      } catch (error) {
        if (/** @type {any} */ (error)?.code !== "integrity") throw error;
        damage = error;
        await this.#remove(key, name);
      }
    }
    if (damage) throw damage;
    return null;
  }

  /**
   * The newest whole file of every key, the oldest first; what else is here, which a save that was cut short has left; and
   * the highest generation.
   */
  async #survey() {
    /** @type {StateFile[]} */
    const newest = [], stale = [];
    let generation = 0;
    for await (const { kind, name } of /** @type {any} */ (this.root).values()) {
      if (kind !== "directory") continue;
      const files = await this.#files(name);
      const found = files.find(({ whole }) => whole);
      if (found) newest.push(found);
      stale.push(...files.filter((file) => file !== found));
      generation = Math.max(generation, ...files.map((file) => file.generation));
    }
    newest.sort((a, b) => a.generation - b.generation);
    return { newest, stale, generation };
  }

  /** The files of a key, the newest first. @param {string} key @returns {Promise<StateFile[]>} */
  async #files(key) {
    let folder;
    try {
      folder = await this.root.getDirectoryHandle(key);
    } catch (error) {
      if (/** @type {any} */ (error)?.name === "NotFoundError") return [];
      throw error;
    }
    /** @type {StateFile[]} */
    const files = [];
    for await (const entry of /** @type {any} */ (folder).values()) {
      const [, generation, bytes] = /^(\d+)-(\d+)$/.exec(entry.name) ?? [];
      if (!generation || entry.kind !== "file") continue;
      const file = await entry.getFile();
      files.push({ key, name: entry.name, generation: Number(generation), file, whole: file.size === Number(bytes) });
    }
    return files.sort((a, b) => b.generation - a.generation);
  }

  /** What cannot be deleted now is by the next save. @param {string} key @param {string} name */
  async #remove(key, name) {
    try {
      await (await this.root.getDirectoryHandle(key)).removeEntry(name);
    } catch {
      // Gone, or still open in a worker that is being ended.
    }
  }
}

/**
 * @param {FileSystemFileHandle} handle
 * @param {() => Promise<Uint8Array | undefined>} next
 * @param {() => Promise<boolean>} makeRoom whether there was anything to delete
 */
async function write(handle, next, makeRoom) {
  /** @type {SyncAccessHandle} */
  const access = await /** @type {any} */ (handle).createSyncAccessHandle();
  try {
    let at = 0;
    for (let part = await next(); part; part = await next()) {
      for (let done = 0; done < part.length;) {
        const wrote = attempt(() => access.write(/** @type {Uint8Array} */ (part).subarray(done), { at: at + done }));
        if (wrote === 0 && !await makeRoom()) throw new SmolLMError("storage_full", "no room for the conversation on this device");
        done += wrote;
      }
      at += part.length;
    }
    access.flush();
  } finally {
    access.close();
  }
}

/** Browsers differ in how they say that storage is full. @param {() => number} write */
function attempt(write) {
  try {
    return write();
  } catch (error) {
    if (/** @type {any} */ (error)?.name === "QuotaExceededError") return 0;
    throw error;
  }
}

/** @param {Blob} blob */
async function* chunksOf(blob) {
  for (let at = 0; at < blob.size; at += CHUNK) {
    yield new Uint8Array(await blob.slice(at, at + CHUNK).arrayBuffer());
  }
}
