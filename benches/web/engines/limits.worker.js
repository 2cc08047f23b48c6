/** As much as an Int4 model of 135 million parameters has weights; several times any cache of one core. */
const STREAM_BYTES = 75_000_000;
const SECONDS = 0.4;

/** Multiply-adds in one step of a loop of benches/limits: eight products of so many lanes. */
const PER_STEP = { dot_i16: 8 * 16, dot_i32: 8 * 16, madd_f32: 8 * 4 };

/** @type {Record<string, (...values: number[]) => number>} */
let exports;
let start = 0;

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(data === "load" ? await load() : rate(data));
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};

async function load() {
  const { instance } = await WebAssembly.instantiateStreaming(fetch("/limits.wasm"), {});
  exports = /** @type {any} */ (instance.exports);
  const memory = /** @type {WebAssembly.Memory} */ (instance.exports.memory);
  start = memory.buffer.byteLength;
  memory.grow(Math.ceil(STREAM_BYTES / 65536));
  // Pages that nobody wrote may all be the same one.
  new Uint8Array(memory.buffer, start).fill(1);
  for (const what of ["stream", ...Object.keys(PER_STEP)]) rate(what);
  return 0;
}

/** @param {string} what @returns {number} per second, over calls of about 10 ms for about `SECONDS` */
function rate(what) {
  const began = performance.now();
  let done = 0;
  for (;;) {
    done += what === "stream" ? stream() : dots(/** @type {keyof typeof PER_STEP} */ (what));
    const seconds = (performance.now() - began) / 1000;
    if (seconds >= SECONDS) return done / seconds;
  }
}

function stream() {
  exports.stream(start, STREAM_BYTES);
  return STREAM_BYTES;
}

/** @param {keyof typeof PER_STEP} what */
function dots(what) {
  const steps = 2_000_000;
  exports[what](steps);
  return steps * PER_STEP[what];
}
