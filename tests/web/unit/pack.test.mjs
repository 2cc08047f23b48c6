/** Packs over HTTP: what is fetched, checked, kept and fed, with an engine that only writes down what it gets. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { MANIFEST, readManifest } from "../../../js/pack.js";
import { faultyServer, ranged } from "../support/faulty-server.mjs";
import { memoryOpfs } from "../support/memory-opfs.mjs";
import { RecordingEngine, record, settled, storedFiles } from "../support/recording-engine.mjs";

const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const entry = (name, data) => ({ name, bytes: data.length, sha256: sha256(data) });

/** A manifest's text, sealed as `src/weights/pack/manifest.rs` seals it. */
function sealed(manifest) {
  const content = JSON.stringify(manifest).slice(0, -1);
  return `${content},"sha256":"${sha256(content)}"}\n`;
}

const shards = Array.from({ length: 7 }, (_, i) => randomBytes(90_000 + i));
const texts = { "tokenizer.json": '{"a": "ä"}', "chat_template.jinja": "{{ x }}" };
const shardName = (i) => `weights-0000${i + 1}.bin`;
const manifest = {
  format: "smollm-web-pack", version: 2,
  files: Object.entries(texts).map(([name, text]) => entry(name, Buffer.from(text))),
  shards: shards.map((data, i) => entry(shardName(i), data)),
};
const text = sealed(manifest);
const total = [...manifest.files, ...manifest.shards].reduce((sum, { bytes }) => sum + bytes, 0);

/** The routes of a pack in `folder`, some of them replaced. */
function routes(folder, replaced = {}) {
  const all = {
    [MANIFEST]: (_, response) => response.end(text),
    ...Object.fromEntries(Object.entries(texts).map(([name, content]) => [name, ranged(Buffer.from(content))])),
    ...Object.fromEntries(shards.map((data, i) => [shardName(i), ranged(data)])),
    ...replaced,
  };
  return Object.fromEntries(Object.entries(all).map(([name, route]) => [`${folder}${name}`, route]));
}

/** One bit of a file turned over. */
function flipped(data, at = data.length >> 1) {
  const bad = Buffer.from(data);
  bad[at] ^= 1;
  return bad;
}

let server;
before(async () => {
  server = await faultyServer({
    ...routes("/good/"),
    ...routes("/cut/", { [shardName(2)]: ranged(shards[2], { cuts: [30_000, 1000, 20_000] }) }),
    ...routes("/flipped/", { [shardName(3)]: ranged(flipped(shards[3])) }),
    ...routes("/flipped-once/", { [shardName(3)]: (request, response, nth) => ranged(nth === 0 ? flipped(shards[3]) : shards[3])(request, response, 0) }),
    ...routes("/flipped-text/", { "tokenizer.json": ranged(flipped(Buffer.from(texts["tokenizer.json"]))) }),
    ...routes("/flipped-manifest/", { [MANIFEST]: (_, response) => response.end(text.replace("weights-00002", "weights-00003")) }),
    ...routes("/page/", { [shardName(1)]: (_, response) => response.end("<!doctype html><title>404</title>".padEnd(shards[1].length)) }),
    ...routes("/long/", { [shardName(1)]: (_, response) => response.end(Buffer.concat([shards[1], Buffer.from("x")])) }),
    ...routes("/missing/", { [shardName(1)]: (_, response) => response.writeHead(404).end() }),
    ...routes("/slow/", { [shardName(0)]: () => {} }),
  });
});
after(() => server.close());

function load(path, { source, ...more } = {}) {
  return record(source ?? { kind: "pack", name: "mine", url: server.url(path) }, more);
}

/** The names of what is whole on a device. */
const names = (opfs) => [...storedFiles(opfs).keys()].map((url) => url.slice(url.lastIndexOf("/") + 1)).sort();

const requested = (path) => server.log.filter((entry) => entry.path.startsWith(path)).map((entry) => entry.path.slice(path.length));

function assertFed({ engine }) {
  assert.deepEqual(engine.spec, { format: "pack", context_length: 99, name: "mine", files: { [MANIFEST]: text, ...texts } });
  assert.deepEqual(engine.files.map(({ name }) => name), shards.map((_, i) => shardName(i)));
  for (const [i, { parts }] of engine.files.entries()) assert.ok(Buffer.concat(parts).equals(shards[i]), shardName(i));
}

test("a pack is fetched, fed in order and kept; the second time nothing but its manifest is fetched", async () => {
  const first = await load("/good/");
  assertFed(first);
  assert.deepEqual(first.info, { context_length: 7, model: "Recorded" });
  assert.equal(first.notStored, "");
  await settled(first.opfs);
  assert.deepEqual(names(first.opfs), [MANIFEST, ...Object.keys(texts), ...shards.map((_, i) => shardName(i))].sort());
  assert.equal(first.progress.at(-1).loaded, total);
  assert.ok(first.progress.every((p) => p.total === total && p.loaded <= total && !p.cached));
  assert.ok(["download", "verify", "warmup"].every((phase) => first.progress.some((p) => p.phase === phase)));

  const before = server.log.length;
  const second = await load("/good/", { opfs: first.opfs });
  assertFed(second);
  assert.deepEqual(server.log.slice(before).map(({ path }) => path), [`/good/${MANIFEST}`]);
  assert.equal(second.progress.at(-1).loaded, total);
  assert.ok(second.progress.every(({ cached }) => cached));
});

test("several shards are on their way at once, but not all", async () => {
  const stop = new AbortController();
  const loading = load("/slow/", { signal: stop.signal });
  const asked = () => requested("/slow/").filter((name) => name.startsWith("weights"));
  while (asked().length < 4) await new Promise((resolve) => setTimeout(resolve, 10));
  // The first never comes, so a fifth would have to be asked for too early.
  await new Promise((resolve) => setTimeout(resolve, 100));
  stop.abort();
  await assert.rejects(loading, { code: "aborted" });
  assert.deepEqual(asked().sort(), [0, 1, 2, 3].map(shardName));
});

test("a broken connection goes on inside its shard", async () => {
  assertFed(await load("/cut/"));
  const ranges = server.log.filter(({ path }) => path === `/cut/${shardName(2)}`).map(({ range }) => range);
  assert.ok(ranges.length > 1 && ranges.slice(1).every((range) => /^bytes=[1-9]/.test(range)), ranges.join());
});

test("a flipped bit is refused by the file's name, and what is wrong is not kept", async () => {
  for (const [path, name] of [["/flipped/", shardName(3)], ["/flipped-text/", "tokenizer.json"], ["/flipped-manifest/", MANIFEST]]) {
    const opfs = memoryOpfs();
    await assert.rejects(load(path, { opfs }), (error) => error.code === "integrity" && error.message.startsWith(`${name}: sha-256 is`), path);
    assert.ok(!names(opfs).includes(name), path);
  }
  // The server mended, the visitor tries again: what was right need not be fetched twice.
  const opfs = memoryOpfs();
  await assert.rejects(load("/flipped-once/", { opfs }), { code: "integrity" });
  assertFed(await load("/flipped-once/", { opfs }));
  const times = (i) => requested("/flipped-once/").filter((name) => name === shardName(i)).length;
  assert.deepEqual([0, 3].map(times), [1, 2]);
});

test("a copy that was damaged on this device is fetched again", async () => {
  const { opfs } = await load("/good/");
  await settled(opfs);
  const url = server.url(`/good/${shardName(5)}`);
  storedFiles(opfs).get(url).bytes[1000] ^= 4;
  const before = server.log.length;
  assertFed(await load("/good/", { opfs }));
  assert.deepEqual(server.log.slice(before).map(({ path }) => path), [`/good/${MANIFEST}`, `/good/${shardName(5)}`]);
  assert.equal(sha256(storedFiles(opfs).get(url).bytes), manifest.shards[5].sha256);
});

test("a server that is gone leaves the pack that is on this device", async () => {
  const gone = await faultyServer(routes("/"));
  const source = { kind: "pack", name: "mine", url: gone.url("/") };
  const { opfs } = await load("", { source });
  await settled(opfs);
  await gone.close();
  assertFed(await load("", { source, opfs }));
  await assert.rejects(load("", { source, signal: AbortSignal.timeout(200) }), { code: "aborted" });
});

test("what is no shard, or no longer one, is an error with the file's name", async () => {
  for (const [path, code] of [["/page/", "not_a_model"], ["/long/", "integrity"], ["/missing/", "http_status"]]) {
    await assert.rejects(load(path), (error) => error.code === code && error.message.startsWith(`${shardName(1)}: `), path);
  }
  await assert.rejects(load("/nowhere/"), (error) => error.code === "http_status" && error.message.startsWith(MANIFEST));
  await assert.rejects(load("", { source: { kind: "directory", url: server.url("/nowhere/") } }),
    (error) => error.code === "http_status" && error.message.startsWith("config.json"));
});

test("a failed engine ends the downloads", async () => {
  const failure = Object.assign(new Error("tensor x: is no good"), { code: "not_a_model" });
  class Failing extends RecordingEngine {
    begin_file() { throw failure; }
  }
  const before = server.log.length;
  await assert.rejects(load("/good/", { engine: new Failing(), opfs: null }), failure);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(server.log.length - before < 2 + Object.keys(texts).length + shards.length);
});

test("the files of a folder are a pack, too", async () => {
  const all = { [MANIFEST]: text, ...texts, ...Object.fromEntries(shards.map((data, i) => [shardName(i), data])) };
  const files = Object.entries(all).map(([name, content]) => ({ name, blob: new Blob([content]) }));
  const { engine } = await load("", { source: { kind: "blobs", files } });
  assert.ok(Buffer.concat(engine.files[6].parts).equals(shards[6]));
  const short = files.filter(({ name }) => name !== shardName(4));
  await assert.rejects(load("", { source: { kind: "blobs", files: short } }), (error) => error.code === "not_a_model" && error.message.includes(shardName(4)));
});

test("manifests that no tool of ours wrote are refused", () => {
  assert.deepEqual(readManifest(text).shards.map(({ name }) => name), shards.map((_, i) => shardName(i)));
  const broken = (change) => {
    const copy = structuredClone(manifest);
    change(copy);
    return sealed(copy);
  };
  for (const bad of [
    "", "{}", "[]", text.slice(0, -2), JSON.stringify(manifest),
    broken((m) => delete m.shards), broken((m) => { m.files = {}; }), broken((m) => { m.shards[0] = null; }),
    broken((m) => { m.shards[0].name = "../x"; }), broken((m) => { m.shards[0].name = "https://a.example/x"; }),
    broken((m) => { m.shards[0].name = ".hidden"; }), broken((m) => { m.shards[0].bytes = 1e12; }), broken((m) => { m.shards[0].bytes = 0.5; }),
    broken((m) => { m.files[0].sha256 = "0"; }),
  ]) {
    assert.throws(() => readManifest(bad), (error) => error.code === "not_a_model" && error.message.startsWith(MANIFEST), bad.slice(0, 60));
  }
  assert.throws(() => readManifest(text.replace("version\":2", "version\":1")), { code: "integrity" });
});
