import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { connect, downloadText, hasChanged } from "../../../js/download.js";
import { faultyServer, ranged } from "../support/faulty-server.mjs";

const body = Buffer.concat([Buffer.from("GGUF"), randomBytes(300_000)]);
const html = (status) => (_, response) => response.writeHead(status, { "Content-Type": "text/html" }).end("\n<!DOCTYPE html><html></html>");

let server;
before(async () => {
  server = await faultyServer({
    "/good.gguf": ranged(body),
    "/cut.gguf": ranged(body, { cuts: [10, 70_000, 1, 120_000] }),
    "/always-cut.gguf": ranged(body, { cuts: Array(20).fill(0) }),
    "/no-ranges.gguf": ranged(body, { cuts: [100_000], ranges: false }),
    "/refuses-ranges.gguf": (request, response, nth) => (request.headers.range
      ? request.socket.destroy() : ranged(body)(request, response, nth)),
    "/changed.gguf": ranged(body, { cuts: [100_000], etag: (nth) => `"${nth}"` }),
    "/busy.gguf": (request, response, nth) => (nth < 2
      ? response.writeHead(503, { "Retry-After": "0" }).end() : ranged(body)(request, response, nth)),
    "/tomorrow.gguf": (_, response) => response.writeHead(429, { "Retry-After": "86400" }).end(),
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
  const transfer = await connect(server.url(path), options(more));
  const parts = [];
  for await (const chunk of transfer.bytes()) parts.push(chunk);
  return Buffer.concat(parts);
}

test("a whole file arrives, or any range of it, from a server with ranges or without", async () => {
  assert.deepEqual(await read("/good.gguf", { bytes: body.length }), body);
  for (const [from, to] of [[0, 64], [0, 100_000], [5, 6], [70_000, 200_001], [body.length - 1, body.length]]) {
    assert.deepEqual(await read("/good.gguf", { from, to }), body.subarray(from, to), `${from} to ${to}`);
    const all = await read("/no-ranges.gguf", { from, to });
    assert.deepEqual(all.subarray(0, to - from), body.subarray(from, to), `${from} to ${to}, all of it sent`);
  }
  assert.deepEqual(await read("/good.gguf", { from: 200_000 }), body.subarray(200_000));
});

test("another version than the one wanted is refused", async () => {
  const identity = { total: body.length, etag: '"1"' };
  assert.deepEqual(await read("/good.gguf", { from: 100, identity }), body.subarray(100));
  for (const other of [{ ...identity, etag: '"0"' }, { ...identity, total: 1000 }]) {
    await assert.rejects(read("/good.gguf", { from: 100, identity: other }), (error) => error.code === "integrity" && hasChanged(error));
  }
});

test("a connection cut again and again goes on by range, byte for byte", async () => {
  const retries = [];
  assert.deepEqual(await read("/cut.gguf", { onRetry: ({ offset }) => retries.push(offset) }), body);
  assert.equal(retries.length, 4);
  const ranges = server.log.filter(({ path }) => path === "/cut.gguf").map(({ range }) => range);
  assert.equal(ranges[0], undefined);
  // Ten bytes were too few to look at, so the file starts over; then it never goes back.
  assert.equal(ranges[1], undefined);
  for (const [i, range] of ranges.slice(2).entries()) assert.equal(range, `bytes=${retries[i + 1]}-`);
});

test("a server without ranges is read from the start, and what came before is not passed on twice", async () => {
  assert.deepEqual(await read("/no-ranges.gguf"), body);
});

test("a server that breaks the connection where it is asked for a range is asked for everything", async () => {
  assert.deepEqual(await read("/refuses-ranges.gguf", { from: 0, to: 100_000 }), body);
  assert.deepEqual(server.log.filter(({ path }) => path === "/refuses-ranges.gguf").map(({ range }) => range), ["bytes=0-99999", undefined]);
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

test("a server that wants to be left alone for long is not waited for", async () => {
  await assert.rejects(read("/tomorrow.gguf"), { code: "http_status", message: /status 429 .* asks to be left alone for 86400 s/ });
  assert.equal(server.log.filter(({ path }) => path === "/tomorrow.gguf").length, 1);
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
  const transfer = await connect(server.url("/html.gguf"), options());
  await assert.rejects(async () => { for await (const _ of transfer.bytes()) assert.fail("a chunk was passed on"); }, { code: "not_a_model" });
});

test("a length other than the promised one is an integrity error", async () => {
  await assert.rejects(read("/good.gguf", { bytes: body.length + 1 }), { code: "integrity", message: /offers 300004 bytes, 300005 expected/ });
  await assert.rejects(read("/short.gguf", { bytes: body.length }), { code: "integrity" });
});

test("no server at all is a network error with its cause", async () => {
  const gone = await faultyServer({});
  const url = gone.url("/x.gguf");
  await gone.close();
  await assert.rejects(connect(url, options({ retries: 1 })), (error) => error.code === "network" && error.cause instanceof TypeError);
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
