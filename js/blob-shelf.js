/** The visitor's own files, picked or dropped. */
import { SmolLMError } from "./errors.js";
import { sha256Hex } from "./hash.js";
import { MANIFEST } from "./pack.js";
import { SNIFF_BYTES, checkContent, kindOf } from "./sniff.js";

/** Big enough that crossing into wasm costs nothing, small enough that an abort is seen at once. */
const CHUNK = 1 << 20;

/** @typedef {import("./shelf.js").Shelf} Shelf */

/** @implements {Shelf} */
export class BlobShelf {
  notStored = "the files are the visitor's own";

  /** @param {{ name: string, blob: Blob }[]} files @param {import("./meter.js").Meter} meter */
  constructor(files, meter) {
    this.files = files;
    this.meter = meter;
  }

  /** @param {string} name @param {boolean} optional */
  async text(name, optional) {
    const found = this.#find(name);
    if (!found && optional) return null;
    return (await this.#require(name, found)).text();
  }

  /** @param {{ name: string }} file @param {(file: import("./shelf.js").OpenFile) => Promise<void>} consume */
  async read({ name }, consume) {
    const blob = await this.#require(name, this.#find(name));
    checkContent(new Uint8Array(await blob.slice(0, SNIFF_BYTES).arrayBuffer()), kindOf(name), name);
    this.meter.expect(blob.size);
    await consume({ cached: true, chunks: blobChunks(blob, (position) => this.meter.at(name, position, true)) });
  }

  /** @param {boolean} optional */
  manifest(optional) {
    return this.text(MANIFEST, optional);
  }

  /** @param {import("./pack.js").PackFile} file */
  async whole({ name, sha256 }) {
    const blob = await this.#require(name, this.#find(name));
    const content = new Uint8Array(await blob.arrayBuffer());
    const found = await sha256Hex(content);
    if (found !== sha256) throw new SmolLMError("integrity", `${name}: sha-256 is ${found}, expected ${sha256}`);
    this.meter.at(name, content.length, true);
    return content;
  }

  async reserve() {}

  async keep() {}

  async forget() {}

  /** @param {string} name */
  #find(name) {
    return this.files.find((file) => file.name === name)?.blob;
  }

  /** @param {string} name @param {Blob | undefined} blob */
  async #require(name, blob) {
    if (blob) return blob;
    const given = this.files.map((file) => file.name).join(", ");
    throw new SmolLMError("not_a_model", `${name}: not among the files given (${given})`);
  }
}

/** @param {Blob} blob @param {(position: number) => void} at @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>} */
export async function* blobChunks(blob, at) {
  for (let from = 0; from < blob.size; from += CHUNK) {
    const chunk = new Uint8Array(await blob.slice(from, from + CHUNK).arrayBuffer());
    at(from + chunk.length);
    yield chunk;
  }
}
