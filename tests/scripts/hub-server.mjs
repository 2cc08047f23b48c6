// A local server in the hub's layout: /OWNER/NAME/resolve/REVISION/FILE, large files behind a redirect
// to a "content host" (the same server under another host name), entity tags, byte ranges, and faults.

import { createHash } from "node:crypto";
import { createServer } from "node:http";

/**
 * @typedef {object} HubFile
 * @property {Buffer} bytes
 * @property {boolean} [large] behind a redirect, its SHA-256 in X-Linked-Etag, as the hub does for LFS files
 * @property {number} [cutAt] the first answer breaks off after this many bytes
 * @property {boolean} [stall] and there it hangs, instead of breaking off
 * @property {boolean} [noRanges] the server ignores Range
 * @property {number} [status] answered instead of the file
 */

/** @param {Buffer} bytes */
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

export class HubServer {
  /** @type {Map<string, HubFile>} path below / → file */
  files = new Map();
  /** @type {{ path: string, host: string, range?: string, authorization?: string, status: number }[]} */
  requests = [];

  async start() {
    this.server = createServer((request, response) => this.#answer(request, response));
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", () => resolve(undefined)));
    this.port = this.server.address().port;
    this.endpoint = `http://localhost:${this.port}`;
    return this;
  }

  /** @param {string} id @param {Record<string, HubFile | Buffer | object>} files a plain object becomes JSON */
  publish(id, files, revision = "main") {
    for (const [name, file] of Object.entries(files)) {
      const entry = Buffer.isBuffer(file) ? { bytes: file } : "bytes" in file || "status" in file ? file : json(file);
      this.files.set(`/${id}/resolve/${revision}/${name}`, /** @type {HubFile} */ (entry));
    }
  }

  /** Requests for a file since `start`, content host included. @param {string} name */
  requestsFor(name) {
    return this.requests.filter(({ path }) => path.endsWith(`/${name}`));
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  #answer(request, response) {
    const path = request.url.replace(/^\/content/, "");
    const record = {
      path: request.url,
      host: request.headers.host,
      range: request.headers.range,
      authorization: request.headers.authorization,
      status: 200,
    };
    this.requests.push(record);
    const answer = (status, headers = {}, body = undefined) => {
      record.status = status;
      response.writeHead(status, headers);
      response.end(body);
    };
    const file = this.files.get(path);
    if (!file) return answer(404, { "content-type": "text/plain" }, "Entry not found");
    if (file.status) return answer(file.status, { "content-type": "text/plain" }, "no");
    const hash = sha256(file.bytes);
    if (file.large && path === request.url) {
      return answer(302, {
        location: `http://127.0.0.1:${this.port}/content${path}`,
        "x-linked-etag": `"${hash}"`,
        "x-linked-size": file.bytes.length,
      });
    }
    const etag = `"${hash.slice(0, 32)}"`;
    let start = 0;
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const sameFile = !request.headers["if-range"] || request.headers["if-range"] === etag;
    if (range && !file.noRanges && sameFile) start = Number(range[1]);
    if (start && start >= file.bytes.length) {
      return answer(416, { "content-range": `bytes */${file.bytes.length}` });
    }
    const headers = { etag, "content-length": file.bytes.length - start };
    if (start) headers["content-range"] = `bytes ${start}-${file.bytes.length - 1}/${file.bytes.length}`;
    record.status = start ? 206 : 200;
    response.writeHead(record.status, headers);
    if (file.cutAt !== undefined) {
      const part = file.bytes.subarray(start, file.cutAt);
      response.write(part, () => file.stall || setTimeout(() => response.destroy(), 50));
      delete file.cutAt;
      return;
    }
    response.end(file.bytes.subarray(start));
  }
}

/** @param {object} value @returns {HubFile} */
function json(value) {
  return { bytes: Buffer.from(JSON.stringify(value)) };
}

/** A safetensors file of one tensor of `floats` numbers. @param {number} floats */
export function safetensors(floats, seed = 1) {
  const data = Buffer.alloc(floats * 4);
  for (let i = 0; i < floats; i++) data.writeFloatLE(Math.sin(seed * (i + 1)), i * 4);
  const header = Buffer.from(
    JSON.stringify({ "model.norm.weight": { dtype: "F32", shape: [floats], data_offsets: [0, data.length] } }),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}
