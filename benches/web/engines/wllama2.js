/**
 * wllama 2: llama.cpp in wasm, asked by its low-level calls, so that drawing a token costs it nothing here.
 *
 * @param {import("./types.js").OpenOptions} options
 * @returns {Promise<import("./types.js").Engine>}
 */
export async function open({ weights, threads, contextLength }) {
  const { Wllama } = await import("/peers/wllama-2/esm/index.js");
  const wllama = new Wllama({
    "single-thread/wllama.wasm": "/peers/wllama-2/esm/single-thread/wllama.wasm",
    "multi-thread/wllama.wasm": "/peers/wllama-2/esm/multi-thread/wllama.wasm",
  }, { suppressNativeLog: true });
  const blob = await (await fetch(weights)).blob();
  const began = performance.now();
  await wllama.loadModel([blob], { n_ctx: contextLength, n_threads: threads });
  const loadMs = performance.now() - began;

  /** @type {number[]} */
  let cached = [];
  return {
    info: { version: Wllama.getLibllamaVersion(), threads: wllama.getNumThreads(), loadMs },
    tokenize: (text) => wllama.tokenize(text, false),
    async run({ ids, generate, keep }) {
      const kept = keep ? commonPrefix(cached, ids) : 0;
      if (kept > 0) await wllama.kvRemove(kept, cached.length - kept);
      else await wllama.kvClear();
      const start = performance.now();
      await wllama.decode(ids.slice(kept), {});
      const prefillMs = performance.now() - start;
      // Any token does: what a step costs does not depend on which one it is.
      const answer = ids.slice(0, generate);
      const decodeStart = performance.now();
      for (const id of answer) await wllama.decode([id], {});
      const decodeMs = performance.now() - decodeStart;
      cached = [...ids, ...answer];
      return { prefilled: ids.length - kept, prefillMs, decoded: answer.length, decodeMs };
    },
    close: () => wllama.exit(),
  };
}

/** @param {readonly number[]} a @param {readonly number[]} b at least one token of `b` is left to evaluate */
function commonPrefix(a, b) {
  let n = 0;
  while (n < a.length && n < b.length - 1 && a[n] === b[n]) n++;
  return n;
}
