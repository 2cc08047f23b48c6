/**
 * Two tiny models on a site that misbehaves as told: a GGUF file, `/m/<visit>/tiny.gguf`, and a pack of three shards,
 * `/m/<visit>/pack/`. Every visit is the same files at another address, so that each finds a device without them.
 */
import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const FIXTURES = new URL("../../fixtures/", import.meta.url);
/** Made by `quantize_model --model-path models/llama-tied.gguf --output-path packs/llama-tied --format int4 --name tiny`. */
const PACK = new URL("packs/llama-tied/", FIXTURES);

const sha256 = (data) => createHash("sha256").update(data).digest("hex");

/**
 * @typedef {object} Answer what is done otherwise than by a good server
 * @property {number} [status] and nothing of the file
 * @property {Record<string, string | undefined>} [headers] undefined: none of that name
 * @property {Buffer} [body] another file
 * @property {boolean} [ranges] `false`: the whole file, whatever was asked for
 * @property {boolean} [gzip] with that content coding
 * @property {number} [total] bytes that the file is said to have
 * @property {number} [cutAt] the byte of the file before which the connection breaks
 * @property {number} [holdAt] the byte of the file before which nothing comes any more
 * @property {number} [pause] ms between two pieces of 4 KiB
 *
 * @typedef {{ file: string, nth: number, from: number, to: number }} Asked `file`: its name; `nth`: how often it was asked for before
 */

/** The files, by the end of their path. @returns {Promise<Map<string, Buffer>>} */
async function tinyFiles() {
  const files = new Map([["tiny.gguf", await readFile(new URL("models/llama-tied.gguf", FIXTURES))]]);
  for (const name of await readdir(PACK)) files.set(`pack/${name}`, await readFile(new URL(name, PACK)));
  resplit(files, 3);
  return files;
}

/** Cuts a pack's one shard into several, as a larger model's pack has them. @param {Map<string, Buffer>} files @param {number} count */
function resplit(files, count) {
  const weights = files.get("pack/weights-00001.bin");
  const manifest = JSON.parse(String(files.get("pack/manifest.json")));
  manifest.shards = Array.from({ length: count }, (_, i) => {
    const data = weights.subarray(Math.floor((i * weights.length) / count), Math.floor(((i + 1) * weights.length) / count));
    const name = `weights-0000${i + 1}.bin`;
    files.set(`pack/${name}`, data);
    return { name, bytes: data.length, sha256: sha256(data) };
  });
  delete manifest.sha256;
  const text = JSON.stringify(manifest).slice(0, -1);
  files.set("pack/manifest.json", Buffer.from(`${text},"sha256":"${sha256(text)}"}\n`));
}

export async function faultyModels() {
  const files = await tinyFiles();
  /** @type {(asked: Asked) => Answer | undefined | void} */
  let fault = () => undefined;
  /** Requests and bytes of their answers, oldest first. @type {(Asked & { method: string, range?: string, sent: number, open: boolean })[]} */
  let log = [];

  /** As `startServer` takes it. */
  const intercept = (request, response, headers) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const match = /^\/m\/([^/]+)\/(.+)$/.exec(pathname);
    const file = match?.[2] ?? "";
    if (!files.has(file)) return false;
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const whole = files.get(file);
    const asked = {
      visit: match[1], file: file.replace(/^pack\//, ""), nth: log.filter((entry) => entry.visit === match[1] && `pack/${entry.file}`.endsWith(file)).length,
      from: range ? Number(range[1]) : 0, to: range?.[2] ? Math.min(Number(range[2]) + 1, whole.length) : whole.length,
    };
    const entry = { ...asked, method: request.method, range: request.headers.range, sent: 0, open: true };
    log.push(entry);
    response.on("close", () => { entry.open = false; });
    void answer(request, response, headers, entry, fault(asked) ?? {}, whole);
    return true;
  };

  async function answer(request, response, headers, entry, how, whole) {
    if (how.status && how.status !== 200) return void response.writeHead(how.status, { ...headers, ...how.headers }).end();
    const body = how.body ?? whole;
    const ranged = how.ranges !== false && entry.range && !how.gzip;
    const from = ranged ? entry.from : 0, to = ranged ? Math.min(entry.to, body.length) : body.length;
    if (ranged && from >= body.length) return void response.writeHead(416, headers).end();
    const part = how.gzip ? gzipSync(body) : body.subarray(from, to);
    const total = how.total ?? body.length;
    const all = {
      ...headers, ETag: `"${sha256(body).slice(0, 12)}"`, "Content-Type": "application/octet-stream",
      "Content-Length": how.gzip ? part.length : ranged ? part.length : total,
      ...(how.gzip && { "Content-Encoding": "gzip" }),
      ...(ranged && { "Content-Range": `bytes ${from}-${to - 1}/${total}` }),
      ...how.headers,
    };
    response.writeHead(ranged ? 206 : 200, Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)));
    if (request.method === "HEAD") return void response.end();
    const ends = [how.cutAt, how.holdAt].map((at) => (at === undefined ? Infinity : at - from));
    const stop = Math.min(...ends);
    const send = part.subarray(0, Math.max(0, stop));
    for (let at = 0; at < send.length && !response.destroyed; at += 4 << 10) {
      const piece = send.subarray(at, at + (4 << 10));
      entry.sent += piece.length;
      await new Promise((resolve) => response.write(piece, resolve));
      if (how.pause) await new Promise((resolve) => setTimeout(resolve, how.pause));
    }
    if (stop > part.length) return void response.end();
    // The rest is never sent: what was is delivered, and the connection breaks, or stays as it is.
    if (how.cutAt !== undefined && stop === ends[0]) response.socket?.destroySoon();
  }

  return {
    files, intercept,
    /** Bytes of a whole model. @param {"gguf" | "pack"} kind */
    bytes: (kind) => kind === "gguf" ? files.get("tiny.gguf").length
      : JSON.parse(String(files.get("pack/manifest.json"))).shards.reduce((sum, { bytes }) => sum + bytes, 0),
    /** @param {string} visit @param {"gguf" | "pack"} kind */
    url: (visit, kind) => `/m/${visit}/${kind === "gguf" ? "tiny.gguf" : "pack/"}`,
    /** How the server behaves from now on. @param {typeof fault} [how] */
    behave: (how = () => undefined) => { fault = how; },
    /** What was asked for in a visit, without what only names the files. @param {string} visit */
    asked: (visit) => log.filter((entry) => entry.visit === visit && entry.file !== "manifest.json"),
    forget: () => { log = []; },
  };
}

/** A generator of numbers that always gives the same ones (mulberry32). @param {number} seed @returns {(below: number) => number} */
export function seeded(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}
