/**
 * An HTTP server that misbehaves as asked: one handler a path, and a log of what was requested.
 */
import { createServer } from "node:http";

/**
 * @param {Record<string, (request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse, nth: number) => void>} routes
 *   `nth`: how often that path was asked for before
 */
export async function faultyServer(routes) {
  const counts = new Map();
  const log = [];
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    const nth = counts.get(path) ?? 0;
    counts.set(path, nth + 1);
    log.push({ method: request.method, path, range: request.headers.range });
    response.setHeader("Access-Control-Allow-Origin", "*");
    if (routes[path]) return routes[path](request, response, nth);
    response.writeHead(404, { "Content-Type": "text/html" }).end("<!doctype html><title>Not found</title>");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    log,
    url: (path) => `http://127.0.0.1:${server.address().port}${path}`,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

/**
 * Serves `body` with ranges and a validator; cuts the nth connection after `cuts[nth]` bytes; sends nothing from byte
 * `holdAt()` of the file on, and leaves the connection open.
 */
export function ranged(body, { etag = '"1"', cuts = [], ranges = true, holdAt = () => Infinity } = {}) {
  return (request, response, nth) => {
    const match = ranges && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const from = match ? Number(match[1]) : 0;
    const to = match && match[2] ? Math.min(Number(match[2]) + 1, body.length) : body.length;
    const tag = typeof etag === "function" ? etag(nth) : etag;
    response.writeHead(match ? 206 : 200, {
      "Content-Length": to - from, ...(tag && { ETag: tag }),
      ...(match && { "Content-Range": `bytes ${from}-${to - 1}/${body.length}` }),
    });
    const part = body.subarray(from, to);
    const hold = holdAt();
    if (hold < to) return void response.write(part.subarray(0, Math.max(0, hold - from)));
    if (cuts[nth] === undefined) return response.end(part);
    response.write(part.subarray(0, cuts[nth]), () => response.socket.destroy());
  };
}
