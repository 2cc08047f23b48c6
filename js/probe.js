/**
 * What this browser's WebAssembly can do, found by validating tiny modules: a build is one module,
 * validated whole, so the question is asked before anything is downloaded.
 */
import { SmolLMError } from "./errors.js";

/**
 * @typedef {"relaxed" | "simd128"} Kernel
 * @typedef {Kernel | `${Kernel}-threads`} Build a folder of `pkg/`
 * @typedef {{ simd128: boolean, relaxed: boolean, threads: boolean }} Capabilities
 * @typedef {{ build: Build, threads: number, why: string[] }} Choice
 */

// (module (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt))
const SIMD128 = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// (module (func (result v128) i32.const 1 i8x16.splat i32.const 2 i8x16.splat
//   i16x8.relaxed_dot_i8x16_i7x16_s)): the instruction the kernels are built on
const RELAXED = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 146, 2, 11];

// (module (memory 1 1 shared) (func i32.const 0 i32.atomic.load drop))
const THREADS = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 11, 1, 9, 0, 65, 0, 254, 16, 2, 0, 26, 11];

/** More share one memory's bandwidth and one barrier without getting faster. */
const MOST_THREADS = 8;

/**
 * @param {{ validate(bytes: BufferSource): boolean } | undefined} wasm the browser's WebAssembly
 * @returns {Capabilities}
 */
export function probe(wasm = globalThis.WebAssembly) {
  /** @param {number[]} bytes */
  const accepts = (bytes) => Boolean(wasm?.validate(new Uint8Array(bytes)));
  return { simd128: accepts(SIMD128), relaxed: accepts(RELAXED), threads: accepts(THREADS) };
}

/**
 * The build to load, how many threads it is to run on, and why, in words for `engine.info.why`.
 *
 * @param {Capabilities} can
 * @param {object} where
 * @param {Kernel} [where.kernel] asks for one kind of kernels by name (tests, comparisons)
 * @param {"auto" | number} [where.threads]
 * @param {boolean} [where.isolated] whether the page is cross-origin isolated: else it has no shared memory
 * @param {number} [where.cores] logical ones, as `navigator.hardwareConcurrency` says
 * @returns {Choice}
 */
export function chooseBuild(can, { kernel, threads: wanted = "auto", isolated = false, cores = 1 } = {}) {
  const chosen = chooseKernel(can, kernel);
  const { threads, why } = chooseThreads(can, wanted, isolated, cores);
  return {
    build: threads > 1 ? `${chosen.kernel}-threads` : chosen.kernel,
    threads,
    why: [chosen.why, `threads ${threads}: ${why}`],
  };
}

/**
 * The same choice on one thread, where more could not be had.
 * @param {Choice} choice @param {string} reason
 * @returns {Choice}
 */
export function onOneThread({ build, why: [kernel] }, reason) {
  return {
    build: /** @type {Kernel} */ (build.replace("-threads", "")),
    threads: 1,
    why: [kernel, `threads 1: ${reason}`],
  };
}

/** @param {Capabilities} can @param {Kernel} [wanted] @returns {{ kernel: Kernel, why: string }} */
function chooseKernel(can, wanted) {
  if (!can.simd128) {
    throw new SmolLMError("unsupported_browser",
      "this browser's WebAssembly has no SIMD (Chrome 91, Firefox 89, Safari 16.4 and later have it)");
  }
  if (wanted === "relaxed" && !can.relaxed) {
    throw new SmolLMError("unsupported_browser", "kernel relaxed: this browser has no relaxed SIMD");
  }
  if (wanted) return { kernel: wanted, why: `kernel ${wanted}: asked for by option` };
  return can.relaxed
    ? { kernel: "relaxed", why: "kernel relaxed: this browser has relaxed SIMD" }
    : { kernel: "simd128", why: "kernel simd128: this browser has no relaxed SIMD" };
}

/** @param {Capabilities} can @param {"auto" | number} wanted @param {boolean} isolated @param {number} cores */
function chooseThreads(can, wanted, isolated, cores) {
  if (wanted === 1) return { threads: 1, why: "asked for by option" };
  if (!can.threads) return { threads: 1, why: "this browser's WebAssembly has no threads" };
  if (!isolated) return { threads: 1, why: "the page is not cross-origin isolated" };
  if (wanted !== "auto") return { threads: wanted, why: "asked for by option" };
  return defaultThreads(cores);
}

/**
 * Browsers tell logical cores. The kernels keep a core's arithmetic busy, so a second thread on the same
 * physical core brings little: of many cores, half are taken for physical. Four or fewer are taken
 * as they come: small machines, and virtual ones, rarely have two threads a core.
 *
 * @param {number} cores
 */
function defaultThreads(cores) {
  if (cores <= 1) return { threads: 1, why: "there is one core" };
  if (cores <= 4) return { threads: cores, why: `one for each of ${cores} cores` };
  const half = Math.max(4, Math.floor(cores / 2));
  return half <= MOST_THREADS
    ? { threads: half, why: `of ${cores} logical cores, as many as are likely to be physical` }
    : { threads: MOST_THREADS, why: `more would not help; there are ${cores} logical cores` };
}
