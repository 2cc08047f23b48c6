/**
 * A file over HTTP, or a range of its bytes, as a stream that is whole or an error: the status is looked at before
 * the body, the first bytes before anything is passed on, and a broken connection goes on by byte range where it stopped.
 */
import { SmolLMError, abortError, throwIfAborted } from "./errors.js";
import { SNIFF_BYTES, checkContent } from "./sniff.js";

/**
 * @typedef {{ total: number, etag: string }} Identity which version of a file: its length, 0 while unknown, and the
 *   server's validator (`ETag`, else `Last-Modified`), or ""
 *
 * @typedef {object} DownloadOptions
 * @property {string} name for messages
 * @property {import("./sniff.js").FileKind} kind
 * @property {number} [bytes] the promised length of the whole file
 * @property {number} [from] the first byte wanted
 * @property {number} [to] the byte after the last one wanted; a server without ranges sends everything all the same
 * @property {Identity | null} [identity] the version that is wanted; any, without it
 * @property {Record<string, string>} [headers] e.g. an authorization
 * @property {AbortSignal} [signal]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [stallMs] silence after which a connection counts as broken
 * @property {number} [retries] attempts in a row that may bring nothing
 * @property {number} [backoffMs] the first pause between attempts; doubles
 * @property {(info: { attempt: number, offset: number, error: SmolLMError }) => void} [onRetry]
 */

/** Statuses that may pass by themselves. */
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);
const BACKOFF_MS = 250;
/** A server that wants more time than this is not waited for. */
const LONGEST_PAUSE_MS = 30_000;
const STALL_MS = 30_000;
const RETRIES = 4;

/**
 * Asks for the file. Rejects with `http_status`, `network`, `integrity` or `aborted` when there is no answer to read
 * from; everything later is thrown while reading `bytes()`.
 *
 * @param {string} url
 * @param {DownloadOptions} options
 */
export async function connect(url, options) {
  const transfer = new Transfer(url, options);
  await transfer.connect();
  return transfer;
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
    const transfer = await connect(url, options);
    const limit = options.maxBytes ?? 64 << 20;
    const decoder = new TextDecoder("utf-8");
    let text = "", bytes = 0;
    for await (const chunk of transfer.bytes()) {
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

/** Whether the file is no longer the version that was asked for. @param {unknown} error */
export function hasChanged(error) {
  return Boolean(/** @type {any} */ (error)?.changed);
}

/** One connection at a time, and as many in a row as it takes. Made by `connect`. */
export class Transfer {
  /** What the first answer said, or the caller before it. @type {Identity} */
  identity;
  /** Whether the first answer was a range, so that others can be asked for. */
  ranged = false;
  /** Bytes before this one were passed on, or are not wanted. */
  #offset;
  /** The byte after the last one wanted, 0 while that is unknown. */
  #end = 0;
  /** Bytes of the current response that were passed on before already. */
  #skip = 0;
  /** Whether an answer came with a content coding: ranges would count other bytes. */
  #coded = false;
  #answered = false;
  /** Whether to ask for no range: some servers, and some browsers before another origin, refuse them. */
  #plain = false;
  #closed = false;
  /** @type {ReadableStreamDefaultReader<Uint8Array> | null} */
  #reader = null;
  /** Cuts the current connection, whether the caller or the stall timer asks. */
  #cut = new AbortController();

  /** @param {string} url @param {DownloadOptions} options */
  constructor(url, options) {
    this.url = url;
    this.options = options;
    this.identity = options.identity ?? { total: 0, etag: "" };
    this.#offset = options.from ?? 0;
  }

  /** Connects, with retries, so that the next byte read is the one wanted. */
  async connect() {
    const { retries = RETRIES, backoffMs = BACKOFF_MS, signal } = this.options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#request();
      } catch (thrown) {
        if (thrown instanceof TypeError && this.#offset === 0 && this.options.to && !this.#answered && !this.#plain) {
          this.#plain = true;
          continue;
        }
        const error = await this.#explain(thrown);
        if (!(/** @type {any} */ (error).transient) || attempt > retries) throw error;
        this.options.onRetry?.({ attempt, offset: this.#offset, error });
        await sleep(/** @type {any} */ (error).retryAfterMs ?? pauseMs(backoffMs, attempt), signal, this.options.name);
      }
    }
  }

  /** @returns {AsyncGenerator<Uint8Array, void, void>} the bytes wanted, each once */
  async *bytes() {
    const { name, kind, signal, from = 0, retries = RETRIES, backoffMs = BACKOFF_MS, onRetry } = this.options;
    /** What is held back until there is enough to look at. @type {Uint8Array | null} */
    let head = from === 0 ? new Uint8Array(0) : null;
    let fruitless = 0;
    try {
      while (!this.#bounded() || this.#offset < this.#end) {
        let chunk;
        try {
          chunk = await this.#read();
          const seen = this.#offset + (head?.length ?? 0);
          if (!chunk && seen < this.#end) {
            throw transient(new SmolLMError("integrity", `${name}: truncated at ${seen} of ${this.#end} bytes`));
          }
        } catch (thrown) {
          const error = await this.#explain(thrown);
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
          if (chunk && head.length < SNIFF_BYTES && !(this.#bounded() && head.length >= this.#end)) continue;
          checkContent(head, kind, name);
        } else if (chunk) {
          fruitless = 0;
        }
        const ready = head ?? chunk;
        head = null;
        if (ready) {
          const wanted = this.#bounded() ? ready.subarray(0, this.#end - this.#offset) : ready;
          this.#offset += wanted.length;
          yield wanted;
        }
        if (!chunk) break;
        throwIfAborted(signal, `downloading ${name}`);
      }
      this.#checkLength();
    } finally {
      this.close();
    }
  }

  /** Ends the connection, and opens no other. */
  close() {
    this.#closed = true;
    this.#cut.abort();
  }

  /** Whether the bytes end where they were asked to; else where the answer ends. */
  #bounded() {
    return this.ranged && Boolean(this.options.to);
  }

  #checkLength() {
    const { name, bytes, from = 0, to } = this.options;
    if (from > 0 || to) return;
    // More bytes than Content-Length: a content coding that CORS hides from us.
    if (bytes ? this.#offset !== bytes : this.#offset < this.identity.total) {
      throw new SmolLMError("integrity",
        `${name}: ${this.#offset} bytes arrived, ${bytes || this.identity.total} expected`);
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
    const response = await this.#timed(fetch(this.url, { signal: cut.signal, cache: "no-store", headers: this.#headers() }));
    if (!response.ok) {
      await response.body?.cancel().catch(() => {});
      throw statusError(response, name);
    }
    this.#accept(response);
    this.#reader = response.body ? response.body.getReader() : null;
  }

  #headers() {
    const { to, headers } = this.options;
    /** @type {Record<string, string>} */
    const all = { ...headers };
    if ((this.#offset === 0 && !to) || this.#coded || this.#plain) return all;
    all.Range = `bytes=${this.#offset}-${to ? to - 1 : ""}`;
    const { etag } = this.identity;
    // To another origin this header would need the server's leave; there the answer's validator has to do.
    if (this.#offset > 0 && etag && !etag.startsWith("W/") && !isForeign(this.url)) all["If-Range"] = etag;
    return all;
  }

  /** Takes length and validator from the first answer; holds every later one against them. */
  #accept(/** @type {Response} */ response) {
    const { name, bytes, to } = this.options;
    const header = (/** @type {string} */ h) => response.headers.get(h) ?? "";
    const etag = header("etag") || header("last-modified");
    const partial = response.status === 206;
    this.#coded = header("content-encoding") !== "";
    // With a content coding, Content-Length counts coded bytes and says nothing about ours.
    const length = this.#coded ? 0 : Number(header("content-length")) || 0;
    const total = partial ? Number(/\/(\d+)$/.exec(header("content-range"))?.[1]) || 0 : length;

    const known = this.identity;
    if ((etag && known.etag && etag !== known.etag) || (total && known.total && total !== known.total)) {
      throw changedError(name);
    }
    if (bytes && total && total !== bytes) {
      if (/^text\/html\b/i.test(header("content-type"))) throw new SmolLMError("not_a_model", `${name}: found an HTML page in its place`);
      throw new SmolLMError("integrity", `${name}: the server offers ${total} bytes, ${bytes} expected`);
    }
    this.identity = { total: known.total || total || bytes || 0, etag: known.etag || etag };
    if (!this.#answered) this.ranged = partial;
    this.#answered = true;
    this.#end = this.#bounded() ? Math.min(Number(to), this.identity.total || Number(to)) : this.identity.total;

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
    const { name, stallMs = STALL_MS } = this.options;
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
  async #explain(thrown) {
    const { name, signal } = this.options;
    if (signal?.aborted || this.#closed) return abortError(signal, `downloading ${name}`);
    if (thrown instanceof SmolLMError) return thrown;
    const options = { cause: thrown };
    if (this.#answered) return transient(new SmolLMError("network", `${name}: connection lost at byte ${this.#offset} (${this.url})`, options));
    if (!isForeign(this.url)) return transient(new SmolLMError("network", `${name}: no connection (${this.url})`, options));
    // Browsers do not say whether a server is not there or only does not let this page read its answers.
    if (await answersUnread(this.url)) {
      return new SmolLMError("network",
        `${name}: ${this.url} answers, but lets no other site read it: it has to send Access-Control-Allow-Origin (CORS)`, options);
    }
    return transient(new SmolLMError("network", `${name}: no connection to another site, or no leave to read from it: the server may `
      + `be down or send no Access-Control-Allow-Origin (CORS), or this page's connect-src may not name it (${this.url})`, options));
  }
}

/** @param {string} url */
function isForeign(url) {
  const here = globalThis.location?.origin;
  return Boolean(here) && /^https?:/.test(url) && new URL(url).origin !== here;
}

/** Whether a server is there that a page may not read from. @param {string} url */
async function answersUnread(url) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), 5000);
  try {
    await fetch(url, { mode: "no-cors", method: "HEAD", cache: "no-store", signal: stop.signal });
    return true;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
  }
}

/** The pause after the `attempt`-th failure in a row; not the same for all, as failures come together. @param {number} backoffMs @param {number} attempt */
function pauseMs(backoffMs, attempt) {
  return Math.min(backoffMs * 2 ** (attempt - 1), LONGEST_PAUSE_MS) * (0.75 + Math.random() / 2);
}

/** @template {SmolLMError} E @param {E} error @param {number} [retryAfterMs] @returns {E} */
function transient(error, retryAfterMs) {
  // Not enumerable: how the download goes on is nobody's business outside this file.
  Object.defineProperty(error, "transient", { value: true });
  if (retryAfterMs !== undefined) Object.defineProperty(error, "retryAfterMs", { value: retryAfterMs });
  return error;
}

/** @param {string} name */
function changedError(name) {
  const error = new SmolLMError("integrity", `${name}: changed on the server while it was downloaded`);
  Object.defineProperty(error, "changed", { value: true });
  return error;
}

/** @param {Response} response @param {string} name */
function statusError(response, name) {
  const { status } = response;
  if (status === 416) return changedError(name);
  const after = response.headers.get("retry-after");
  const seconds = after === null ? NaN : /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - Date.now()) / 1000;
  const pause = Number.isFinite(seconds) ? Math.max(0, seconds * 1000) : undefined;
  const asked = pause !== undefined && pause > LONGEST_PAUSE_MS ? `; it asks to be left alone for ${Math.ceil(pause / 1000)} s` : "";
  const error = new SmolLMError("http_status", `${name}: the server answered status ${status} for ${response.url}${asked}`);
  return TRANSIENT.has(status) && !asked ? transient(error, pause) : error;
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
