/**
 * What every engine looks like to the benchmark.
 *
 * @typedef {object} OpenOptions
 * @property {string} weights URL of a GGUF file; for ours also a registry id
 * @property {number} threads
 * @property {number} contextLength
 * @property {"relaxed" | "simd128"} [kernel] ours only
 *
 * @typedef {object} RunOptions
 * @property {number} prompt tokens to read
 * @property {string} text the beginning of the fixed text that has about as many tokens
 * @property {number[]} ids the fixed text's first `prompt` tokens
 * @property {number} generate tokens to generate after the first one
 * @property {boolean} keep whether what is cached of the same prompt may be used again
 *
 * @typedef {object} Run
 * @property {number} prefilled tokens that were read in `prefillMs`
 * @property {number} prefillMs
 * @property {number} decoded tokens that were generated in `decodeMs`, the first one not counted
 * @property {number} decodeMs
 * @property {number} [memoryBytes] of wasm memory, where the engine tells
 *
 * @typedef {object} Engine
 * @property {Record<string, unknown> & { threads: number, loadMs: number }} info
 * @property {(options: RunOptions) => Promise<Run>} run
 * @property {() => Promise<unknown>} close
 */
export {};
