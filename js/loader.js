/**
 * From a model source to a loaded engine: opens each file where it is (cache, network, or a File
 * of the visitor's), and feeds its chunks to the wasm reader as they come. Nothing here holds more
 * than one chunk of the weights.
 */
import { SmolLMError, throwIfAborted, toSmolLMError } from "./errors.js";
import { download, downloadText } from "./download.js";
import { SNIFF_BYTES, checkContent, kindOf } from "./sniff.js";

/**
 * The wasm class, as far as loading goes (`src/wasm/`). Arguments and results are JSON.
 * @typedef {object} WasmLoader
 * @property {(spec: string) => void} begin_load
 * @property {(name: string) => void} begin_file
 * @property {(chunk: Uint8Array) => void} feed
 * @property {() => string} finish_load
 */

/**
 * @typedef {object} LoadContext
 * @property {WasmLoader} engine
 * @property {import("./store.js").ModelStore | null} store
 * @property {AbortSignal} signal
 * @property {(progress: import("./protocol.js").Progress) => void} progress
 * @property {import("./log.js").Logger} log
 * @property {number} [contextLength]
 *
 * @typedef {object} OpenFile
 * @property {number} total bytes, 0 while unknown
 * @property {boolean} cached
 * @property {AsyncIterable<Uint8Array>} chunks
 */

/** Files of a checkpoint directory beside the weights; all but the first two may be missing. */
const SIDE_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];
const REQUIRED = 2;
/** Big enough that crossing into wasm costs nothing, small enough that an abort is seen at once. */
const CHUNK = 1 << 20;

/**
 * @param {import("./protocol.js").ModelSource} source
 * @param {LoadContext} context
 * @returns {Promise<Record<string, unknown>>} what `finish_load` tells about the model
 */
export async function loadModel(source, context) {
  const shelf = source.kind === "blobs" ? new BlobShelf(source.files, context)
    : new UrlShelf(source.kind === "directory" ? source.url : "", context);
  try {
    if (source.kind === "gguf") return await loadGguf(source.file, shelf, context, source.name);
    const gguf = source.kind === "blobs" && source.files.find(({ name }) => kindOf(name) === "gguf");
    if (gguf) return await loadGguf({ name: gguf.name, url: "" }, shelf, context);
    return await loadCheckpoint(shelf, context);
  } catch (error) {
    // Whole by its length, and still no model: such a file must not be found again tomorrow.
    if (error instanceof Error && /** @type {any} */ (error).code !== "aborted") await shelf.forget();
    throw error;
  }
}

/**
 * @param {import("./protocol.js").RemoteFile} file
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {string} [name] of the model, where it is known better than from the file
 */
async function loadGguf(file, shelf, context, name) {
  const { engine, contextLength } = context;
  engine.begin_load(JSON.stringify({ format: "gguf", context_length: contextLength, name }));
  const meter = new Meter(context, file.bytes ?? 0);
  await feedFile(file, shelf, context, meter);
  return finish(engine, meter, file.name);
}

/** @param {Shelf} shelf @param {LoadContext} context */
async function loadCheckpoint(shelf, context) {
  const { engine, contextLength } = context;
  /** @type {Record<string, string>} */
  const files = {};
  for (const [i, name] of SIDE_FILES.entries()) {
    const text = await shelf.text(name, i >= REQUIRED);
    if (text !== null) files[name] = text;
  }
  engine.begin_load(JSON.stringify({ format: "safetensors", context_length: contextLength, files }));

  const index = await shelf.text("model.safetensors.index.json", true);
  const { names, bytes } = index === null ? { names: ["model.safetensors"], bytes: 0 } : shards(index);
  const meter = new Meter(context, bytes);
  for (const name of names) await feedFile({ name, url: "" }, shelf, context, meter);
  return finish(engine, meter, names[names.length - 1]);
}

/** @param {string} index text of `model.safetensors.index.json` */
function shards(index) {
  const name = "model.safetensors.index.json";
  try {
    const { weight_map: map, metadata } = JSON.parse(index);
    const names = [...new Set(Object.values(map))].map(String).sort();
    if (names.length === 0) throw new SmolLMError("not_a_model", `${name}: weight_map names no file`);
    return { names, bytes: Number(metadata?.total_size) || 0 };
  } catch (error) {
    throw toSmolLMError(error, "not_a_model", name);
  }
}

/**
 * @param {import("./protocol.js").RemoteFile} file
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {Meter} meter
 */
async function feedFile(file, shelf, { engine, signal, log }, meter) {
  const started = performance.now();
  const { total, cached, chunks } = await shelf.open(file, (phase) => meter.phase(phase));
  meter.begin(file.name, total, cached);
  engine.begin_file(file.name);
  for await (const chunk of chunks) {
    throwIfAborted(signal, `loading ${file.name}`);
    engine.feed(chunk);
    meter.add(chunk.length);
  }
  throwIfAborted(signal, `loading ${file.name}`);
  meter.report(true);
  log.info(`${file.name}: ${meter.loaded} bytes ${cached ? "from this device" : "downloaded"} and packed in ${
    Math.round(performance.now() - started)} ms`);
}

/** @param {WasmLoader} engine @param {Meter} meter @param {string} file */
function finish(engine, meter, file) {
  meter.phase("warmup");
  try {
    return JSON.parse(engine.finish_load());
  } catch (error) {
    throw toSmolLMError(error, "not_a_model", /** @type {any} */ (error)?.code ? undefined : file);
  }
}

/** Adds up progress over all files, and reports it at most every 50 ms. */
class Meter {
  loaded = 0;
  #total;
  #seen = 0;
  #file = "";
  #cached = false;
  #last = -Infinity;
  /** @type {import("./protocol.js").Progress["phase"]} */
  #phase = "download";

  /** @param {LoadContext} context @param {number} total 0 while unknown */
  constructor(context, total) {
    this.context = context;
    this.#total = total;
  }

  /** @param {string} file @param {number} total @param {boolean} cached */
  begin(file, total, cached) {
    this.#file = file;
    this.#cached = cached;
    this.#phase = cached ? "load" : "download";
    this.#seen += total;
    this.#total = Math.max(this.#total, this.#seen);
    this.report(true);
  }

  /** @param {import("./protocol.js").Progress["phase"]} phase */
  phase(phase) {
    this.#phase = phase;
    this.report(true);
  }

  /** @param {number} bytes */
  add(bytes) {
    this.loaded += bytes;
    this.report(false);
  }

  /** @param {boolean} now */
  report(now) {
    const time = performance.now();
    if (!now && time - this.#last < 50) return;
    this.#last = time;
    this.context.progress({
      phase: this.#phase, loaded: this.loaded, total: Math.max(this.#total, this.loaded),
      file: this.#file, cached: this.#cached,
    });
  }
}

/**
 * Where files come from.
 * @typedef {object} Shelf
 * @property {(name: string, optional: boolean) => Promise<string | null>} text
 * @property {(file: import("./protocol.js").RemoteFile, phase: (phase: "verify") => void) => Promise<OpenFile>} open
 * @property {() => Promise<void>} forget deletes the stored copies of what was opened
 */

/** @implements {Shelf} */
class UrlShelf {
  /** @type {string[]} */
  #opened = [];

  /** @param {string} base directory URL, or "" @param {LoadContext} context */
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
class BlobShelf {
  /** @param {{ name: string, blob: Blob }[]} files @param {LoadContext} context */
  constructor(files, context) {
    this.files = files;
    this.context = context;
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
