/** What the machine allows in the browser, and how much of it the engine uses. */
import { rate } from "./schedule.mjs";

export const LIMITS = ["stream", "dot_i16", "dot_i32", "madd_f32"];

/** Multiply-adds of one prompt token of the 135M model, its head left out, which only the last token needs. */
export const BLOCK_PRODUCTS = 106.2e6;
/** Multiply-adds of the head: 49,152 rows of 576. */
export const HEAD_PRODUCTS = 49_152 * 576;

/**
 * @param {import("./browser.mjs").Browser} browser @param {string} url
 * @param {number[]} threadCounts @param {number} runs
 * @returns {Promise<{ threads: number, perSecond: Record<string, number[]> }[]>} bytes or multiply-adds per second, each run
 */
export async function measureLimits(browser, url, threadCounts, runs) {
  const found = [];
  for (const threads of threadCounts) {
    const page = await browser.open(url);
    /** @type {Record<string, number[]>} */
    const perSecond = Object.fromEntries(LIMITS.map((what) => [what, []]));
    await page.evaluate(async (threads) => {
      const { open } = await import(/** @type {string} */ ("/engines/limits.js"));
      Object.assign(globalThis, { opened: await open({ threads }) });
    }, threads);
    for (let i = 0; i < runs; i++) {
      for (const what of LIMITS) {
        perSecond[what].push(await page.evaluate((what) => /** @type {any} */ (globalThis).opened.run(what), what));
      }
    }
    await page.close();
    found.push({ threads, perSecond });
  }
  return found;
}

/**
 * The part of a limit that is in use: of the dot products' peak in prefill, of the streaming read in decode.
 * A limit is the best that was seen, because whatever else the machine does can only make it look lower.
 *
 * @param {{ prefilled: number, prefillMs: number, decoded: number, decodeMs: number }[]} runs
 * @param {Record<string, number[]>} perSecond
 * @param {{ prompt: number, weightBytes: number }} model
 */
export function shares(runs, perSecond, { prompt, weightBytes }) {
  const products = BLOCK_PRODUCTS + HEAD_PRODUCTS / prompt;
  return {
    prefill: (rate(runs, "prefill") * products) / Math.max(...perSecond.dot_i16),
    decode: (rate(runs, "decode") * weightBytes) / Math.max(...perSecond.stream),
  };
}
