/**
 * One file over HTTP as a stream of bytes that is whole or an error: the status is looked at before
 * the body, the first bytes before anything is passed on, a broken connection goes on by byte range
 * where it stopped, and length and SHA-256 are compared at the end.
 */
import { SmolLMError, abortError, throwIfAborted } from "./errors.js";
import { Sha256 } from "./sha256.js";
import { SNIFF_BYTES, checkContent } from "./sniff.js";

/**
 * @typedef {object} DownloadOptions
 * @property {string} name for messages
 * @property {import("./sniff.js").FileKind} kind
 * @property {number} [bytes] the promised length
 * @property {string} [sha256] the promised hash, lower-case hex
 * @property {AbortSignal} [signal]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [stallMs] silence after which a connection counts as broken
 * @property {number} [retries] attempts in a row that may bring nothing
 * @property {number} [backoffMs] the first pause between attempts; doubles
 * @property {(info: { attempt: number, offset: number, error: SmolLMError }) => void} [onRetry]
 * @property {() => void} [onVerify] called when the last byte is there and the hash is compared
 *
 * @typedef {object} Download
 * @property {number} total bytes, 0 where the server does not say
 * @property {string} etag the server's validator, or ""
 * @property {AsyncGenerator<Uint8Array, void, void>} body
 */

/** Statuses that may pass by themselves. */
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);

/**
 * Asks for the file. Rejects with `http_status`, `network`, `integrity` or `aborted` when there is
 * no answer to read from; everything later is thrown while reading `body`.
 *
 * @param {string} url
 * @param {DownloadOptions} options
 * @returns {Promise<Download>}
 */
export async function download(url, options) {
  const transfer = new Transfer(url, options);
  await transfer.connect();
  return { total: transfer.total, etag: transfer.etag, body: transfer.bytes() };
}

/**
 * A small text file, whole.
 *
 * @param {string} url
 * @param {DownloadOptions & { optional?: boolean, maxBytes?: number }} options `optional`: a file
 *   that is not there, or an HTML page in its place, is `null` instead of an error
 * @returns {Promise<string | null>}
 */
export async function downloadText(url, options) {
  try {
    const { body } = await download(url, options);
    const limit = options.maxBytes ?? 64 << 20;
    const decoder = new TextDecoder("utf-8");
    let text = "", bytes = 0;
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes > limit) throw new SmolLMError("not_a_model", `${options.name}: longer than ${limit} bytes`);
      text += decoder.decode(chunk, { stream: true });
    }
    return text + decoder.decode();
  } catch (error) {
    const absent = error instanceof SmolLMError && (error.code === "not_a_model"
      || (error.code === "http_status" && /status (404|410|403)\b/.test(error.message)));
    if (options.optional && absent) return null;
    throw error;
  }
}

const BACKOFF_MS = 250;
const LONGEST_PAUSE_MS = 30_000;

class Transfer {
  total = 0;
  etag = "";
  /** Bytes passed on so far. */
  #offset = 0;
  /** Bytes of the current response that were passed on before already. */
  #skip = 0;
  /** @type {ReadableStreamDefaultReader<Uint8Array> | null} */
  #reader = null;
  /** Cuts the current connection, whether the caller or the stall timer asks. */
  #cut = new AbortController();

  /** @param {string} url @param {DownloadOptions} options */
  constructor(url, options) {
    this.url = url;
    this.options = options;
  }

  /** Connects, with retries, so that the next byte read is the one at `#offset`. */
  async connect() {
    const { retries = 4, backoffMs = BACKOFF_MS, signal } = this.options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#request();
      } catch (thrown) {
        const error = this.#explain(thrown);
        if (!(/** @type {any} */ (error).transient) || attempt > retries) throw error;
        this.options.onRetry?.({ attempt, offset: this.#offset, error });
        const pause = /** @type {any} */ (error).retryAfterMs ?? pauseMs(backoffMs, attempt);
        await sleep(Math.min(pause, LONGEST_PAUSE_MS), signal, this.options.name);
      }
    }
  }

  async *bytes() {
    const { name, kind, sha256, signal, retries = 4, backoffMs = BACKOFF_MS, onRetry } = this.options;
    const hash = sha256 ? new Sha256() : null;
    /** @type {Uint8Array | null} */
    let head = new Uint8Array(0);
    let fruitless = 0;
    try {
      for (;;) {
        let chunk;
        try {
          chunk = await this.#read();
          if (!chunk && this.total && this.#offset + (head?.length ?? 0) < this.total) {
            throw transient(new SmolLMError("integrity",
              `${name}: truncated at ${this.#offset + (head?.length ?? 0)} of ${this.total} bytes`));
          }
        } catch (thrown) {
          const error = this.#explain(thrown);
          if (!(/** @type {any} */ (error).transient) || ++fruitless > retries) throw error;
          onRetry?.({ attempt: fruitless, offset: this.#offset, error });
          // What was held back for sniffing was not passed on, so the range starts before it.
          if (head) head = new Uint8Array(0);
          // A connection that brought something is taken up at once; one that brings nothing again and again gets time.
          if (fruitless > 1) await sleep(pauseMs(backoffMs, fruitless - 1), signal, name);
          await this.connect();
          continue;
        }
        if (head) {
          if (chunk) head = concat(head, chunk);
          if (chunk && head.length < SNIFF_BYTES) continue;
          checkContent(head, kind, name);
          const first = head;
          head = null;
          hash?.update(first);
          this.#offset += first.length;
          yield first;
          if (!chunk) break;
        } else if (chunk) {
          hash?.update(chunk);
          this.#offset += chunk.length;
          fruitless = 0;
          yield chunk;
        } else {
          break;
        }
        throwIfAborted(signal, `downloading ${name}`);
      }
      this.#verify(hash);
    } finally {
      this.#cut.abort();
    }
  }

  /** @param {Sha256 | null} hash */
  #verify(hash) {
    const { name, bytes, sha256 } = this.options;
    // More bytes than Content-Length: a content coding that CORS hides from us.
    if (bytes ? this.#offset !== bytes : this.#offset < this.total) {
      throw new SmolLMError("integrity",
        `${name}: ${this.#offset} bytes arrived, ${bytes || this.total} expected`);
    }
    if (!hash) return;
    this.options.onVerify?.();
    const found = hash.hex();
    if (found !== sha256) {
      throw new SmolLMError("integrity", `${name}: sha-256 is ${found}, expected ${sha256}`);
    }
  }

  async #request() {
    const { name, signal, fetch = globalThis.fetch } = this.options;
    throwIfAborted(signal, `downloading ${name}`);
    this.#cut.abort();
    const cut = this.#cut = new AbortController();
    const onAbort = () => cut.abort();
    signal?.addEventListener("abort", onAbort, { once: true });
    cut.signal.addEventListener("abort", () => signal?.removeEventListener("abort", onAbort), { once: true });

    // `no-store`: the files have a cache of their own (store.js); a second copy in the HTTP cache
    // would cost the visitor's disk twice.
    const response = await this.#timed(fetch(this.url, {
      signal: cut.signal,
      cache: "no-store",
      headers: this.#offset > 0 ? { Range: `bytes=${this.#offset}-` } : {},
    }));
    if (!response.ok) {
      await response.body?.cancel().catch(() => {});
      throw statusError(response, name);
    }
    this.#accept(response);
    this.#reader = response.body ? response.body.getReader() : null;
  }

  /** Takes length and validator from the first answer; holds every later one against them. */
  #accept(/** @type {Response} */ response) {
    const { name, bytes } = this.options;
    const header = (/** @type {string} */ h) => response.headers.get(h) ?? "";
    const etag = header("etag") || header("last-modified");
    const partial = response.status === 206;
    // With a content coding, Content-Length counts coded bytes and says nothing about ours.
    const length = header("content-encoding") ? 0 : Number(header("content-length")) || 0;
    const total = partial ? Number(/\/(\d+)$/.exec(header("content-range"))?.[1]) || 0 : length;

    if (this.#offset === 0) {
      this.total = total || bytes || 0;
      this.etag = etag;
    } else if ((etag && this.etag && etag !== this.etag) || (total && this.total && total !== this.total)) {
      throw new SmolLMError("integrity", `${name}: changed on the server while it was downloaded`);
    }
    if (bytes && total && total !== bytes) {
      throw new SmolLMError("integrity", `${name}: the server offers ${total} bytes, ${bytes} expected`);
    }
    const from = partial ? Number(/bytes (\d+)-/.exec(header("content-range"))?.[1] ?? this.#offset) : 0;
    if (from > this.#offset) {
      throw new SmolLMError("integrity", `${name}: the server skipped bytes ${this.#offset} to ${from}`);
    }
    this.#skip = this.#offset - from;
  }

  /** @returns {Promise<Uint8Array | null>} the next bytes nobody has seen, or null at the end */
  async #read() {
    for (;;) {
      if (!this.#reader) return null;
      const { done, value } = await this.#timed(this.#reader.read());
      if (done) return null;
      if (this.#skip >= value.length) {
        this.#skip -= value.length;
        continue;
      }
      const fresh = this.#skip > 0 ? value.subarray(this.#skip) : value;
      this.#skip = 0;
      if (fresh.length > 0) return fresh;
    }
  }

  /** @template T @param {Promise<T>} promise @returns {Promise<T>} */
  async #timed(promise) {
    const { name, stallMs = 30_000 } = this.options;
    const cut = this.#cut;
    let onCut = () => {};
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const broken = new Promise((_, reject) => {
      // Not left to the fetch alone: a stream that hangs may not notice.
      onCut = () => reject(new DOMException("the connection was cut", "AbortError"));
      cut.signal.addEventListener("abort", onCut, { once: true });
      timer = setTimeout(() => {
        reject(transient(new SmolLMError("network", `${name}: no byte for ${stallMs / 1000} s`)));
        cut.abort();
      }, stallMs);
    });
    try {
      return /** @type {T} */ (await Promise.race([promise, broken]));
    } finally {
      clearTimeout(timer);
      cut.signal.removeEventListener("abort", onCut);
    }
  }

  /** @param {unknown} thrown */
  #explain(thrown) {
    const { name, signal } = this.options;
    if (signal?.aborted) return abortError(signal, `downloading ${name}`);
    if (thrown instanceof SmolLMError) return thrown;
    const place = this.#offset > 0 ? `connection lost at byte ${this.#offset}` : "no connection";
    return transient(new SmolLMError("network", `${name}: ${place} (${this.url})`, { cause: thrown }));
  }
}

/** The pause after the `attempt`-th failure in a row. @param {number} backoffMs @param {number} attempt */
function pauseMs(backoffMs, attempt) {
  return Math.min(backoffMs * 2 ** (attempt - 1), LONGEST_PAUSE_MS);
}

/** @template {SmolLMError} E @param {E} error @param {number} [retryAfterMs] @returns {E} */
function transient(error, retryAfterMs) {
  // Not enumerable: how the download goes on is nobody's business outside this file.
  Object.defineProperty(error, "transient", { value: true });
  if (retryAfterMs !== undefined) Object.defineProperty(error, "retryAfterMs", { value: retryAfterMs });
  return error;
}

/** @param {Response} response @param {string} name */
function statusError(response, name) {
  if (response.status === 416) {
    return new SmolLMError("integrity", `${name}: changed on the server while it was downloaded`);
  }
  const error = new SmolLMError("http_status",
    `${name}: the server answered status ${response.status} for ${response.url}`);
  if (!TRANSIENT.has(response.status)) return error;
  const after = response.headers.get("retry-after");
  const seconds = after === null ? NaN : /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - Date.now()) / 1000;
  return transient(error, Number.isFinite(seconds) ? Math.max(0, seconds * 1000) : undefined);
}

/** @param {Uint8Array} a @param {Uint8Array} b */
function concat(a, b) {
  if (a.length === 0) return b;
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** @param {number} ms @param {AbortSignal | undefined} signal @param {string} name */
function sleep(ms, signal, name) {
  return /** @type {Promise<void>} */ (new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(abortError(signal, `downloading ${name}`));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  }));
}
