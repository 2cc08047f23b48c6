/**
 * Candle's own quantized_llama (benches/candle-web), in a worker as any app would have it.
 *
 * @param {import("./types.js").OpenOptions} options
 * @returns {Promise<import("./types.js").Engine>}
 */
export async function open({ weights }) {
  const worker = new Worker("/engines/candle.worker.js", { type: "module" });
  /** @param {unknown} message @returns {Promise<any>} */
  const ask = (message) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ("error" in data ? reject(new Error(`candle: ${data.error}`)) : resolve(data));
    worker.onerror = ({ message }) => reject(new Error(`candle: ${message}`));
    worker.postMessage(message);
  });
  const info = await ask({ weights });
  return {
    info,
    run: ({ ids, generate }) => ask({ ids, generate }),
    close: async () => worker.terminate(),
  };
}
