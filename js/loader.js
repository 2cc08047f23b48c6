/**
 * From a model source to a loaded engine: opens each file where it is (cache, network, or a File
 * of the visitor's), and feeds its chunks to the wasm reader as they come. Nothing here holds more
 * than one chunk of the weights.
 */
import { SmolLMError, throwIfAborted, toSmolLMError } from "./errors.js";
import { loadPack } from "./pack.js";
import { BlobShelf, UrlShelf } from "./shelf.js";
import { kindOf } from "./sniff.js";

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
 * @property {Promise<WasmLoader>} engine files may be on their way before it is there
 * @property {import("./store.js").ModelStore | null} store
 * @property {AbortSignal} signal
 * @property {(progress: import("./protocol.js").Progress) => void} progress
 * @property {import("./log.js").Logger} log
 * @property {number} [contextLength]
 *
 * @typedef {import("./shelf.js").Shelf} Shelf
 */

/** Files of a checkpoint directory beside the weights; all but the first two may be missing. */
const SIDE_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];
const REQUIRED = 2;

/**
 * @param {import("./protocol.js").ModelSource} source
 * @param {LoadContext} context
 * @returns {Promise<Record<string, unknown>>} what `finish_load` tells about the model
 */
export async function loadModel(source, context) {
  const shelf = source.kind === "blobs" ? new BlobShelf(source.files)
    : new UrlShelf(source.kind === "gguf" ? "" : source.url, context);
  try {
    if (source.kind === "gguf") return await loadGguf(source.file, shelf, context, source.name);
    const gguf = source.kind === "blobs" && source.files.find(({ name }) => kindOf(name) === "gguf");
    if (gguf) return await loadGguf({ name: gguf.name, url: "" }, shelf, context);
    const manifest = await shelf.manifest(source.kind !== "pack");
    if (manifest !== null) {
      return await loadShards(manifest, shelf, context, source.kind === "pack" ? source.name : undefined);
    }
    return await loadCheckpoint(shelf, context);
  } catch (error) {
    // Whole by its length, and still no model: such a file must not be found again tomorrow.
    if (error instanceof Error && /** @type {any} */ (error).code !== "aborted") await shelf.forget();
    throw error;
  }
}

/**
 * @param {string} manifest
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {string} [name] of the model, where it is known better than from the manifest
 */
async function loadShards(manifest, shelf, context, name) {
  const { signal, contextLength, log } = context;
  const started = performance.now();
  const meter = new Meter(context, 0);
  const engine = await loadPack(manifest, {
    engine: context.engine, signal, contextLength, name,
    expect: (bytes) => meter.expect(bytes),
    whole: async (file, stop) => {
      const asked = performance.now();
      let fromHere = true;
      const content = await shelf.whole(file, stop, {
        bytes: (count, cached) => {
          fromHere = cached;
          meter.came(count, file.name, cached);
        },
        verify: () => meter.phase("verify"),
      });
      log.debug(`file: ${file.name}, ${file.bytes} bytes ${fromHere ? "from this device" : "downloaded"} in ${
        Math.round(performance.now() - asked)} ms`);
      return content;
    },
  });
  const info = finish(engine, meter, "manifest.json");
  log.info(`model: ${meter.loaded} bytes of a pack in ${Math.round(performance.now() - started)} ms`);
  // Storage takes its time; nobody has to wait for it, and it tells of its own failures.
  void shelf.keepManifest(manifest);
  return info;
}

/**
 * @param {import("./protocol.js").RemoteFile} file
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {string} [name] of the model, where it is known better than from the file
 */
async function loadGguf(file, shelf, context, name) {
  const { contextLength } = context;
  const engine = await context.engine;
  engine.begin_load(JSON.stringify({ format: "gguf", context_length: contextLength, name }));
  const meter = new Meter(context, file.bytes ?? 0);
  await feedFile(file, shelf, engine, context, meter);
  return finish(engine, meter, file.name);
}

/** @param {Shelf} shelf @param {LoadContext} context */
async function loadCheckpoint(shelf, context) {
  const { contextLength } = context;
  /** @type {Record<string, string>} */
  const files = {};
  for (const [i, name] of SIDE_FILES.entries()) {
    const text = await shelf.text(name, i >= REQUIRED);
    if (text !== null) files[name] = text;
  }
  const engine = await context.engine;
  engine.begin_load(JSON.stringify({ format: "safetensors", context_length: contextLength, files }));

  const index = await shelf.text("model.safetensors.index.json", true);
  const { names, bytes } = index === null ? { names: ["model.safetensors"], bytes: 0 } : shards(index);
  const meter = new Meter(context, bytes);
  for (const name of names) await feedFile({ name, url: "" }, shelf, engine, context, meter);
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
 * @param {WasmLoader} engine
 * @param {LoadContext} context
 * @param {Meter} meter
 */
async function feedFile(file, shelf, engine, { signal, log }, meter) {
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
  log.info(`model: ${file.name}, ${meter.loaded} bytes ${cached ? "from this device" : "downloaded"} and packed in ${
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

  /** Says how much there will be, over all files. @param {number} total */
  expect(total) {
    this.#total = total;
  }

  /** Counts bytes of files that come side by side. @param {number} bytes @param {string} file @param {boolean} cached */
  came(bytes, file, cached) {
    this.#file = file;
    this.#cached = cached;
    this.#phase = cached ? "load" : "download";
    this.add(bytes);
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
