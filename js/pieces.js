/**
 * A large file over HTTP: in pieces, several on their way at once, in order to whoever reads them, each kept block by
 * block as it comes (partial.js) and taken up where an earlier visit stopped. From a server without ranges, in one go.
 */
import { PARALLEL, ahead } from "./ahead.js";
import { Transfer, connect, hasChanged } from "./download.js";
import { SmolLMError } from "./errors.js";
import { BLOCK } from "./partial.js";

/** @typedef {import("./partial.js").Partial} Partial */
/** @typedef {import("./download.js").DownloadOptions} DownloadOptions */

const LARGEST_PIECE = 8 << 20;
/** A file has at least so many pieces, blocks being the smallest. */
const PIECES = 16;

/**
 * @typedef {object} Arrival told how the bytes come
 * @property {(position: number, cached: boolean) => void} at
 *
 * @typedef {object} RemoteParts
 * @property {number} total bytes, 0 while unknown
 * @property {string} etag
 * @property {AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>} chunks
 */

/**
 * @param {string} url
 * @param {DownloadOptions & { signal: AbortSignal }} options
 * @param {Partial | null} partial where the bytes are kept
 * @param {Arrival["at"]} at
 * @returns {Promise<RemoteParts>}
 */
export async function openInPieces(url, options, partial, at) {
  const first = await connectFirst(url, options, partial);
  const { identity: { total, etag } } = first;
  if (first.ranged) {
    partial?.begin({ total, etag });
    return { total, etag, chunks: pieces(url, options, partial, first, at) };
  }
  partial?.reset();
  return { total, etag, chunks: stream(first, partial, at) };
}

/**
 * So many bytes of a file, those that are kept already from there.
 *
 * @param {string} url
 * @param {DownloadOptions} options with `from`, and with `to` unless the rest of the file is wanted
 * @param {number} length
 * @param {Partial | null} partial
 * @param {Arrival["at"]} at
 * @param {Transfer | null} [connected] the connection to use if it begins where the kept bytes end
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function fetchRange(url, options, length, partial, at, connected) {
  const { from = 0, to, name } = options;
  const buffer = new Uint8Array(length);
  let done = await partial?.read(from, buffer) ?? 0;
  if (done > 0) at(done, true);
  if (done === length) return buffer;
  const transfer = connected && connected.options.from === from + done ? connected
    : await connect(url, { ...options, from: from + done });
  let kept = done;
  try {
    for await (const chunk of transfer.bytes()) {
      if (!to && chunk.length > length - done) throw new SmolLMError("integrity", `${name}: more than the ${length} bytes expected`);
      const fitting = chunk.subarray(0, length - done);
      buffer.set(fitting, done);
      done += fitting.length;
      for (; done - kept >= BLOCK; kept += BLOCK) partial?.keep(from + kept, buffer.subarray(kept, kept + BLOCK));
      at(done, false);
      if (to && done === length) break;
    }
  } finally {
    if (done > kept) partial?.keep(from + kept, buffer.subarray(kept, done));
  }
  if (done < length) throw new SmolLMError("integrity", `${name}: ${from + done} bytes arrived, ${from + length} expected`);
  return buffer;
}

/**
 * The first connection tells length, version, and whether there are ranges; it asks for the first byte that is missing,
 * because only what is still the server's may be taken from here.
 *
 * @param {string} url @param {DownloadOptions} options @param {Partial | null} partial
 */
async function connectFirst(url, options, partial) {
  if (partial?.identity && !partial.identity.etag) partial.reset();
  const kept = partial?.identity;
  if (kept && partial) {
    const { total } = kept;
    const from = Math.min(partial.gap, total - 1);
    const [, to] = grid(total).find(([, end]) => from < end) ?? [0, total];
    try {
      const transfer = await connect(url, { ...options, from, to, identity: kept });
      if (transfer.ranged) return transfer;
      transfer.close();
    } catch (error) {
      if (!hasChanged(error)) throw error;
      options.onRetry?.({ attempt: 1, offset: 0, error: /** @type {any} */ (error) });
    }
    partial.reset();
  }
  const transfer = await connect(url, { ...options, from: 0, to: BLOCK });
  if (!transfer.ranged || transfer.identity.total) return transfer;
  // A range whose place in the file we are not told (CORS hides Content-Range).
  transfer.close();
  return connect(url, options);
}

/**
 * The pieces of a file: always the same for the same length, so that kept blocks fit them. The first is a block, as it
 * is asked for before the length is known.
 *
 * @param {number} total @returns {[number, number][]} from, to
 */
export function grid(total) {
  const size = Math.min(LARGEST_PIECE, Math.max(1, Math.ceil(total / PIECES / BLOCK)) * BLOCK);
  /** @type {[number, number][]} */
  const all = [[0, Math.min(BLOCK, total)]];
  for (let from = BLOCK; from < total; from += size) all.push([from, Math.min(from + size, total)]);
  return all;
}

/**
 * @param {string} url @param {DownloadOptions & { signal: AbortSignal }} options @param {Partial | null} partial
 * @param {Transfer} first @param {Arrival["at"]} at
 * @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>}
 */
async function* pieces(url, options, partial, first, at) {
  const { identity } = first;
  const stop = new AbortController();
  const abort = () => stop.abort(options.signal.reason);
  options.signal.addEventListener("abort", abort, { once: true });
  /** @type {Promise<unknown>[]} */
  const started = [];
  let position = 0;
  /** @type {Map<number, number>} */
  const reached = new Map();
  try {
    for await (const [, bytes] of ahead(grid(identity.total), PARALLEL, ([from, to]) => {
      const piece = fetchRange(url, { ...options, from, to, identity, signal: stop.signal }, to - from, partial, (done, cached) => {
        position += done - (reached.get(from) ?? 0);
        reached.set(from, done);
        at(position, cached);
      }, first);
      started.push(piece);
      return piece;
    })) yield bytes;
  } finally {
    options.signal.removeEventListener("abort", abort);
    first.close();
    // What is on its way has to end before its file is closed.
    stop.abort();
    await Promise.allSettled(started);
  }
}

/**
 * @param {Transfer} transfer @param {Partial | null} partial @param {Arrival["at"]} at
 * @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>}
 */
async function* stream(transfer, partial, at) {
  let done = 0;
  for await (const chunk of transfer.bytes()) {
    const bytes = /** @type {Uint8Array<ArrayBuffer>} */ (chunk);
    partial?.write(done, bytes);
    done += bytes.length;
    at(done, false);
    yield bytes;
  }
}
