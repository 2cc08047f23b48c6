import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { download, downloadText } from "../../../js/download.js";
import { faultyServer, ranged } from "../support/faulty-server.mjs";

const body = Buffer.concat([Buffer.from("GGUF"), randomBytes(300_000)]);
const sha256 = createHash("sha256").update(body).digest("hex");
const html = (status) => (_, response) => response.writeHead(status, { "Content-Type": "text/html" }).end("\n<!DOCTYPE html><html></html>");

let server;
before(async () => {
  server = await faultyServer({
    "/good.gguf": ranged(body),
    "/cut.gguf": ranged(body, { cuts: [10, 70_000, 1, 120_000] }),
    "/always-cut.gguf": ranged(body, { cuts: Array(20).fill(0) }),
    "/no-ranges.gguf": ranged(body, { cuts: [100_000], ranges: false }),
    "/changed.gguf": ranged(body, { cuts: [100_000], etag: (nth) => `"${nth}"` }),
    "/busy.gguf": (request, response, nth) => (nth < 2
      ? response.writeHead(503, { "Retry-After": "0" }).end() : ranged(body)(request, response, nth)),
    "/forbidden.gguf": html(403),
    "/html.gguf": html(200),
    "/json.gguf": (_, response) => response.end('{"error": "no such file"}'),
    "/lfs.gguf": (_, response) => response.end("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
    "/empty.gguf": (_, response) => response.end(),
    "/short.gguf": (_, response) => response.end(body.subarray(0, 1000)),
    "/stall.gguf": (request, response, nth) => {
      if (nth > 0) return ranged(body)(request, response, nth);
      response.writeHead(200, { "Content-Length": body.length });
      response.write(body.subarray(0, 5000));
    },
    "/hang.gguf": () => {},
    "/config.json": (_, response) => response.end(' {"a": "ä"}'),
    "/page.json": html(200),
  });
});
after(() => server.close());

const options = (more) => ({ name: "m.gguf", kind: "gguf", backoffMs: 1, ...more });

async function read(path, more = {}) {
  const { body: chunks } = await download(server.url(path), options(more));
  const parts = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

test("a whole file arrives, its length and hash compared", async () => {
  let verified = 0;
  assert.deepEqual(await read("/good.gguf", { bytes: body.length, sha256, onVerify: () => verified++ }), body);
  assert.equal(verified, 1);
});

test("a connection cut again and again goes on by range, byte for byte", async () => {
  const retries = [];
  assert.deepEqual(await read("/cut.gguf", { sha256, onRetry: ({ offset }) => retries.push(offset) }), body);
  assert.equal(retries.length, 4);
  const ranges = server.log.filter(({ path }) => path === "/cut.gguf").map(({ range }) => range);
  assert.equal(ranges[0], undefined);
  // Ten bytes were too few to look at, so the file starts over; then it never goes back.
  assert.equal(ranges[1], undefined);
  for (const [i, range] of ranges.slice(2).entries()) assert.equal(range, `bytes=${retries[i + 1]}-`);
});

test("a server without ranges is read from the start, and what came before is not passed on twice", async () => {
  assert.deepEqual(await read("/no-ranges.gguf", { sha256 }), body);
});

test("a connection that never brings a byte is given up as a network error", async () => {
  await assert.rejects(read("/always-cut.gguf", { retries: 3 }), { code: "network", name: "SmolLMError" });
  assert.equal(server.log.filter(({ path }) => path === "/always-cut.gguf").length, 4);
});

test("a file that changes on the server half-way is refused", async () => {
  await assert.rejects(read("/changed.gguf"), { code: "integrity", message: /m\.gguf: changed on the server/ });
});

test("a busy server is asked again when it says", async () => {
  assert.deepEqual(await read("/busy.gguf"), body);
});

test("silence counts as a broken connection", async () => {
  assert.deepEqual(await read("/stall.gguf", { stallMs: 80 }), body);
  await assert.rejects(read("/hang.gguf", { stallMs: 30, retries: 1 }), { code: "network", message: /no byte for/ });
});

for (const [path, code, message] of [
  ["/missing.gguf", "http_status", /m\.gguf: the server answered status 404/],
  ["/forbidden.gguf", "http_status", /status 403/],
  ["/html.gguf", "not_a_model", /m\.gguf: expected a GGUF file, found an HTML page/],
  ["/json.gguf", "not_a_model", /found JSON/],
  ["/lfs.gguf", "not_a_model", /Git LFS pointer/],
  ["/empty.gguf", "not_a_model", /an empty file/],
]) {
  test(`${path} is ${code}`, () => assert.rejects(read(path), { code, message }));
}

test("nothing is passed on of a file that is no model", async () => {
  const { body: chunks } = await download(server.url("/html.gguf"), options());
  await assert.rejects(async () => { for await (const _ of chunks) assert.fail("a chunk was passed on"); }, { code: "not_a_model" });
});

test("a length or hash other than the promised one is an integrity error", async () => {
  await assert.rejects(read("/good.gguf", { bytes: body.length + 1 }), { code: "integrity", message: /offers 300004 bytes, 300005 expected/ });
  await assert.rejects(read("/short.gguf", { bytes: body.length }), { code: "integrity" });
  await assert.rejects(read("/good.gguf", { sha256: "0".repeat(64) }), { code: "integrity", message: /sha-256 is/ });
});

test("no server at all is a network error with its cause", async () => {
  const gone = await faultyServer({});
  const url = gone.url("/x.gguf");
  await gone.close();
  await assert.rejects(download(url, options({ retries: 1 })), (error) => error.code === "network" && error.cause instanceof TypeError);
});

test("an abort ends it in every phase", async () => {
  const before = AbortSignal.abort();
  await assert.rejects(read("/good.gguf", { signal: before }), { name: "AbortError", code: "aborted" });

  const aborting = () => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error("enough")), 20);
    return stop.signal;
  };
  const enough = (error) => error.name === "AbortError" && error.cause.message === "enough";
  await assert.rejects(read("/hang.gguf", { signal: aborting() }), enough);
  const hanging = async (...args) => new Response(new ReadableStream({ pull: () => new Promise(() => {}) }), await fetch(...args));
  await assert.rejects(read("/good.gguf", { signal: aborting(), fetch: hanging }), enough);
  await assert.rejects(read("/always-cut.gguf", { signal: aborting(), backoffMs: 60_000 }), enough);
});

test("side files: text as it is, and optional ones may be missing or a page instead", async () => {
  const text = (path, more) => downloadText(server.url(path), { name: "config.json", kind: "json", backoffMs: 1, ...more });
  assert.equal(await text("/config.json"), ' {"a": "ä"}');
  assert.equal(await text("/nowhere.json", { optional: true }), null);
  assert.equal(await text("/page.json", { optional: true }), null);
  await assert.rejects(text("/page.json"), { code: "not_a_model", message: /config\.json: expected JSON, found an HTML page/ });
  await assert.rejects(text("/nowhere.json"), { code: "http_status" });
  await assert.rejects(text("/config.json", { maxBytes: 4 }), { code: "not_a_model" });
});
