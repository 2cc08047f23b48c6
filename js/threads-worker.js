/** A thread's entry: joins the engine's module and memory, and computes until it is terminated. */

/** Bytes of stack: kernels keep nothing large there. */
const STACK = 1 << 18;

/** @type {any} */
const host = globalThis;

host.onmessage = (/** @type {{ data: { port: MessagePort } }} */ { data: { port } }) => {
  port.onmessage = ({ data }) => void run(data, port);
};

/** @param {import("./threads.js").ThreadStart} start @param {MessagePort} port to the engine's worker */
async function run({ index, glueUrl, module, memory }, port) {
  /** @type {any} */
  let wasm;
  try {
    wasm = await import(/* @vite-ignore */ /* webpackIgnore: true */ glueUrl);
    wasm.initSync({ module, memory, thread_stack_size: STACK });
  } catch (error) {
    port.postMessage({ failed: String(error) });
    return;
  }
  port.postMessage({ ready: true });
  try {
    wasm.run_kernel_worker(index);
  } catch (error) {
    // It never returns, so it trapped: whoever waits for its work must not do so for ever.
    wasm.kernel_worker_died();
    host.reportError(error);
  }
}
