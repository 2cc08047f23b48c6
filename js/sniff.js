/**
 * Looks at the first bytes of a file before anything else does: servers answer missing files with
 * a friendly HTML page and status 200, and such a page must reach neither the cache nor the engine.
 */
import { SmolLMError } from "./errors.js";

/** @typedef {"gguf" | "safetensors" | "json" | "text" | "data"} FileKind `data`: whatever its hash says */

/** How many bytes `checkContent` wants to see, or the whole file where it is shorter. */
export const SNIFF_BYTES = 64;

const EXPECTED = { gguf: "a GGUF file", safetensors: "a safetensors file", json: "JSON", text: "text", data: "data" };

/**
 * @param {string} name file name
 * @returns {FileKind}
 */
export function kindOf(name) {
  if (/\.gguf$/i.test(name)) return "gguf";
  if (/\.safetensors$/i.test(name)) return "safetensors";
  return /\.json$/i.test(name) ? "json" : "text";
}

/**
 * @param {Uint8Array} head the first bytes
 * @returns {boolean} whether they begin an HTML page
 */
export function isHtml(head) {
  return /^\s*<(!doctype\s+html|html|head|body|\?xml|!--)/i.test(asText(head));
}

/**
 * Throws `not_a_model` unless `head` can begin a file of that kind.
 *
 * @param {Uint8Array} head the first SNIFF_BYTES bytes
 * @param {FileKind} kind
 * @param {string} name for the message
 */
export function checkContent(head, kind, name) {
  const found = problem(head, kind);
  if (found) throw new SmolLMError("not_a_model", `${name}: expected ${EXPECTED[kind]}, found ${found}`);
}

/** @param {Uint8Array} head @param {FileKind} kind @returns {string | null} */
function problem(head, kind) {
  if (head.length === 0) return "an empty file";
  if (isHtml(head)) return "an HTML page";
  const text = asText(head);
  if (kind === "text" || kind === "data") return null;
  if (kind === "json") return /^\s*[[{]/.test(text) ? null : shown(head);
  if (/^version https:\/\/git-lfs/.test(text)) return "a Git LFS pointer (the file itself was not uploaded)";
  if (kind === "gguf") {
    if (text.startsWith("GGUF")) return null;
    if (/^\s*\{/.test(text)) return "JSON";
    return shown(head);
  }
  // safetensors: a u64 header length, then the header, which is a JSON object
  if (/^\s*\{\s*"/.test(text)) return "JSON";
  if (head.length < 9) return `${head.length} bytes`;
  const high = new DataView(head.buffer, head.byteOffset, 8).getUint32(4, true);
  return high === 0 && head[8] === 0x7b ? null : shown(head);
}

/** @param {Uint8Array} head */
function asText(head) {
  let text = "";
  for (const byte of head.subarray(0, SNIFF_BYTES)) text += String.fromCharCode(byte);
  return text.replace(/^\xef\xbb\xbf/, "");
}

/** @param {Uint8Array} head */
function shown(head) {
  const bytes = [...head.subarray(0, 4)].map((b) => b.toString(16).padStart(2, "0")).join(" ");
  return `bytes starting ${bytes}`;
}
