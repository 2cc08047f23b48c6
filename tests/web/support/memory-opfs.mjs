/**
 * The origin private file system in memory, as far as the store uses it: directories, files, exclusive synchronous
 * handles, moving. Writes are there at once, as they are for whoever comes after a killed tab.
 */
const named = (name, message) => Object.assign(new Error(message), { name });

class MemoryFile {
  kind = "file";
  bytes = Buffer.alloc(0);
  #open = false;

  /** @param {MemoryFolder} parent @param {string} name */
  constructor(parent, name) {
    this.parent = parent;
    this.name = name;
  }

  get busy() {
    return this.#open;
  }

  /** Closes what a dead worker had open. */
  release() {
    this.#open = false;
  }

  async getFile() {
    return new File([this.bytes], this.name);
  }

  async createSyncAccessHandle() {
    if (this.#open) throw named("NoModificationAllowedError", "the file is open");
    this.#open = true;
    const { space } = this.parent.root;
    return {
      write: (data, { at }) => {
        const end = at + data.length;
        if (end > this.bytes.length) {
          if (space.used + end - this.bytes.length > space.quota) throw named("QuotaExceededError", "no room");
          space.used += end - this.bytes.length;
          this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end - this.bytes.length)]);
        }
        this.bytes.set(data, at);
        return data.length;
      },
      read: (data, { at }) => this.bytes.copy(data, 0, at, at + data.length),
      getSize: () => this.bytes.length,
      truncate: (length) => {
        space.used += length - this.bytes.length;
        this.bytes = length <= this.bytes.length ? Buffer.from(this.bytes.subarray(0, length))
          : Buffer.concat([this.bytes, Buffer.alloc(length - this.bytes.length)]);
      },
      flush: () => {},
      close: () => { this.#open = false; },
    };
  }

  async move(folder, name) {
    this.parent.entries.delete(this.name);
    folder.entries.set(name, this);
    Object.assign(this, { parent: folder, name });
  }
}

class MemoryFolder {
  kind = "directory";
  entries = new Map();
  /** What the browser grants, and what is taken of it; of the outermost folder. */
  space = { quota: Infinity, used: 0 };

  /** @param {string} name @param {MemoryFolder | null} parent */
  constructor(name, parent) {
    this.name = name;
    this.root = parent?.root ?? this;
  }

  async getDirectoryHandle(name, { create = false } = {}) {
    return this.#get(name, create, () => new MemoryFolder(name, this));
  }

  async getFileHandle(name, { create = false } = {}) {
    return this.#get(name, create, () => new MemoryFile(this, name));
  }

  async removeEntry(name) {
    const entry = this.entries.get(name);
    if (!entry) throw named("NotFoundError", `no ${name}`);
    const files = [...filesOf(entry)];
    if (files.some(({ busy }) => busy)) throw named("NoModificationAllowedError", `${name} is in use`);
    for (const { bytes } of files) this.root.space.used -= bytes.length;
    this.entries.delete(name);
  }

  async *values() {
    yield* this.entries.values();
  }

  #get(name, create, make) {
    if (!this.entries.has(name)) {
      if (!create) throw named("NotFoundError", `no ${name}`);
      this.entries.set(name, make());
    }
    return this.entries.get(name);
  }
}

function* filesOf(entry) {
  if (entry.kind === "file") yield entry;
  else for (const inner of entry.entries.values()) yield* filesOf(inner);
}

/** An empty one. */
export function memoryOpfs() {
  return new MemoryFolder("", null);
}

/** Every file in it, by its path. @param {MemoryFolder} folder @returns {Map<string, MemoryFile>} */
export function allFiles(folder, path = "") {
  const found = new Map();
  for (const [name, entry] of folder.entries) {
    if (entry.kind === "file") found.set(`${path}${name}`, entry);
    else for (const [inner, file] of allFiles(entry, `${path}${name}/`)) found.set(inner, file);
  }
  return found;
}
