/**
 * Several tabs that want the same file: one fetches it, and tells the others how far it is; they wait, and read what it
 * stored, or go on where it stopped. Web Locks end with the tab that holds them, however it ends.
 */
import { abortError, throwIfAborted } from "./errors.js";

/**
 * @typedef {object} Turn
 * @property {(bytes: number) => void} tell how far it is
 * @property {() => void} end
 */

/** Silence of the one who fetches after which the others go on by themselves. */
const PATIENCE_MS = 30_000;
/** Others need not hear of every chunk. */
const TELL_MS = 100;

/**
 * Waits until nobody else in this browser fetches the file.
 *
 * @param {string} url
 * @param {object} how
 * @param {AbortSignal} how.signal
 * @param {(bytes: number) => void} how.onNews how far the one is who fetches it
 * @param {number} [how.patienceMs]
 * @returns {Promise<Turn | null>} null where whoever fetches it is silent: then do without storing it
 */
export async function takeTurn(url, { signal, onNews, patienceMs = PATIENCE_MS }) {
  const locks = globalThis.navigator?.locks;
  const what = "waiting for another tab";
  throwIfAborted(signal, what);
  // Without locks the first who opens the file for writing has it, and the others store nothing.
  if (!locks || typeof BroadcastChannel === "undefined") return { tell() {}, end() {} };

  const name = `smollm-web ${url}`;
  const channel = new BroadcastChannel(name);
  const giveUp = new AbortController();
  const abort = () => giveUp.abort();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(abort, patienceMs);
  };
  channel.onmessage = ({ data }) => {
    wait();
    onNews(Number(data) || 0);
  };
  signal.addEventListener("abort", abort, { once: true });
  wait();
  try {
    /** @type {() => void} */
    const release = await new Promise((resolve, reject) => {
      locks.request(name, { signal: giveUp.signal }, () => new Promise((end) => resolve(() => end(undefined)))).catch(reject);
    });
    channel.onmessage = null;
    let told = -Infinity;
    return {
      tell(bytes) {
        const now = performance.now();
        if (now - told < TELL_MS) return;
        told = now;
        channel.postMessage(bytes);
      },
      end() {
        release();
        channel.close();
      },
    };
  } catch {
    channel.close();
    if (signal.aborted) throw abortError(signal, what);
    return null;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}
