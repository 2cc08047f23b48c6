/** What is kept on a device, and gone on with: killed tabs, damaged copies, changed files, full disks, other tabs. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { MANIFEST } from "../../../js/pack.js";
import { BLOCK } from "../../../js/partial.js";
import { grid } from "../../../js/pieces.js";
import { ModelStore } from "../../../js/store.js";
import { keyOf } from "../../../js/stored-model.js";
import { faultyServer, ranged } from "../support/faulty-server.mjs";
import { allFiles, memoryOpfs } from "../support/memory-opfs.mjs";
import { fed, record, settled, silent, storedFiles } from "../support/recording-engine.mjs";

const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const gguf = Buffer.concat([Buffer.from("GGUF"), randomBytes(20 * BLOCK + 12_345)]);
const other = Buffer.concat([Buffer.from("GGUF"), randomBytes(gguf.length - 4)]);
const shard = randomBytes(5 * BLOCK + 99);
const pack = (() => {
  const content = JSON.stringify({ files: [], shards: [{ name: "w.bin", bytes: shard.length, sha256: sha256(shard) }] }).slice(0, -1);
  return `${content},"sha256":"${sha256(content)}"}\n`;
})();

let server, version = { body: gguf, etag: '"1"' }, shardBody = shard, hold = Infinity, beforeAnswer = () => {};
const holdAt = () => hold;
before(async () => {
  server = await faultyServer({
    "/m.gguf": (request, response, nth) => {
      beforeAnswer();
      ranged(version.body, { etag: version.etag, holdAt })(request, response, nth);
    },
    "/no-ranges.gguf": ranged(gguf, { ranges: false, holdAt }),
    "/no-tag.gguf": ranged(gguf, { etag: null, holdAt }),
    [`/p/${MANIFEST}`]: (_, response) => response.end(pack),
    "/p/w.bin": (request, response, nth) => ranged(shardBody, { holdAt })(request, response, nth),
  });
});
after(() => server.close());

const source = (path = "/m.gguf") => ({ kind: "gguf", file: { name: path.slice(1), url: server.url(path) } });
const packSource = () => ({ kind: "pack", name: "p", url: server.url("/p/") });

/** Bytes asked for since then, over all ranges of that path. */
const bytesAsked = (since, path = "/m.gguf") => server.log.slice(since).filter((entry) => entry.path === path && entry.method === "GET")
  .reduce((sum, { range }) => {
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "bytes=0-");
    return sum + (to ? Number(to) + 1 : gguf.length) - Number(from);
  }, 0);

/** A copy of a device as it is at this moment: what a tab that was killed leaves to the next. */
async function survivors(opfs) {
  const now = [...allFiles(opfs)].map(([path, { bytes }]) => [path.split("/"), Buffer.from(bytes)]);
  const copy = memoryOpfs();
  for (const [steps, bytes] of now) {
    let folder = copy;
    for (const step of steps.slice(0, -1)) folder = await folder.getDirectoryHandle(step, { create: true });
    (await folder.getFileHandle(steps.at(-1), { create: true })).bytes = bytes;
  }
  return copy;
}

const find = (folder, ending) => [...allFiles(folder)].find(([path]) => path.endsWith(ending))[1];

/** What an unfinished file's journal says is there. */
const journaled = (opfs) => [...allFiles(opfs)].filter(([path]) => path.endsWith(".journal"))
  .flatMap(([, { bytes }]) => bytes.toString().split("\n").slice(1, -1)).reduce((sum, line) => sum + Number(line.split(" ")[1]), 0);

/** Loads from a server that sends nothing from that byte on; when nothing comes any more, the tab is killed, or stopped. */
async function killedAt(what, byte) {
  const opfs = memoryOpfs();
  const stop = new AbortController();
  hold = byte;
  try {
    let loaded = 0;
    const loading = assert.rejects(record(what, { opfs, signal: stop.signal, onProgress: (p) => { loaded = p.loaded; } }), { code: "aborted" });
    for (let last = -1, quiet = 0; quiet < 5; await new Promise((resolve) => setTimeout(resolve, 10))) {
      const now = loaded + journaled(opfs);
      quiet = loaded > 0 && now === last ? quiet + 1 : 0;
      last = now;
    }
    const left = await survivors(opfs);
    stop.abort();
    await loading;
    return { left, aborted: opfs };
  } finally {
    hold = Infinity;
  }
}

test("a file in pieces: in order, each byte once, and the next time none", async () => {
  const before = server.log.length;
  const { engine, opfs, progress } = await record(source());
  assert.ok(fed(engine)["m.gguf"].equals(gguf));
  assert.equal(bytesAsked(before), gguf.length);
  assert.equal(server.log.slice(before).length, grid(gguf.length).length);
  assert.equal(progress.at(-1).loaded, gguf.length);
  assert.ok(progress.every(({ total }) => total === gguf.length));
  await settled(opfs);
  const again = server.log.length;
  const second = await record(source(), { opfs });
  assert.ok(fed(second.engine)["m.gguf"].equals(gguf));
  assert.deepEqual(server.log.slice(again).map(({ method }) => method), ["HEAD"]);
  assert.ok(second.progress.every(({ cached }) => cached));
});

test("a killed tab's download goes on where it was, at most a block lost for each connection", async () => {
  for (const at of [0.02, 0.3, 0.6, 0.97].map((part) => Math.floor(part * gguf.length))) {
    const { left } = await killedAt(source(), at);
    assert.equal(storedFiles(left).size, 0, "half a file must not count");
    const before = server.log.length;
    const { engine } = await record(source(), { opfs: left });
    assert.ok(fed(engine)["m.gguf"].equals(gguf));
    assert.ok(bytesAsked(before) <= gguf.length - at + 5 * BLOCK, `killed at ${at}: ${bytesAsked(before)} of ${gguf.length} asked for again`);
  }
});

test("an aborted download loses nothing at all", async () => {
  const { aborted } = await killedAt(source(), 700_000);
  const kept = journaled(aborted);
  assert.ok(kept >= 700_000);
  const before = server.log.length;
  assert.ok(fed((await record(source(), { opfs: aborted })).engine)["m.gguf"].equals(gguf));
  assert.equal(bytesAsked(before), gguf.length - kept);
});

test("a journal torn anywhere, and bytes that are not what it says, cost a new download of those alone", async () => {
  const { left } = await killedAt(source(), 1_500_000);
  const journal = Buffer.from(find(left, ".journal").bytes);
  for (const length of [0, 1, 50, 130, 200, journal.length - 1]) {
    const torn = await survivors(left);
    find(torn, ".journal").bytes = journal.subarray(0, length);
    assert.ok(fed((await record(source(), { opfs: torn })).engine)["m.gguf"].equals(gguf), `torn at ${length}`);
  }
  const damaged = await survivors(left);
  find(damaged, ".data").bytes[BLOCK + 7] ^= 1;
  assert.ok(fed((await record(source(), { opfs: damaged })).engine)["m.gguf"].equals(gguf));
});

test("a file that changed between two visits starts again, and one that changes in between is an error, then whole", async () => {
  const { left } = await killedAt(source(), 1_000_000);
  version = { body: other, etag: '"2"' };
  try {
    assert.ok(fed((await record(source(), { opfs: left })).engine)["m.gguf"].equals(other));
    const opfs = memoryOpfs();
    let asked = 0;
    beforeAnswer = () => {
      if (++asked === 3) version = { body: gguf, etag: '"3"' };
    };
    await assert.rejects(record(source(), { opfs }), { code: "integrity", message: /m\.gguf: changed on the server/ });
    assert.ok(fed((await record(source(), { opfs })).engine)["m.gguf"].equals(gguf));
  } finally {
    version = { body: gguf, etag: '"1"' };
    beforeAnswer = () => {};
  }
});

test("servers without ranges or without a validator: whole, kept, and never gone on with", async () => {
  for (const path of ["/no-ranges.gguf", "/no-tag.gguf"]) {
    const { left } = await killedAt(source(path), 1_000_000);
    const { engine, opfs } = await record(source(path), { opfs: left });
    assert.ok(fed(engine)[path.slice(1)].equals(gguf), path);
    await settled(opfs);
    assert.ok(storedFiles(opfs).get(server.url(path)).bytes.equals(gguf), path);
  }
});

test("a promised hash is compared, and a file that breaks it is not kept", async () => {
  const good = source();
  Object.assign(good.file, { sha256: sha256(gguf), bytes: gguf.length });
  assert.ok(fed((await record(good)).engine)["m.gguf"].equals(gguf));
  const bad = structuredClone(good);
  bad.file.sha256 = "0".repeat(64);
  const opfs = memoryOpfs();
  await assert.rejects(record(bad, { opfs }), { code: "integrity", message: /^m\.gguf: sha-256 is / });
  assert.equal(storedFiles(opfs).size, 0);
});

test("a shard goes on inside, and starts over where what was kept is wrong", async () => {
  const { left } = await killedAt(packSource(), 2.5 * BLOCK);
  const before = server.log.length;
  const { engine } = await record(packSource(), { opfs: left });
  assert.ok(fed(engine)["w.bin"].equals(shard));
  assert.match(server.log.slice(before).find(({ path }) => path === "/p/w.bin").range, /^bytes=(131072|262144)-/);

  // A part that is damaged shows at the end, by the hash of the whole; then all of it comes again.
  const { left: damaged } = await killedAt(packSource(), 2.5 * BLOCK);
  find(damaged, ".data").bytes[7] ^= 1;
  const again = server.log.length;
  assert.ok(fed((await record(packSource(), { opfs: damaged })).engine)["w.bin"].equals(shard));
  assert.ok(server.log.slice(again).filter(({ path }) => path === "/p/w.bin").some(({ range }) => /^bytes=0-/.test(range ?? "bytes=0-")));

  // The part that is here was right when it came, and the server has another now.
  const { left: stale } = await killedAt(packSource(), 2.5 * BLOCK);
  shardBody = Buffer.from(shard);
  shardBody[shard.length - 1] ^= 1;
  await assert.rejects(record(packSource(), { opfs: stale }), { code: "integrity", message: /^w\.bin: sha-256/ });
  shardBody = shard;
  assert.ok(fed((await record(packSource(), { opfs: stale })).engine)["w.bin"].equals(shard));
});

test("storage that fills up on the way costs the copy, not the model", async () => {
  for (const [what, name, content] of [[source(), "m.gguf", gguf], [packSource(), "w.bin", shard]]) {
    const opfs = memoryOpfs();
    opfs.space.quota = 300_000;
    const { engine, notStored } = await record(what, { opfs });
    assert.ok(fed(engine)[name].equals(content));
    assert.equal(notStored, "its storage is full");
    assert.equal(storedFiles(opfs).size, 0);
    await assert.rejects(record(what, { opfs: Object.assign(memoryOpfs(), { space: { quota: 300_000, used: 0 } }), whenFull: "error" }),
      { code: "storage_full", message: /cannot keep the model: its storage is full/ });
    opfs.space.quota = Infinity;
    assert.equal((await record(what, { opfs })).notStored, "");
  }
});

test("no storage at all is said, too", async () => {
  const { engine, notStored } = await record(source(), { opfs: null });
  assert.ok(fed(engine)["m.gguf"].equals(gguf));
  assert.match(notStored, /no storage for models/);
});

test("the store: what is here, deleting, and making room by the least recently used", async () => {
  const opfs = memoryOpfs();
  const store = await ModelStore.in(opfs, silent);
  const names = async () => (await store.list()).map(({ name }) => name);
  for (const name of ["first", "second", "third"]) {
    const model = store.model(`https://a.example/${name}/`);
    await model.put(`https://a.example/${name}/x`, randomBytes(1000), "");
    await model.note(name, true);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await store.model("https://a.example/first/").note("first", true);
  assert.deepEqual(await names(), ["second", "third", "first"]);
  const [{ bytes, whole, url }] = await store.list();
  assert.ok(bytes > 1000 && whole && url === "https://a.example/second/");

  assert.deepEqual((await store.evict(500, "https://a.example/second/")).map(({ name }) => name), ["third"]);
  assert.deepEqual(await names(), ["second", "first"]);
  const partial = await store.model("https://a.example/second/").partial("https://a.example/second/y", () => {});
  // One that somebody writes stays.
  assert.deepEqual((await store.evict(1e9, "")).map(({ name }) => name), ["first"]);
  await assert.rejects(store.delete("https://a.example/second/"), { name: "NoModificationAllowedError" });
  await partial.close();
  assert.equal(await store.delete("https://a.example/second/"), true);
  assert.equal(await store.delete("https://a.example/second/"), false);
  assert.deepEqual(await store.list(), []);
});

test("files of the first layout are taken over", async () => {
  const opfs = memoryOpfs();
  const v1 = await (await opfs.getDirectoryHandle("smollm-web", { create: true })).getDirectoryHandle("v1", { create: true });
  for (const [url, content, etag] of [[server.url("/m.gguf"), gguf, '"1"'], [server.url("/p/w.bin"), shard, sha256(shard)]]) {
    const folder = await v1.getDirectoryHandle(keyOf(url), { create: true });
    (await folder.getFileHandle("data", { create: true })).bytes = content;
    (await folder.getFileHandle("record.json", { create: true })).bytes = Buffer.from(JSON.stringify({ url, bytes: content.length, etag }));
  }
  const before = server.log.length;
  assert.ok(fed((await record(source(), { opfs })).engine)["m.gguf"].equals(gguf));
  assert.ok(fed((await record(packSource(), { opfs })).engine)["w.bin"].equals(shard));
  assert.deepEqual(server.log.slice(before).map(({ method, path }) => `${method} ${path}`), ["HEAD /m.gguf", `GET /p/${MANIFEST}`]);
  assert.ok(![...allFiles(opfs).keys()].some((path) => path.includes("/v1/")));
});
