/**
 * What the machine allows in this browser: benches/limits in as many workers as there are threads, all at
 * once, each with a memory of its own.
 *
 * @param {{ threads: number }} options
 */
export async function open({ threads }) {
  const workers = await Promise.all(Array.from({ length: threads }, startWorker));
  return {
    /** Multiply-adds or bytes per second of all workers together. @param {string} what */
    run: async (what) => {
      const rates = await Promise.all(workers.map((worker) => worker(what)));
      return rates.reduce((sum, rate) => sum + rate, 0);
    },
  };
}

async function startWorker() {
  const worker = new Worker("/engines/limits.worker.js", { type: "module" });
  /** @param {unknown} message @returns {Promise<any>} */
  const ask = (message) => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (typeof data === "object" ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(message);
  });
  await ask("load");
  return ask;
}
