/** Brings a wasm build to life: its files, its memory, its threads; one thread where more cannot be had. */
import { SmolLMError, abortError, toSmolLMError } from "./errors.js";
import { chooseFasterKernel } from "./kernel.js";
import { onOneThread } from "./probe.js";
import { KernelThreads, sharedMemory } from "./threads.js";

/**
 * @typedef {import("./probe.js").Choice} Choice
 * @typedef {import("./engine.js").WasmModule} WasmModule
 *
 * @typedef {object} BuildHost
 * @property {string} pkgUrl folder of the builds
 * @property {(url: string) => Promise<WasmModule>} importModule
 * @property {import("./relay.js").Spawn} spawn how workers are started
 * @property {AbortSignal} signal
 * @property {import("./log.js").Logger} log
 *
 * @typedef {{ wasm: WasmModule, memory: WebAssembly.Memory, choice: Choice }} OpenBuild
 */

/**
 * @param {Choice} choice @param {BuildHost} host
 * @returns {Promise<OpenBuild>}
 */
export async function openBuild(choice, host) {
  const started = performance.now();
  const opened = choice.threads > 1 ? await openThreaded(choice, host) : await openSingle(choice, host);
  opened.choice.why.push(...chooseFasterKernel(opened.wasm));
  host.log.info(`engine: compiled and started in ${Math.round(performance.now() - started)} ms`, opened.choice);
  return opened;
}

/** @param {Choice} choice @param {BuildHost} host @returns {Promise<OpenBuild>} */
async function openSingle(choice, host) {
  const folder = folderOf(choice, host);
  try {
    const [wasm, response] = await files(folder, host);
    const { memory } = await wasm.default({ module_or_path: response });
    return { wasm, memory, choice };
  } catch (error) {
    throw failure(error, folder, host);
  }
}

/** @param {Choice} choice @param {BuildHost} host @returns {Promise<OpenBuild>} */
async function openThreaded(choice, host) {
  const { spawn, signal, log } = host;
  const folder = folderOf(choice, host);
  /** @type {KernelThreads | undefined} */
  let threads;
  try {
    // First of all: they start while the module is fetched and compiled.
    threads = new KernelThreads(choice.threads - 1, spawn);
    const memory = sharedMemory();
    const [wasm, response] = await files(folder, host);
    const module = await compile(response);
    await wasm.default({ module_or_path: module, memory });
    await threads.run({ glueUrl: new URL("smollm_web.js", folder).href, module, memory }, signal);
    wasm.set_threads(choice.threads);
    return { wasm, memory, choice };
  } catch (error) {
    threads?.end();
    const reason = failure(error, folder, host);
    if (signal.aborted) throw reason;
    log.warn(`going on with one thread: ${reason.message}`, error);
    return openSingle(onOneThread(choice, reason.message), host);
  }
}

/** @param {Choice} choice @param {BuildHost} host */
function folderOf({ build }, { pkgUrl }) {
  return new URL(`${build}/`, pkgUrl);
}

/** @param {URL} folder @param {BuildHost} host @returns {Promise<[WasmModule, Response]>} */
function files(folder, { importModule, signal }) {
  const wasmUrl = new URL("smollm_web_bg.wasm", folder).href;
  const fetched = fetch(wasmUrl, { signal }).then((response) => {
    if (response.ok) return response;
    throw new SmolLMError("http_status", `smollm_web_bg.wasm: the server answered status ${response.status} for ${wasmUrl}`);
  });
  return Promise.all([importModule(new URL("smollm_web.js", folder).href), fetched]);
}

/** Streaming needs the right MIME type, which not every host knows. @param {Response} response */
async function compile(response) {
  return response.headers.get("Content-Type")?.startsWith("application/wasm")
    ? WebAssembly.compileStreaming(response)
    : WebAssembly.compile(await response.arrayBuffer());
}

/** @param {unknown} error @param {URL} folder @param {BuildHost} host */
function failure(error, folder, { signal }) {
  return signal.aborted
    ? abortError(signal, "loading the engine")
    : toSmolLMError(error, "network", `the engine's files at ${folder.href}`);
}
