/**
 * What this browser's WebAssembly can do, found by validating tiny modules: a build is one module,
 * validated whole, so the question is asked before anything is downloaded.
 */
import { SmolLMError } from "./errors.js";

/** @typedef {"relaxed" | "simd128"} Build */

// (module (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt))
const SIMD128 = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// (module (func (result v128) i32.const 1 i8x16.splat i32.const 2 i8x16.splat
//   i16x8.relaxed_dot_i8x16_i7x16_s)): the instruction the kernels are built on
const RELAXED = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 146, 2, 11];

/**
 * @param {{ validate(bytes: BufferSource): boolean } | undefined} wasm the browser's WebAssembly
 * @returns {{ simd128: boolean, relaxed: boolean }}
 */
export function probe(wasm = globalThis.WebAssembly) {
  /** @param {number[]} bytes */
  const accepts = (bytes) => Boolean(wasm?.validate(new Uint8Array(bytes)));
  return { simd128: accepts(SIMD128), relaxed: accepts(RELAXED) };
}

/**
 * The build to load, and why, in words for `engine.info.why`.
 *
 * @param {{ simd128: boolean, relaxed: boolean }} can
 * @param {Build} [wanted] asks for one build by name (tests, comparisons)
 * @returns {{ build: Build, why: string[] }}
 */
export function chooseBuild(can, wanted) {
  if (!can.simd128) {
    throw new SmolLMError("unsupported_browser",
      "this browser's WebAssembly has no SIMD (Chrome 91, Firefox 89, Safari 16.4 and later have it)");
  }
  if (wanted === "relaxed" && !can.relaxed) {
    throw new SmolLMError("unsupported_browser", "kernel relaxed: this browser has no relaxed SIMD");
  }
  if (wanted) return { build: wanted, why: [`kernel ${wanted}: asked for by option`] };
  return can.relaxed
    ? { build: "relaxed", why: ["kernel relaxed: this browser has relaxed SIMD"] }
    : { build: "simd128", why: ["kernel simd128: this browser has no relaxed SIMD"] };
}
