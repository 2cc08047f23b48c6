/**
 * From a model source to a loaded engine: opens each file where it is (cache, network, or a File
 * of the visitor's), and feeds its chunks to the wasm reader as they come. Nothing here holds more
 * than one chunk of the weights.
 */
import { SmolLMError, throwIfAborted, toSmolLMError } from "./errors.js";
import { BlobShelf } from "./blob-shelf.js";
import { resolveHub } from "./hub.js";
import { Meter } from "./meter.js";
import { modelUrl } from "./models.js";
import { loadPack } from "./pack.js";
import { UrlShelf } from "./shelf.js";
import { kindOf } from "./sniff.js";
import { createTurn } from "./turn.js";

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
 * @property {import("./room.js").WhenFull} [whenFull] what is done where the model does not fit on this device
 * @property {number} [stallMs] silence after which a connection counts as broken
 * @property {Record<string, string>} [headers] of every request for the model's files
 *
 * @typedef {import("./shelf.js").Shelf} Shelf
 */

/** Files of a checkpoint directory beside the weights; all but the first two may be missing. */
export const SIDE_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];
const REQUIRED = 2;

/** What a file can be to blame for: such a copy must not be found again tomorrow. What else went wrong may be over by then. */
const BAD_FILE = new Set(["not_a_model", "integrity", "unsupported_architecture", "unsupported_quantization"]);
/** So much is fed at a time, that an abort is seen soon. */
const CHUNK = 1 << 20;

/**
 * @typedef {{ info: Record<string, unknown>, notStored: string }} Loaded `info`: what `finish_load` tells about the model;
 *   `notStored`: why the next visit will not find it on this device, "" where it will
 *
 * @param {import("./protocol.js").ModelSource} source
 * @param {LoadContext} context
 * @returns {Promise<Loaded>}
 */
export async function loadModel(source, context) {
  const { progress } = context;
  const meter = new Meter(progress);
  if (source.kind === "hub") {
    const { found, headers } = await resolveHub(source, context);
    return loadFrom(found, { ...context, headers }, meter);
  }
  return loadFrom(source, context, meter);
}

/**
 * @param {Exclude<import("./protocol.js").ModelSource, { kind: "hub" }>} source
 * @param {LoadContext} context
 * @param {Meter} meter
 * @returns {Promise<Loaded>}
 */
async function loadFrom(source, context, meter) {
  const shelf = source.kind === "blobs" ? new BlobShelf(source.files, meter)
    : new UrlShelf(modelUrl(source), context, meter);
  try {
    return { info: await loadBy(source, shelf, context, meter), notStored: shelf.notStored };
  } catch (error) {
    if (BAD_FILE.has(/** @type {any} */ (error)?.code)) await shelf.forget();
    throw error;
  }
}

/**
 * @param {Exclude<import("./protocol.js").ModelSource, { kind: "hub" }>} source
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {Meter} meter
 */
async function loadBy(source, shelf, context, meter) {
  if (source.kind === "gguf") return loadGguf(source.file, shelf, context, meter, source.name);
  const gguf = source.kind === "blobs" && source.files.find(({ name }) => kindOf(name) === "gguf");
  if (gguf) return loadGguf({ name: gguf.name, url: "" }, shelf, context, meter);
  const manifest = await shelf.manifest(source.kind !== "pack");
  const files = source.kind === "directory" ? source.files : undefined;
  return manifest === null ? loadCheckpoint(shelf, context, meter, files)
    : loadShards(manifest, shelf, context, meter, source.kind === "pack" ? source.name : undefined);
}

/**
 * @param {string} manifest
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {Meter} meter
 * @param {string} [name] of the model, where it is known better than from the manifest
 */
async function loadShards(manifest, shelf, context, meter, name) {
  const { signal, contextLength, log } = context;
  const started = performance.now();
  const engine = await loadPack(manifest, {
    engine: context.engine, signal, contextLength, name,
    expect: (bytes) => {
      meter.expect(bytes);
      return shelf.reserve(bytes);
    },
    whole: (file, stop) => shelf.whole(file, stop),
  });
  const info = finish(engine, meter, "manifest.json");
  log.info(`model: ${meter.loaded} bytes of a pack in ${Math.round(performance.now() - started)} ms`);
  // Waited for, though it takes some milliseconds: whoever ends the engine right away finds the model whole. It tells of its own failures.
  await shelf.keep({ name: nameOf(info), manifest });
  return info;
}

/**
 * @param {import("./protocol.js").RemoteFile} file
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {Meter} meter
 * @param {string} [name] of the model, where it is known better than from the file
 */
async function loadGguf(file, shelf, context, meter, name) {
  const { contextLength } = context;
  const engine = await context.engine;
  engine.begin_load(JSON.stringify({ format: "gguf", context_length: contextLength, name }));
  await feedFile(file, shelf, engine, context, meter);
  const info = finish(engine, meter, file.name);
  await shelf.keep({ name: nameOf(info) });
  return info;
}

/**
 * @param {Shelf} shelf
 * @param {LoadContext} context
 * @param {Meter} meter
 * @param {import("./protocol.js").RemoteFile[]} [known] what is known of the files beforehand
 */
async function loadCheckpoint(shelf, context, meter, known = []) {
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
  meter.expect(bytes);
  for (const name of names) {
    await feedFile(known.find((file) => file.name === name) ?? { name, url: "" }, shelf, engine, context, meter);
  }
  const info = finish(engine, meter, names[names.length - 1]);
  await shelf.keep({ name: nameOf(info) });
  return info;
}

/** @param {string} index text of `model.safetensors.index.json` */
export function shards(index) {
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
  const turn = createTurn();
  await shelf.read(file, async ({ cached, chunks }) => {
    engine.begin_file(file.name);
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += CHUNK) {
        await turn();
        throwIfAborted(signal, `loading ${file.name}`);
        engine.feed(chunk.subarray(at, at + CHUNK));
      }
    }
    throwIfAborted(signal, `loading ${file.name}`);
    log.info(`model: ${file.name}, ${meter.loaded} bytes ${cached ? "from this device" : "downloaded"} and packed in ${
      Math.round(performance.now() - started)} ms`);
  });
}

/** @param {Record<string, unknown>} info */
function nameOf({ model }) {
  return String(model ?? "");
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
