/** What a model would take: judged from figures, surveyed from files and from a device, timed, and asked for by a page. */
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";
import { SmolLM } from "../../../js/index.js";
import { REGISTRY } from "../../../js/models.js";
import { BLOCK } from "../../../js/partial.js";
import { rehearse } from "../../../js/rehearse.js";
import { ModelStore } from "../../../js/store.js";
import { surveyModel } from "../../../js/survey.js";
import { judge } from "../../../js/verdict.js";
import { LocalWorker, fakeGguf } from "../support/fake-engine.mjs";
import { faultyServer } from "../support/faulty-server.mjs";
import { memoryOpfs } from "../support/memory-opfs.mjs";
import { record, settled, silent } from "../support/recording-engine.mjs";

const MB = 1e6;
const footprint = (contextLength, peak) => ({ contextLength, weights: 100 * MB, cache: peak - 110 * MB, peak });
/** A model of 70 MB that takes 200 MB of memory, or less with shorter contexts. */
const found = (more) => ({
  model: "", totalBytes: 70 * MB, lackingBytes: 70 * MB, asked: footprint(4096, 200 * MB),
  shorter: [footprint(2048, 150 * MB), footprint(512, 120 * MB)], grows: () => true, heldBytes: 0, speed: "speed: fine", ...more,
});

test("what fits is said with its figures, and nothing is proposed", () => {
  const { fits, why, instead } = judge(found({ deviceMemory: 8, room: 100 * MB }));
  assert.equal(fits, true);
  assert.equal(instead, null);
  assert.deepEqual(why, [
    "download: 70 MB",
    "memory: 200 MB, of which weights 100 MB, a context of 4,096 tokens 90 MB, everything else 10 MB",
    "speed: fine",
  ]);
  assert.match(judge(found({ lackingBytes: 0 })).why[0], /^download: nothing, all of it \(70 MB\)/);
  assert.equal(judge(found({ lackingBytes: 1.5 * MB })).why[0], "download: 1.5 MB of 70 MB, the rest is on this device");
});

test("too much memory: the longest context that fits is proposed", () => {
  const limited = judge(found({ grows: (bytes) => bytes <= 130 * MB }));
  assert.equal(limited.fits, false);
  assert.deepEqual(limited.instead, { contextLength: 512 });
  assert.match(limited.why.join("\n"), /does not fit: the browser gives the engine no 200 MB[^]*choose contextLength: 512, which takes 120 MB/);
  // A device of 0.25 GiB leaves 134 MB to a page.
  const small = judge(found({ deviceMemory: 0.25 }));
  assert.deepEqual(small.instead, { contextLength: 512 });
  assert.match(small.why.join("\n"), /does not fit: this device has about 0\.25 GiB/);
});

test("where no context helps, a smaller model is, if there is one", () => {
  const [known] = REGISTRY;
  const huge = found({ asked: footprint(2048, 3000 * MB), shorter: [footprint(512, 2900 * MB)], deviceMemory: 4 });
  assert.deepEqual(judge(huge).instead, { model: known.id });
  const none = judge({ ...huge, model: known.id });
  assert.equal(none.fits, false);
  assert.equal(none.instead, null);
  assert.match(none.why.at(-1), /choose a smaller model/);
});

test("too little storage: to keep nothing is proposed, and what else there is to delete", () => {
  const { fits, instead, why } = judge(found({ room: 50 * MB, heldBytes: 240 * MB }));
  assert.equal(fits, false);
  assert.deepEqual(instead, { cache: "none" });
  assert.match(why.at(-1), /storage lacks 20 MB; choose cache: "none".*delete other models.*240 MB/);
  // What is here already needs no room.
  assert.equal(judge(found({ room: 50 * MB, lackingBytes: 40 * MB })).fits, true);
  assert.deepEqual(judge(found({ room: 0, grows: () => false })).instead, { model: REGISTRY[0].id, cache: "none" });
});

test("the rehearsal takes one of the quickest of several counts, after warming up, and the share into account", async () => {
  let now = 0, steps = 0;
  const engine = {
    rehearse: () => 0.25,
    // Slow at first, then 2 ms a step, now and then held up.
    step: () => { now += ++steps <= 10 ? 12 : steps % 37 === 0 ? 60 : 2; },
  };
  assert.equal(Math.round(await rehearse(engine, { now: () => now })), 125);
  assert.ok(now < 800, `${now} ms`);
});

const PACK = new URL("../../fixtures/packs/llama-tied/", import.meta.url);
const serveBytes = (content, headers = {}) => (request, response) => {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const [from, to] = range ? [Number(range[1]), range[2] ? Math.min(Number(range[2]) + 1, content.length) : content.length] : [0, content.length];
  response.writeHead(range ? 206 : 200, {
    ETag: '"one"', "Content-Length": to - from, ...(range && { "Content-Range": `bytes ${from}-${to - 1}/${content.length}` }), ...headers,
  });
  response.end(request.method === "HEAD" ? undefined : content.subarray(from, to));
};

async function context(opfs) {
  return { store: opfs && await ModelStore.in(opfs, silent), signal: new AbortController().signal, log: silent };
}

test("of a pack, what is not here yet is counted by its files", async () => {
  const names = await readdir(PACK);
  const files = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readFile(new URL(name, PACK))])));
  const server = await faultyServer(Object.fromEntries(names.map((name) => [`/${name}`, serveBytes(files[name])])));
  try {
    const source = { kind: "pack", url: server.url("/") };
    const total = names.filter((name) => name !== "manifest.json").reduce((sum, name) => sum + files[name].length, 0);
    const opfs = memoryOpfs();
    const nothing = await surveyModel(source, await context(opfs));
    assert.equal(nothing.totalBytes, total);
    assert.equal(nothing.lackingBytes, total);
    assert.deepEqual(nothing.spec, { format: "pack", files: { "manifest.json": String(files["manifest.json"]) } });
    assert.deepEqual(server.log.map(({ path }) => path), ["/manifest.json"]);

    await record(source, { opfs });
    await settled(opfs);
    assert.equal((await surveyModel(source, await context(opfs))).lackingBytes, 0);
    const model = (await context(opfs)).store.model(source.url);
    await model.delete(server.url("/tokenizer.json"));
    assert.equal((await surveyModel(source, await context(opfs))).lackingBytes, files["tokenizer.json"].length);
    assert.equal((await surveyModel(source, await context(null))).lackingBytes, total);
  } finally {
    await server.close();
  }
});

test("of a gguf file, the blocks that an earlier visit left count, and nothing else than its beginning is read", async () => {
  const content = Buffer.alloc(20 * BLOCK, 7);
  content.write("GGUF");
  const server = await faultyServer({ "/m.gguf": serveBytes(content) });
  try {
    const url = server.url("/m.gguf");
    const source = { kind: "gguf", file: { name: "m.gguf", url } };
    const opfs = memoryOpfs();
    const partial = await (await context(opfs)).store.model(url).partial(url, assert.fail);
    partial.begin({ total: content.length, etag: '"one"' });
    for (const block of [0, 1, 5]) partial.keep(block * BLOCK, content.subarray(0, BLOCK));
    await partial.close();
    const { totalBytes, lackingBytes, header } = await surveyModel(source, await context(opfs));
    assert.equal(totalBytes, content.length);
    assert.equal(lackingBytes, content.length - 3 * BLOCK);
    for await (const chunk of header) {
      assert.equal(String(Buffer.from(chunk.subarray(0, 4))), "GGUF");
      break;
    }
    assert.equal(server.log.length, 1);
    // Another version than the server's counts for nothing.
    const other = memoryOpfs();
    const old = await (await context(other)).store.model(url).partial(url, assert.fail);
    old.begin({ total: content.length, etag: '"zero"' });
    old.keep(0, content.subarray(0, BLOCK));
    await old.close();
    assert.equal((await surveyModel(source, await context(other))).lackingBytes, content.length);
  } finally {
    await server.close();
  }
});

/** A module without anything in it. */
const WASM = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0);

async function preflight(model, options = {}) {
  const workers = [];
  const realFetch = globalThis.fetch;
  globalThis.fetch = async (url, init) => (String(url).endsWith("_bg.wasm") ? new Response(WASM) : realFetch(url, init));
  try {
    const outcome = await SmolLM.models.preflight(model, {
      logLevel: "silent", workerFactory: () => (workers[workers.length] = new LocalWorker()), ...options,
    }).then((value) => ({ value }), (error) => ({ error }));
    return { ...outcome, workers };
  } finally {
    globalThis.fetch = realFetch;
  }
}

test("a page asks, and the worker is ended", async () => {
  const { value, workers } = await preflight(fakeGguf(1000), { contextLength: 100 });
  assert.equal(value.downloadBytes, 0);
  assert.equal(value.contextLength, 100);
  // 16 pages of the fake's own.
  assert.equal(value.memoryBytes, 16 * 65536 + 1020 + 100 * 1024);
  assert.ok(value.tokensPerSecond > 50 && value.tokensPerSecond <= 500, `${value.tokensPerSecond}`);
  assert.equal(value.fits, true);
  assert.equal(value.instead, null);
  assert.equal(workers.length, 1);
  assert.ok(workers[0].terminated);
});

test("more than WebAssembly has does not fit, and a context that does is named", async () => {
  const { value } = await preflight(fakeGguf(1000), { contextLength: 1 << 23 });
  assert.equal(value.fits, false);
  assert.deepEqual(value.instead, { contextLength: 32768 });
});

test("failures are those of loading; an abort ends it", async () => {
  const failure = async (...given) => {
    const { error, workers } = await preflight(...given);
    assert.ok(workers.every(({ terminated }) => terminated));
    return error?.code;
  };
  assert.equal(await failure(fakeGguf(50)), "not_a_model");
  assert.equal(await failure(fakeGguf(), { contextLength: (1 << 23) + 1 }), "invalid_argument");
  assert.equal(await failure(fakeGguf(), { contextLength: -1 }), "invalid_argument");
  assert.equal(await failure("no-such-model"), "invalid_argument");
  assert.equal(await failure(fakeGguf(), { signal: AbortSignal.abort() }), "aborted");
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 50);
  assert.equal(await failure(fakeGguf(), { signal: stop.signal }), "aborted");
});
