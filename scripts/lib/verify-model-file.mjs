// verify-model-file.mjs PATH NAME [SHA256]: exit 0 when the bytes at PATH are what a file called NAME
// of a model should be. Servers answer 200 with log-in pages, error pages and Git LFS pointers.

import { createHash } from "node:crypto";
import { createReadStream, openSync, readFileSync, readSync, statSync } from "node:fs";

const [path, name, sha256 = ""] = process.argv.slice(2);

/** @param {string} problem @returns {never} */
function refuse(problem) {
  console.error(`${name}: ${problem}`);
  process.exit(1);
}

/** The first `length` bytes of the file. */
function head(length) {
  const buffer = Buffer.alloc(length);
  return buffer.subarray(0, readSync(openSync(path, "r"), buffer, 0, length, 0));
}

const size = statSync(path).size;
if (size === 0) refuse("the answer is empty");

const start = head(512).toString("latin1").trimStart();
if (/^<(!doctype|html|head|\?xml|!--)/i.test(start)) refuse("the answer is a web page, not a model's file");
if (start.startsWith("version https://git-lfs")) refuse("the answer is a Git LFS pointer, not the file itself");

if (name.endsWith(".json")) {
  try {
    JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    refuse(`the answer is no JSON: ${error.message}`);
  }
} else if (name.endsWith(".safetensors")) {
  verifySafetensors();
}

// The hub names the SHA-256 of large files in X-Linked-Etag.
if (/^[0-9a-f]{64}$/.test(sha256)) {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  const found = hash.digest("hex");
  if (found !== sha256) refuse(`expected SHA-256 ${sha256}, found ${found}`);
}

/** Header length, header, and as many bytes of tensors as the header speaks of. */
function verifySafetensors() {
  if (size < 8) refuse(`${size} bytes are no safetensors file`);
  const headerLength = Number(head(8).readBigUInt64LE());
  if (headerLength > size - 8 || headerLength > 100_000_000) refuse("the answer is no safetensors file, or a truncated one");
  let header;
  try {
    header = JSON.parse(head(8 + headerLength).subarray(8).toString("utf8"));
  } catch {
    refuse("the answer is no safetensors file: its header is no JSON");
  }
  let end = 0;
  for (const [tensor, entry] of Object.entries(header)) {
    if (tensor !== "__metadata__") end = Math.max(end, entry.data_offsets[1]);
  }
  const expected = 8 + headerLength + end;
  if (size !== expected) refuse(`truncated: expected ${expected} bytes, found ${size}`);
}
