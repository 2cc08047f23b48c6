/**
 * A static file server for a built site: right MIME types, byte ranges, and the headers that the
 * site asks of a host. Used by scripts/serve and by the tests.
 */
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".webmanifest": "application/manifest+json; charset=utf-8",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".txt": "text/plain; charset=utf-8",
  ".ts": "text/plain; charset=utf-8",
  ".map": "application/json; charset=utf-8",
};

/** What hosts compress; weights are dense already, and are asked for in ranges. */
const COMPRESSED = new Set([".html", ".js", ".mjs", ".css", ".json", ".webmanifest", ".wasm", ".svg", ".txt", ".ts", ".map"]);

/** Compressed files by name and entity tag. @type {Map<string, Promise<Buffer>>} */
const gzipped = new Map();

/**
 * What the site may do. Scripts, styles and workers are its own; wasm may be compiled; nothing is
 * sent or fetched elsewhere. The page carries the same policy in a meta element, for hosts that
 * set no headers.
 */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/**
 * @param {object} options
 * @param {string} options.root folder to serve
 * @param {number} [options.port] 0 for any free one
 * @param {string} [options.host]
 * @param {boolean} [options.isolation] whether to send the headers that give SharedArrayBuffer
 * @param {string | null} [options.policy] what pages may do; null for anything
 * @param {Record<string, string>} [options.overlays] URL prefixes served from other folders
 * @param {(path: string) => Promise<void> | undefined} [options.delay] what an answer waits for: a slow host, for tests
 * @param {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse, headers: Record<string, string>) => boolean} [options.intercept]
 *   answers in place of the files where it returns true: a faulty host, for tests
 * @param {(entry: { method: string, path: string, status: number, bytes: number }) => void} [options.onRequest]
 * @returns {Promise<{ url: string, close(): Promise<void> }>}
 */
export async function startServer({ root, port = 0, host = "127.0.0.1", isolation = true, policy = CONTENT_SECURITY_POLICY, overlays = {}, delay, intercept, onRequest }) {
  const headers = {
    ...(policy !== null && { "Content-Security-Policy": policy }),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    // Revalidated every time: a rebuilt site must not run on yesterday's modules.
    "Cache-Control": "no-cache",
    ...(isolation && {
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
      "Cross-Origin-Resource-Policy": "same-origin",
    }),
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    // Connections serve several requests; what this one wrote is the difference.
    const { socket } = request;
    const before = socket.bytesWritten;
    response.on("close", () => onRequest?.({
      method: request.method ?? "", path: pathname, status: response.statusCode, bytes: socket.bytesWritten - before,
    }));
    try {
      await delay?.(pathname);
      if (intercept?.(request, response, headers)) return;
      await respond(request, response, locate(root, overlays, pathname), headers);
    } catch {
      if (!response.headersSent) response.writeHead(500, headers);
      response.end();
    }
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve(undefined));
  });
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    // The name, not the number: browsers trust both, but only the name is a host people know.
    url: `http://localhost:${address.port}/`,
    close: () => new Promise((resolve) => {
      server.close(() => resolve(undefined));
      server.closeAllConnections();
    }),
  };
}

/**
 * @param {string} root @param {Record<string, string>} overlays @param {string} pathname
 * @returns {string | null} a file name under the root, or null for a path that leaves it
 */
function locate(root, overlays, pathname) {
  let decoded;
  try {
    decoded = decodeURIComponent(pathname);
  } catch {
    return null;
  }
  if (decoded.includes("\0")) return null;
  const prefix = Object.keys(overlays).find((p) => decoded.startsWith(p));
  const base = path.resolve(prefix ? overlays[prefix] : root);
  const file = path.join(base, prefix ? decoded.slice(prefix.length) : decoded);
  return file === base || file.startsWith(base + path.sep) ? file : null;
}

/**
 * @param {import("node:http").IncomingMessage} request
 * @param {import("node:http").ServerResponse} response
 * @param {string | null} name
 * @param {Record<string, string>} headers
 */
async function respond(request, response, name, headers) {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.writeHead(405, { ...headers, Allow: "GET, HEAD" }).end();
    return;
  }
  let file = name;
  let info = file === null ? null : await stat(file).catch(() => null);
  if (file !== null && info?.isDirectory()) {
    if (!(request.url ?? "").split("?")[0].endsWith("/")) {
      const { pathname, search } = new URL(request.url ?? "/", "http://localhost");
      response.writeHead(301, { ...headers, Location: `${pathname}/${search}` }).end();
      return;
    }
    file = path.join(file, "index.html");
    info = await stat(file).catch(() => null);
  }
  if (file === null || !info?.isFile()) {
    response.writeHead(404, { ...headers, "Content-Type": "text/plain; charset=utf-8" }).end("not found\n");
    return;
  }

  const etag = `"${info.size.toString(16)}-${Math.floor(info.mtimeMs).toString(16)}"`;
  const common = {
    ...headers,
    "Content-Type": TYPES[/** @type {keyof typeof TYPES} */ (path.extname(file))] ?? "application/octet-stream",
    "Accept-Ranges": "bytes",
    ETag: etag,
  };
  if (COMPRESSED.has(path.extname(file)) && !request.headers.range && acceptsGzip(request)) {
    await respondCompressed(request, response, file, { ...common, ETag: etag.replace(/"$/, '-gzip"') });
    return;
  }
  if (request.headers["if-none-match"] === etag) {
    response.writeHead(304, common).end();
    return;
  }
  const ifRange = request.headers["if-range"];
  const range = ifRange && ifRange !== etag ? null : parseRange(request.headers.range, info.size);
  if (range === "unsatisfiable") {
    response.writeHead(416, { ...common, "Content-Range": `bytes */${info.size}` }).end();
    return;
  }
  const { start, end } = range ?? { start: 0, end: info.size - 1 };
  response.writeHead(range ? 206 : 200, {
    ...common,
    "Content-Length": end - start + 1,
    ...(range && { "Content-Range": `bytes ${start}-${end}/${info.size}` }),
  });
  if (request.method === "HEAD" || info.size === 0) {
    response.end();
    return;
  }
  createReadStream(file, { start, end, highWaterMark: 1 << 18 })
    .on("error", () => response.destroy())
    .pipe(response);
}

/**
 * The file with gzip, as static hosts send it. Its entity tag is another: these are other bytes.
 *
 * @param {import("node:http").IncomingMessage} request
 * @param {import("node:http").ServerResponse} response
 * @param {string} file
 * @param {Record<string, string>} headers with the entity tag
 */
async function respondCompressed(request, response, file, headers) {
  const common = { ...headers, Vary: "Accept-Encoding" };
  if (request.headers["if-none-match"] === headers.ETag) {
    response.writeHead(304, common).end();
    return;
  }
  const key = `${file} ${headers.ETag}`;
  let body = gzipped.get(key);
  if (!body) gzipped.set(key, body = readFile(file).then((bytes) => promisify(gzip)(bytes, { level: 9 })));
  const bytes = await body;
  response.writeHead(200, { ...common, "Content-Encoding": "gzip", "Content-Length": bytes.length });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

/** @param {import("node:http").IncomingMessage} request */
function acceptsGzip(request) {
  return /(^|,)\s*gzip\s*(,|$)/i.test(String(request.headers["accept-encoding"] ?? ""));
}

/**
 * One range of RFC 9110, section 14; several at once are answered with the whole file.
 * @param {string | undefined} header @param {number} size
 * @returns {{ start: number, end: number } | "unsatisfiable" | null}
 */
export function parseRange(header, size) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (!match || (match[1] === "" && match[2] === "")) return null;
  const [, first, last] = match;
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size - 1 : Math.min(Number(last), size - 1);
  if (first !== "" && last !== "" && Number(last) < start) return null;
  return start >= size || (first === "" && Number(last) === 0) ? "unsatisfiable" : { start, end };
}
