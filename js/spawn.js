/** Starts the package's workers, wherever the package lies. */
import { SmolLMError } from "./errors.js";

/**
 * @typedef {object} WorkerLike a Worker, or something like it
 * @property {(message: any, transfer?: any) => void} postMessage
 * @property {(type: any, listener: (event: any) => void) => void} addEventListener
 * @property {() => unknown} terminate
 */

/**
 * @param {URL} url of a module of this package
 * @param {string} name what debuggers show
 * @returns {WorkerLike}
 */
export function spawnWorker(url, name) {
  if (typeof Worker === "undefined") {
    throw new SmolLMError("unsupported_browser", "there are no Workers here");
  }
  // A worker's script must be of its creator's own origin; a package on another host is imported by
  // a one-line script that is.
  const foreign = globalThis.location && url.origin !== globalThis.location.origin && url.protocol.startsWith("http");
  const script = foreign
    ? URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" }))
    : url;
  return new Worker(script, { type: "module", name });
}
