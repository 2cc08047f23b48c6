/**
 * A pack (`quantize_model`): the manifest first, then its small files, then its shards, several at a time on the way and
 * one after the other into the engine. No byte of a file is used before the file's SHA-256 is right.
 */
import { PARALLEL, ahead } from "./ahead.js";
import { SmolLMError, throwIfAborted } from "./errors.js";
import { Sha256 } from "./sha256.js";
import { createTurn } from "./turn.js";

export const MANIFEST = "manifest.json";

/**
 * @typedef {{ name: string, bytes: number, sha256: string }} PackFile
 * @typedef {{ files: PackFile[], shards: PackFile[] }} PackList what a pack's manifest says of its files
 */

/** Few enough bytes that an abort is seen at once, enough to hold whole tensors, which are then read where they are. */
const CHUNK = 4 << 20;
/** As in `src/weights/pack/manifest.rs`. */
const SHARD_BYTES = 8 << 20;
const TEXT_BYTES = 64 << 20;
/** The manifest's end: the hash of all before it. */
const SEAL = /,"sha256":"([0-9a-f]{64})"\}\n$/;

/**
 * What is fetched, out of the manifest's text. The rest is the engine's to read.
 *
 * @param {string} text
 * @returns {PackList}
 */
export function readManifest(text) {
  const seal = SEAL.exec(text);
  if (!seal) throw new SmolLMError("not_a_model", `${MANIFEST}: does not end in its sha256`);
  const found = new Sha256().update(new TextEncoder().encode(text.slice(0, seal.index))).hex();
  if (found !== seal[1]) {
    throw new SmolLMError("integrity", `${MANIFEST}: sha-256 is ${found}, expected ${seal[1]}`);
  }
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch (cause) {
    throw new SmolLMError("not_a_model", `${MANIFEST}: not valid JSON`, { cause });
  }
  return { files: fileList(manifest, "files", TEXT_BYTES), shards: fileList(manifest, "shards", SHARD_BYTES) };
}

/** @param {any} manifest @param {"files" | "shards"} key @param {number} most bytes a file */
function fileList(manifest, key, most) {
  const list = manifest?.[key];
  if (!Array.isArray(list)) throw new SmolLMError("not_a_model", `${MANIFEST}: ${key} is no list`);
  return list.map((entry) => {
    const { name, bytes, sha256 } = entry ?? {};
    // Names come from the server, and shall not lead out of the pack's folder.
    const good = typeof name === "string" && /^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/.test(name)
      && Number.isInteger(bytes) && bytes > 0 && bytes <= most
      && typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256);
    if (!good) throw new SmolLMError("not_a_model", `${MANIFEST}: ${key}: ${JSON.stringify(entry)} is no file`);
    return { name, bytes, sha256 };
  });
}

/**
 * Fetches what the manifest lists and loads it.
 *
 * @param {string} text of the manifest
 * @param {object} way
 * @param {(file: PackFile, signal: AbortSignal) => Promise<Uint8Array<ArrayBuffer>>} way.whole a whole file, its hash
 *   compared
 * @param {(bytes: number) => Promise<void>} way.expect told how many bytes all files have, before they are fetched
 * @param {Promise<import("./loader.js").WasmLoader>} way.engine
 * @param {AbortSignal} way.signal
 * @param {number} [way.contextLength]
 * @param {string} [way.name] of the model, where it is known better than from the manifest
 */
export async function loadPack(text, { whole, expect, engine: ready, signal, contextLength, name }) {
  const { files, shards } = readManifest(text);
  await expect([...files, ...shards].reduce((sum, { bytes }) => sum + bytes, 0));
  const turn = createTurn();
  const stop = new AbortController();
  const onAbort = () => stop.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  /** @param {PackFile} file */
  const fetched = (file) => whole(file, stop.signal);
  try {
    const small = ahead(files, files.length, fetched);
    const large = ahead(shards, PARALLEL, fetched);
    /** @type {Record<string, string>} */
    const texts = { [MANIFEST]: text };
    for await (const [{ name }, content] of small) texts[name] = new TextDecoder().decode(content);
    const engine = await ready;
    engine.begin_load(JSON.stringify({ format: "pack", context_length: contextLength, name, files: texts }));
    for await (const [shard, stored] of large) {
      engine.begin_file(shard.name);
      for (let at = 0; at < stored.length; at += CHUNK) {
        await turn();
        throwIfAborted(signal, `loading ${shard.name}`);
        engine.feed(stored.subarray(at, at + CHUNK));
      }
    }
    return engine;
  } finally {
    signal.removeEventListener("abort", onAbort);
    stop.abort();
  }
}
