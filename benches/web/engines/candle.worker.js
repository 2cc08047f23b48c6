import init, { CandleModel } from "/candle/candle_web_bench.js";

/** @type {CandleModel} */
let model;
/** @type {WebAssembly.Memory} */
let memory;

self.onmessage = async ({ data }) => {
  try {
    self.postMessage("weights" in data ? await load(data.weights) : run(data));
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};

/** @param {string} weights */
async function load(weights) {
  ({ memory } = await init());
  const gguf = new Uint8Array(await (await fetch(weights)).arrayBuffer());
  const began = performance.now();
  model = new CandleModel(gguf);
  return { version: "0.11.1", threads: 1, loadMs: performance.now() - began };
}

/** @param {{ ids: number[], generate: number }} request */
function run({ ids, generate }) {
  model.reset();
  const start = performance.now();
  let next = model.forward(Uint32Array.from(ids));
  const prefilled = performance.now();
  for (let i = 0; i < generate; i++) next = model.forward(Uint32Array.of(next));
  return {
    prefilled: ids.length, prefillMs: prefilled - start,
    decoded: generate, decodeMs: performance.now() - prefilled,
    memoryBytes: memory.buffer.byteLength,
  };
}
