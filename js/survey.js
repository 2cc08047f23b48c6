/**
 * What a model's first bytes say: which files it has, which of their bytes are not on this device yet, and what the
 * engine needs to know to tell how much memory it will take. Nothing is stored and nothing deleted.
 */
import { BlobShelf } from "./blob-shelf.js";
import { connect } from "./download.js";
import { SmolLMError } from "./errors.js";
import { resolveHub } from "./hub.js";
import { SIDE_FILES, shards as shardNames } from "./loader.js";
import { Meter } from "./meter.js";
import { modelUrl } from "./models.js";
import { MANIFEST, readManifest } from "./pack.js";
import { UrlShelf } from "./shelf.js";
import { kindOf } from "./sniff.js";

/**
 * @typedef {import("./protocol.js").RemoteFile} RemoteFile
 * @typedef {import("./loader.js").LoadContext} LoadContext
 * @typedef {Pick<LoadContext, "store" | "signal" | "log" | "stallMs">} SurveyContext
 *
 * @typedef {object} Surveyed
 * @property {Record<string, unknown>} spec as `begin_load` of the engine takes it
 * @property {AsyncIterable<Uint8Array>} [header] the beginning of a GGUF file, as much of it as is read
 * @property {number} totalBytes of all files that are read
 * @property {number} lackingBytes those that are not on this device
 */

/** Little enough that not much too much is read of a header. */
const HEADER_CHUNK = 256 << 10;

/**
 * @param {import("./protocol.js").ModelSource} source
 * @param {SurveyContext} context
 * @returns {Promise<Surveyed>}
 */
export async function surveyModel(source, context) {
  /** @type {LoadContext} */
  const whole = { ...context, engine: new Promise(() => {}), progress: () => {} };
  if (source.kind !== "hub") return surveyPlain(source, whole);
  const { found, headers } = await resolveHub(source, whole);
  return surveyPlain(found, { ...whole, headers });
}

/**
 * @param {import("./hub.js").PlainSource} source
 * @param {LoadContext} context
 * @returns {Promise<Surveyed>}
 */
async function surveyPlain(source, context) {
  const meter = new Meter(() => {});
  if (source.kind === "blobs") return surveyBlobs(source.files, new BlobShelf(source.files, meter));
  if (source.kind === "gguf") return surveyGguf(source, context);
  const shelf = new UrlShelf(modelUrl(source), context, meter);
  const device = new OnDevice(source, context);
  const manifest = await shelf.manifest(source.kind !== "pack");
  if (manifest !== null) {
    const { files, shards } = readManifest(manifest);
    const named = [...files, ...shards].map(({ name, bytes, sha256 }) => ({ url: shelf.url(name), bytes, etag: sha256 }));
    return { spec: packSpec(manifest), ...await device.count(named) };
  }
  const config = String(await shelf.text(SIDE_FILES[0], false));
  const index = await shelf.text("model.safetensors.index.json", true);
  const names = index === null ? ["model.safetensors"] : shardNames(index).names;
  const known = source.kind === "directory" ? source.files ?? [] : [];
  const weights = await Promise.all(names.map(async (name) => {
    const file = known.find((one) => one.name === name) ?? { name, url: shelf.url(name) };
    return { url: file.url, bytes: file.bytes || await lengthOf(file.url, context), etag: "" };
  }));
  return { spec: { format: "safetensors", files: { [SIDE_FILES[0]]: config } }, ...await device.count(weights) };
}

/**
 * @param {{ name: string, blob: Blob }[]} files
 * @param {BlobShelf} shelf
 * @returns {Promise<Surveyed>}
 */
async function surveyBlobs(files, shelf) {
  const here = { totalBytes: files.reduce((sum, { blob }) => sum + blob.size, 0), lackingBytes: 0 };
  const gguf = files.find(({ name }) => kindOf(name) === "gguf");
  if (gguf) return { spec: { format: "gguf" }, header: beginning(gguf.blob), ...here };
  const manifest = await shelf.manifest(true);
  if (manifest !== null) return { spec: packSpec(manifest), ...here };
  return { spec: { format: "safetensors", files: { [SIDE_FILES[0]]: await shelf.text(SIDE_FILES[0], false) } }, ...here };
}

/**
 * @param {Extract<import("./protocol.js").ModelSource, { kind: "gguf" }>} source
 * @param {LoadContext} context
 * @returns {Promise<Surveyed>}
 */
async function surveyGguf(source, context) {
  const { name, url, bytes } = source.file;
  const { signal, stallMs, headers } = context;
  const stored = await context.store?.model(modelUrl(source)).get(url);
  if (stored) {
    return { spec: { format: "gguf" }, header: beginning(stored.file), totalBytes: stored.file.size, lackingBytes: 0 };
  }
  const transfer = await connect(url, { name, kind: "gguf", bytes, signal, stallMs, headers });
  const { total, etag } = transfer.identity;
  return { spec: { format: "gguf" }, header: transfer.bytes(), ...await new OnDevice(source, context).count([{ url, bytes: total, etag }]) };
}

/** What this device holds of a model. */
class OnDevice {
  /** @param {Exclude<import("./hub.js").PlainSource, { kind: "blobs" }>} source @param {LoadContext} context */
  constructor(source, { store }) {
    this.model = store?.model(modelUrl(source)) ?? null;
  }

  /**
   * @param {{ url: string, bytes: number, etag: string }[]} files `etag`: of the version that is wanted, "" for any
   * @returns {Promise<{ totalBytes: number, lackingBytes: number }>}
   */
  async count(files) {
    const held = await Promise.all(files.map(({ url, etag }) => this.model?.held(url, etag) ?? 0));
    return {
      totalBytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
      lackingBytes: files.reduce((sum, { bytes }, i) => sum + Math.max(0, bytes - held[i]), 0),
    };
  }
}

/** @param {string} manifest */
function packSpec(manifest) {
  return { format: "pack", files: { [MANIFEST]: manifest } };
}

/** @param {Blob} blob @returns {AsyncGenerator<Uint8Array, void, void>} */
async function* beginning(blob) {
  for (let at = 0; at < blob.size; at += HEADER_CHUNK) yield new Uint8Array(await blob.slice(at, at + HEADER_CHUNK).arrayBuffer());
}

/** 0 where the server does not say. @param {string} url @param {LoadContext} context */
async function lengthOf(url, { signal, headers }) {
  const response = await fetch(url, { method: "HEAD", cache: "no-store", signal, headers });
  if (!response.ok) throw new SmolLMError("http_status", `the server answered status ${response.status} for ${url}`);
  return response.headers.has("content-encoding") ? 0 : Number(response.headers.get("content-length")) || 0;
}
