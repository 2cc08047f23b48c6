/**
 * A file that is still on its way to this device, kept over reloads: its bytes at their places, and a journal of the
 * blocks that are there. A block is written first and noted then, with its SHA-256; a note that was not finished is no
 * note, and a block that is not what its note says is fetched again. So a tab may be killed at any moment. Blocks of a file whose
 * own SHA-256 is compared at its end have none: hashing twice would be felt.
 *
 *   <key>.journal    { url, total, etag }, then a line a block: first byte, bytes, SHA-256 or "-"
 *
 * Nothing here throws: storage that fails costs the copy, not the download.
 */
import { sha256Hex } from "./hash.js";

/**
 * @typedef {import("./download.js").Identity} Identity
 *
 * What workers have and the library's DOM types lack:
 * @typedef {object} SyncAccessHandle
 * @property {(data: Uint8Array<ArrayBuffer>, options?: { at: number }) => number} write
 * @property {(data: Uint8Array<ArrayBuffer>, options?: { at: number }) => number} read
 * @property {() => number} getSize
 * @property {(bytes: number) => void} truncate
 * @property {() => void} flush
 * @property {() => void} close
 *
 * @typedef {{ length: number, sha256: string }} Block `sha256`: UNHASHED where the file's own is compared
 */

/** Bytes of a block: what a killed tab loses of each connection at most. */
export const BLOCK = 128 << 10;
const UNHASHED = "-";

export class Partial {
  /** Which version the blocks are of; null where there are none. @type {Identity | null} */
  identity = null;
  /** By their first byte. @type {Map<number, Block>} */
  #blocks = new Map();
  #hashed = false;
  #journalEnd = 0;
  #failed = false;
  #closed = false;
  /** The byte after the last one written. */
  #end = 0;
  /** Notes that wait for their hash. @type {Set<Promise<void>>} */
  #noting = new Set();

  /**
   * @param {string} url
   * @param {{ data: SyncAccessHandle, journal: SyncAccessHandle }} files both its own until `close`
   * @param {(error: unknown) => void} onFailure told once, if storage fails
   */
  constructor(url, { data, journal }, onFailure) {
    this.url = url;
    this.data = data;
    this.journal = journal;
    this.onFailure = onFailure;
    this.#guard(() => this.#replay());
  }

  /** Keeps nothing from now on. */
  abandon() {
    this.#failed = true;
  }

  /**
   * Says which version is coming. Blocks of another are forgotten.
   * @param {Identity} identity @param {{ hashed?: boolean }} [how] `hashed`: the whole file will be compared with its SHA-256
   */
  begin({ total, etag }, { hashed = false } = {}) {
    this.#hashed = hashed;
    if (this.identity?.total === total && this.identity.etag === etag) return;
    this.reset();
    this.identity = { total, etag };
    this.#note(JSON.stringify({ url: this.url, total, etag }));
  }

  /** Forgets everything. */
  reset() {
    this.identity = null;
    this.#blocks.clear();
    this.#journalEnd = 0;
    this.#end = 0;
    this.#guard(() => {
      this.journal.truncate(0);
      this.data.truncate(0);
    });
  }

  /** Bytes that are there, as far as the journal says. */
  get bytes() {
    let sum = 0;
    for (const { length } of this.#blocks.values()) sum += length;
    return sum;
  }

  /** The first byte that is not there. */
  get gap() {
    let at = 0;
    for (let block; (block = this.#blocks.get(at)); at += block.length);
    return at;
  }

  /**
   * Fills `buffer` with the file's bytes from `from` on, as far as they are there and what their notes say.
   * @param {number} from @param {Uint8Array<ArrayBuffer>} buffer @returns {Promise<number>} how many
   */
  async read(from, buffer) {
    let done = 0;
    while (!this.#failed) {
      const block = this.#blocks.get(from + done);
      if (!block || done + block.length > buffer.length) break;
      const into = buffer.subarray(done, done + block.length);
      const right = this.#guard(() => this.data.read(into, { at: from + done }) === into.length);
      if (!right || (block.sha256 !== UNHASHED && await sha256Hex(into) !== block.sha256)) {
        this.#blocks.delete(from + done);
        break;
      }
      done += block.length;
    }
    return done;
  }

  /** Writes bytes that count only with the whole file. @param {number} at @param {Uint8Array<ArrayBuffer>} bytes */
  write(at, bytes) {
    this.#guard(() => writeAll(this.data, bytes, at));
    this.#end = Math.max(this.#end, at + bytes.length);
  }

  /** Writes a block, and notes it. Its bytes may change after the call. @param {number} at @param {Uint8Array<ArrayBuffer>} bytes */
  keep(at, bytes) {
    if (this.#failed) return;
    this.write(at, bytes);
    /** @param {string} sha256 */
    const note = (sha256) => {
      if (this.#failed) return;
      this.#blocks.set(at, { length: bytes.length, sha256 });
      this.#note(`${at} ${bytes.length} ${sha256}`);
    };
    if (this.#hashed) return note(UNHASHED);
    const noted = sha256Hex(bytes).then(note);
    this.#noting.add(noted);
    void noted.finally(() => this.#noting.delete(noted));
  }

  /** Ends the writing; what is noted stays. */
  async close() {
    await Promise.all(this.#noting);
    if (this.#closed) return;
    this.#closed = true;
    this.data.close();
    this.journal.close();
  }

  /**
   * Ends the writing of a whole file.
   * @returns {Promise<number | null>} its bytes, or null where they could not be written
   */
  async finish() {
    await Promise.all(this.#noting);
    const bytes = this.#guard(() => {
      this.data.truncate(this.#end);
      this.data.flush();
      return this.#end;
    });
    await this.close();
    return bytes ?? null;
  }

  /** What an earlier visit left. */
  #replay() {
    const text = new Uint8Array(this.journal.getSize());
    this.journal.read(text, { at: 0 });
    const { identity, blocks, end } = readJournal(new TextDecoder().decode(text), this.url);
    if (!identity) return;
    this.identity = identity;
    this.#blocks = blocks;
    for (const [at, { length }] of blocks) this.#end = Math.max(this.#end, at + length);
    this.#journalEnd = end;
    this.journal.truncate(end);
  }

  /** @param {string} line */
  #note(line) {
    const bytes = new TextEncoder().encode(`${line}\n`);
    this.#guard(() => writeAll(this.journal, bytes, this.#journalEnd));
    this.#journalEnd += bytes.length;
  }

  /** @template T @param {() => T} action @returns {T | undefined} */
  #guard(action) {
    if (this.#failed) return undefined;
    try {
      return action();
    } catch (error) {
      this.#failed = true;
      this.onFailure(error);
      return undefined;
    }
  }
}

/**
 * @param {string} text of a journal, which may end in the middle
 * @param {string} url of its file
 * @returns {{ identity: Identity | null, blocks: Map<number, Block>, end: number }} `blocks` by their first byte; `end`:
 *   where what was read ends
 */
export function readJournal(text, url) {
  /** @type {Map<number, Block>} */
  const blocks = new Map();
  // What follows the last line's end was not finished.
  const [header, ...lines] = text.split("\n").slice(0, -1);
  const { url: of, total, etag } = parse(header);
  if (of !== url || !Number.isInteger(total) || typeof etag !== "string") return { identity: null, blocks, end: 0 };
  let end = header.length + 1;
  for (const line of lines) {
    const found = /^(\d+) (\d+) ([0-9a-f]{64}|-)$/.exec(line);
    if (!found) break;
    blocks.set(Number(found[1]), { length: Number(found[2]), sha256: found[3] });
    end += line.length + 1;
  }
  return { identity: { total, etag }, blocks, end };
}

/** @param {SyncAccessHandle} file @param {Uint8Array<ArrayBuffer>} bytes @param {number} at */
export function writeAll(file, bytes, at) {
  let done = 0;
  while (done < bytes.length) {
    const wrote = file.write(bytes.subarray(done), { at: at + done });
    if (wrote === 0) throw new DOMException("storage took no more bytes", "QuotaExceededError");
    done += wrote;
  }
}

/** @param {string | undefined} line @returns {any} */
function parse(line) {
  try {
    return JSON.parse(line ?? "") ?? {};
  } catch {
    return {};
  }
}
