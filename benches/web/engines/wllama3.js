/**
 * wllama 3: llama.cpp's server in wasm, on the CPU alone; the times are the ones it reports itself.
 *
 * @param {import("./types.js").OpenOptions} options
 * @returns {Promise<import("./types.js").Engine>}
 */
export async function open({ weights, threads, contextLength }) {
  const { Wllama } = await import("/peers/wllama-3/esm/index.js");
  const wllama = new Wllama({ default: "/peers/wllama-3/esm/wasm/wllama.wasm" }, { suppressNativeLog: true });
  const blob = await (await fetch(weights)).blob();
  const began = performance.now();
  await wllama.loadModel([blob], { n_ctx: contextLength, n_threads: threads, n_gpu_layers: 0, n_parallel: 1 });
  const loadMs = performance.now() - began;
  return {
    info: { version: Wllama.getLibllamaVersion(), threads: wllama.getNumThreads(), loadMs },
    async run({ text, generate, keep }) {
      const { timings } = await wllama.createCompletion({
        prompt: text, max_tokens: generate + 1, temperature: 0, top_k: 1, ignore_eos: true, cache_prompt: keep,
      });
      if (!timings) throw new Error("wllama 3: no timings in the answer");
      return {
        prefilled: timings.prompt_n, prefillMs: timings.prompt_ms,
        // The first token comes with the prompt.
        decoded: timings.predicted_n - 1, decodeMs: timings.predicted_ms,
      };
    },
    close: () => wllama.exit(),
  };
}
