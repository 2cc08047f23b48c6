/** The engines that are compared, in the browser and natively, behind one interface. */
import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/**
 * @typedef {import("../web/engines/types.js").RunOptions} RunOptions
 * @typedef {import("../web/engines/types.js").Run} Run
 *
 * @typedef {object} Configuration
 * @property {string} id
 * @property {string} part of PARTS
 * @property {string} label for tables
 * @property {number} threads
 * @property {boolean} keeps whether it can use again what it has cached of a prompt
 * @property {{ engine: string, weights: string, kernel?: string }} [web] for those in the browser
 *
 * @typedef {Configuration & {
 *   info: Record<string, unknown>, memory: { wasmBytes?: number, processBytes: number | null },
 *   run: (options: RunOptions) => Promise<Run>, close: () => Promise<unknown>,
 *   call: (method: string, ...values: unknown[]) => Promise<any>,
 * }} OpenEngine
 */

export const MODEL = "smollm2-135m-instruct";
/** Room for the longest prompt and its answer. */
const CONTEXT = 2304;

/**
 * Threads that are compared: one, two, and so on by doubling, up to the machine's cores.
 * @param {number} cores
 */
export function threadCounts(cores) {
  const counts = [];
  for (let threads = 1; threads <= cores; threads *= 2) counts.push(threads);
  return counts;
}

/** @param {Set<string>} parts @param {number} cores @returns {Configuration[]} */
export function configurations(parts, cores) {
  const all = threadCounts(cores);
  /** @type {Configuration[]} */
  const list = [];
  for (const kernel of ["relaxed", "simd128"]) {
    for (const threads of all) {
      list.push({ id: `ours-${kernel}-${threads}`, part: "ours", label: `smollm-web, ${kernel}`, threads, keeps: true, web: { engine: "ours", weights: MODEL, kernel } });
    }
  }
  for (const [part, label] of [["wllama2", "wllama 2.3.7"], ["wllama3", "wllama 3.8.1"]]) {
    for (const threads of all) list.push({ id: `${part}-${threads}`, part, label, threads, keeps: true, web: { engine: part, weights: "/weights.gguf" } });
  }
  // Candle's kernels know no threads in the browser.
  for (const [format, weights] of [["q4_0", "/weights.q4_0.gguf"], ["q4_1", "/weights.gguf"]]) {
    list.push({ id: `candle-${format}`, part: "candle", label: `Candle quantized_llama, ${format.toUpperCase()}`, threads: 1, keeps: false, web: { engine: "candle", weights } });
  }
  for (const threads of all) list.push({ id: `llama.cpp-${threads}`, part: "llama.cpp", label: "llama.cpp, native", threads, keeps: true });
  for (const threads of all) list.push({ id: `native-${threads}`, part: "native", label: "smollm, native", threads, keeps: false });
  return list.filter(({ part }) => parts.has(part));
}

/**
 * @param {Configuration} configuration
 * @param {{ browser: import("./browser.mjs").Browser | null, url: string, paths: Record<string, string> }} place
 * @returns {Promise<OpenEngine>}
 */
export async function openEngine(configuration, { browser, url, paths }) {
  if (configuration.web && browser) return openInBrowser(configuration, configuration.web, browser, url);
  return configuration.part === "llama.cpp" ? openLlamaCpp(configuration, paths) : openNative(configuration, paths);
}

/**
 * A page of its own for each engine: nothing that one does to its page can slow down another.
 *
 * @param {Configuration} configuration @param {NonNullable<Configuration["web"]>} web
 * @param {import("./browser.mjs").Browser} browser @param {string} url
 * @returns {Promise<OpenEngine>}
 */
async function openInBrowser(configuration, { engine, weights, kernel }, browser, url) {
  const page = await browser.open(url);
  const before = browser.memoryBytes();
  const info = await page.evaluate(async ({ engine, options }) => {
    const { open } = await import(`/engines/${engine}.js`);
    const opened = await open(options);
    Object.assign(globalThis, { opened });
    return opened.info;
  }, { engine, options: { weights, kernel, threads: configuration.threads, contextLength: CONTEXT } });
  /** @type {OpenEngine["call"]} */
  const call = (method, ...values) => page.evaluate(
    ({ method, values }) => /** @type {any} */ (globalThis).opened[method](...values), { method, values });
  const after = browser.memoryBytes();
  return {
    ...configuration, info,
    memory: { wasmBytes: /** @type {any} */ (info).memoryBytes, processBytes: before !== null && after !== null ? after - before : null },
    call,
    run: (options) => call("run", options),
    close: async () => {
      await call("close");
      await page.close();
    },
  };
}

/** @param {Configuration} configuration @param {Record<string, string>} paths @returns {Promise<OpenEngine>} */
async function openLlamaCpp(configuration, paths) {
  const program = fileURLToPath(new URL("../native/llama_cpp.py", import.meta.url));
  const child = spawn(paths.python, [program, paths.weights, String(configuration.threads), String(CONTEXT)], { stdio: ["pipe", "pipe", "ignore"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error("llama.cpp: the program has ended; run benches/native/llama_cpp.py by hand to see why");
      // llama.cpp prints a line of its own now and then.
      if (value.startsWith("{")) return JSON.parse(value);
    }
  };
  return {
    ...configuration,
    info: await next(),
    memory: { processBytes: null },
    call: () => Promise.reject(new Error("llama.cpp: there is nothing to call")),
    run: async ({ ids, generate, keep }) => {
      child.stdin.write(`${JSON.stringify({ ids, generate, keep })}\n`);
      return next();
    },
    close: async () => {
      child.stdin.end();
      await new Promise((resolve) => child.once("exit", resolve));
    },
  };
}

/**
 * `smollm bench`, one process a run: it warms up by itself and measures once.
 *
 * @param {Configuration} configuration @param {Record<string, string>} paths @returns {Promise<OpenEngine>}
 */
async function openNative(configuration, paths) {
  /** @param {number} prompt @param {number} generate */
  const bench = async (prompt, generate) => {
    const { stdout } = await promisify(execFile)(paths.native, ["bench", "--json", "--model", paths.weights, "--runs", "1",
      "--threads", String(configuration.threads), "--prompt-tokens", String(prompt), "--decode-tokens", String(generate)]);
    return JSON.parse(stdout);
  };
  const { model, quantization, kernel, threads, load_seconds, weight_bytes, peak_resident_bytes } = await bench(1, 1);
  return {
    ...configuration,
    info: { model, quantization, kernel, threads, loadMs: load_seconds * 1000, weightBytes: weight_bytes },
    memory: { processBytes: peak_resident_bytes },
    call: () => Promise.reject(new Error("smollm: there is nothing to call")),
    run: async ({ prompt, generate }) => {
      const figures = await bench(prompt, generate);
      return {
        prefilled: prompt, prefillMs: (prompt * 1000) / figures.prefill_tokens_per_second,
        decoded: generate, decodeMs: (generate * 1000) / figures.decode_tokens_per_second,
      };
    },
    close: async () => {},
  };
}
