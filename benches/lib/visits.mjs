/** What a visitor waits for and downloads: first visit, cold and cached load, first token of a warm turn. */
import { MODEL } from "./engines.mjs";

/**
 * @typedef {import("./browser.mjs").Browser} Browser
 * @typedef {(options?: { onRequest?: (entry: Request) => void }) => Promise<{ url: string, close: () => Promise<void> }>} Serve
 *   the built site on a port of its own, which for the browser is a site it has never seen
 * @typedef {{ method: string, path: string, status: number, bytes: number }} Request
 */

/**
 * From the import of the package to a loaded model: the first time, and again with everything in the cache.
 *
 * @param {Browser} browser @param {Serve} serve @param {number} runs
 */
export async function measureLoads(browser, serve, runs) {
  /** @type {{ coldMs: number[], cachedMs: number[] }} */
  const found = { coldMs: [], cachedMs: [] };
  for (let i = 0; i < runs; i++) {
    const site = await serve();
    const page = await browser.open(`${site.url}bench/`);
    found.coldMs.push(await loadOnce(page, false));
    await page.reload();
    found.cachedMs.push(await loadOnce(page, true));
    await page.close();
    await site.close();
  }
  return found;
}

/** @param {import("./browser.mjs").Page} page @param {boolean} expected whether the weights should come from the cache */
async function loadOnce(page, expected) {
  const { ms, cached } = await page.evaluate(async (model) => {
    const began = performance.now();
    const { SmolLM } = await import(/** @type {string} */ ("/smollm-web/index.js"));
    let cached = false;
    const engine = await SmolLM.load(model, { onProgress: (/** @type {any} */ progress) => { cached ||= progress.cached; } });
    const ms = performance.now() - began;
    await engine.unload();
    return { ms, cached };
  }, MODEL);
  if (cached !== expected) throw new Error(`load: the weights came ${cached ? "from the cache" : "over the network"}`);
  return ms;
}

/**
 * Opens the chat page as a visitor would, waits until it could answer, and adds up what the server sent,
 * headers included.
 *
 * @param {Browser} browser @param {Serve} serve
 */
export async function measureVisit(browser, serve) {
  /** @type {Request[]} */
  const requests = [];
  const site = await serve({ onRequest: (entry) => requests.push(entry) });
  const page = await browser.open(site.url);
  await page.waitForSelector('.engine-pill[data-state="ready"]', { timeout: 120_000 });
  await page.close();
  await site.close();
  /** @type {Record<string, number>} */
  const groups = {};
  for (const { path, bytes } of requests) groups[groupOf(path)] = (groups[groupOf(path)] ?? 0) + bytes;
  return { totalBytes: requests.reduce((sum, { bytes }) => sum + bytes, 0), groups, requests };
}

/** @param {string} path */
function groupOf(path) {
  if (path.startsWith("/models/")) return /\.(gguf|bin|safetensors)$/.test(path) ? "weights" : "tokenizer and manifest";
  if (path.endsWith(".wasm")) return "wasm";
  return path.startsWith("/smollm-web/") ? "package" : "page";
}

/**
 * One conversation that goes on: from the call to the first text of the answer, where the message and the
 * template around it are at most sixteen tokens.
 *
 * @param {import("./engines.mjs").OpenEngine[]} engines of ours
 * @param {number} runs
 */
export async function measureTurns(engines, runs) {
  /** @type {{ id: string, turns: { tokens: number, firstTokenMs: number }[] }[]} */
  const found = engines.map(({ id }) => ({ id, turns: [] }));
  for (let round = -1; round < runs; round++) {
    for (const [i, engine] of engines.entries()) {
      const turn = await engine.call("turn");
      // The first turn begins the conversation.
      if (round >= 0) found[i].turns.push(turn);
    }
  }
  return found;
}
