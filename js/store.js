/**
 * Downloaded models, kept in the origin private file system so that a reload downloads nothing: a folder a model
 * (stored-model.js), and the layout's version above them.
 *
 *   smollm-web/v2/<sha-256 of the model's URL>/…
 *
 * Version 1 had a folder a file. Its files are moved, not downloaded again.
 */
import { StoredModel, aboutFolder, folderBytes, keyOf } from "./stored-model.js";

const FOLDER = "smollm-web";
const VERSION = "v2";

/**
 * @typedef {object} HeldModel a model on this device, or part of one
 * @property {string} key of its folder
 * @property {string} url
 * @property {string} name
 * @property {number} bytes on this device
 * @property {boolean} whole
 * @property {number} used when it was last loaded, in ms since 1970; 0 where that is not known
 */

export class ModelStore {
  /** @param {FileSystemDirectoryHandle} root */
  constructor(root) {
    this.root = root;
  }

  /**
   * Opens the storage of this browser, if it has one that can be written to from here.
   * @param {import("./log.js").Logger} log
   * @returns {Promise<ModelStore | null>} null where the browser has no such storage, or denies it
   */
  static async open(log) {
    try {
      return await ModelStore.in(await navigator.storage.getDirectory(), log);
    } catch (error) {
      log.info("no storage for models in this browser or window; they are downloaded every time", error);
      return null;
    }
  }

  /**
   * @param {FileSystemDirectoryHandle} origin
   * @param {import("./log.js").Logger} log
   */
  static async in(origin, log) {
    const folder = await origin.getDirectoryHandle(FOLDER, { create: true });
    const root = await folder.getDirectoryHandle(VERSION, { create: true });
    await migrate(folder, root, log);
    return new ModelStore(root);
  }

  /** @param {string} url of the model @returns {StoredModel} */
  model(url) {
    return new StoredModel(this.root, url);
  }

  /** What is here, the least recently used first. @returns {Promise<HeldModel[]>} */
  async list() {
    /** @type {HeldModel[]} */
    const held = [];
    for await (const entry of /** @type {any} */ (this.root).values()) {
      if (entry.kind !== "directory") continue;
      const about = await aboutFolder(entry, entry.name);
      const { url = "", name = "", whole = false, used = 0 } = about ?? {};
      held.push({ key: entry.name, url, name, bytes: await folderBytes(entry), whole, used });
    }
    return held.sort((a, b) => a.used - b.used);
  }

  /**
   * Deletes a model, or nothing where it is not here.
   * @param {string} url @returns {Promise<boolean>} whether it was here; throws where another tab is writing it
   */
  delete(url) {
    return removeFolder(this.root, keyOf(url));
  }

  /**
   * Deletes other models until as many bytes are free, the least recently used first.
   * @param {number} bytes @param {string} keep the URL of the model that stays
   * @returns {Promise<HeldModel[]>} what was deleted
   */
  async evict(bytes, keep) {
    const gone = [];
    for (const held of await this.list()) {
      if (bytes <= 0) break;
      if (held.key === keyOf(keep)) continue;
      try {
        await removeFolder(this.root, held.key);
      } catch {
        continue; // Another tab is writing it.
      }
      bytes -= held.bytes;
      gone.push(held);
    }
    return gone;
  }
}

/**
 * Removes a folder with all that is in it.
 * @param {FileSystemDirectoryHandle} parent @param {string} name
 * @returns {Promise<boolean>} whether there was one
 */
export async function removeFolder(parent, name) {
  try {
    await parent.removeEntry(name, { recursive: true });
    return true;
  } catch (error) {
    if (/** @type {any} */ (error)?.name === "NotFoundError") return false;
    throw error;
  }
}

/**
 * Moves the files of version 1, `v1/<sha-256 of the file's URL>/{data, record.json}`. What cannot be moved is deleted.
 * @param {FileSystemDirectoryHandle} folder @param {FileSystemDirectoryHandle} root @param {import("./log.js").Logger} log
 */
async function migrate(folder, root, log) {
  let old;
  try {
    old = await folder.getDirectoryHandle("v1");
  } catch {
    return;
  }
  try {
    for await (const entry of /** @type {any} */ (old).values()) {
      const [data, note] = [await entry.getFileHandle("data"), await entry.getFileHandle("record.json")];
      const { url } = JSON.parse(await (await note.getFile()).text());
      const target = await root.getDirectoryHandle(keyOf(modelOf(url)), { create: true });
      await data.move(target, `${keyOf(url)}.data`);
      // Last, as it makes the file count.
      await note.move(target, `${keyOf(url)}.record`);
    }
  } catch (error) {
    log.info("files of an earlier version could not all be taken over", error);
  }
  await folder.removeEntry("v1", { recursive: true }).catch(() => {});
}

/** The model that a file of version 1 belongs to: a `.gguf` file is one by itself, others lie in its folder. @param {string} url */
function modelOf(url) {
  const folder = new URL(".", url);
  folder.search = new URL(url).search;
  return /\.gguf$/i.test(new URL(url).pathname) ? url : folder.href;
}
