/** `loadModel` without a browser: an engine that only writes down what it gets, and storage in memory. */
import { loadModel } from "../../../js/loader.js";
import { ModelStore } from "../../../js/store.js";
import { allFiles, memoryOpfs } from "./memory-opfs.mjs";

export const silent = { debug() {}, info() {}, warn() {}, error() {} };

export class RecordingEngine {
  spec = null;
  files = [];
  begin_load(spec) { this.spec = JSON.parse(spec); }
  begin_file(name) { this.files.push({ name, parts: [] }); }
  feed(chunk) { this.files.at(-1).parts.push(Buffer.from(chunk)); }
  finish_load() { return JSON.stringify({ context_length: 7, model: "Recorded" }); }
}

/**
 * @param {object} source
 * @param {{ opfs?: any, signal?: AbortSignal, engine?: any, onProgress?: (p: any) => void }} [how] and whatever else `loadModel` takes
 */
export async function record(source, { opfs = memoryOpfs(), signal = new AbortController().signal, engine = new RecordingEngine(), onProgress, ...more } = {}) {
  const progress = [];
  const { info, notStored } = await loadModel(source, {
    engine: Promise.resolve(engine), store: opfs && await ModelStore.in(opfs, silent), signal, log: silent, contextLength: 99,
    progress: (p) => {
      progress.push(p);
      onProgress?.(p);
    },
    ...more,
  });
  return { engine, progress, opfs, info, notStored };
}

/** The files that are whole on a device, by their URLs. @param {any} opfs @returns {Map<string, import("./memory-opfs.mjs").MemoryFile>} */
export function storedFiles(opfs) {
  const all = allFiles(opfs);
  const whole = new Map();
  for (const [path, { bytes }] of all) {
    if (!path.endsWith(".record")) continue;
    const { url, bytes: length } = JSON.parse(String(bytes));
    const data = all.get(path.replace(/record$/, "data"));
    if (data?.bytes.length === length) whole.set(url, data);
  }
  return whole;
}

/** Waits until what a load keeps in the background is there: the model's own note comes last. @param {any} opfs */
export async function settled(opfs) {
  const noted = () => [...allFiles(opfs)].some(([path, { bytes, busy }]) => path.endsWith("model.json") && !busy && JSON.parse(String(bytes)).whole);
  while (!noted()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** What an engine was fed, by file. @param {RecordingEngine} engine */
export function fed(engine) {
  return Object.fromEntries(engine.files.map(({ name, parts }) => [name, Buffer.concat(parts)]));
}
