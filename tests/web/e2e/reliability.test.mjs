/**
 * What becomes of a model's loading under every fault we could think of, in Chromium with its real storage, on tiny
 * models. After each: success or the right typed error, then a visit to the mended server, whose answer has the token ids
 * of a visit without faults; and how many bytes came twice. `docs/reliability.md` keeps the table that this prints:
 * `UPDATE_DOCS=1` writes it there, and without it the page must have it as it is.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { BLOCK } from "../../../js/partial.js";
import { launchChromium } from "../support/browsers.mjs";
import { faultyModels, seeded } from "../support/faulty-models.mjs";
import { openBlank } from "../support/in-page.mjs";
import { serveSite } from "../support/site.mjs";

const DOC = new URL("../../../docs/reliability.md", import.meta.url);
const KINDS = ["gguf", "pack"];
/** In a browser's own time, several of these pass before a download is given up. */
const STALL_MS = 400;
const A_BLOCK_EACH = "at most a block a connection";

let models, site, browser, context, page;
const clean = {};
before(async () => {
  models = await faultyModels();
  site = await serveSite({ intercept: models.intercept });
  browser = await launchChromium();
  context = await browser.newContext();
  page = await open(context);
  for (const kind of KINDS) clean[kind] = await visit(models.url("clean", kind));
  assert.deepEqual(KINDS.map((kind) => clean[kind].ids.length), [12, 12]);
});
after(async () => {
  await browser?.close();
  await site?.close();
});

/** A page that can load a model and ask it something. */
async function open(from, blank = site.blank) {
  const opened = await from.newPage();
  await openBlank(opened, blank);
  await opened.evaluate((stallMs) => {
    window.visit = async (model, { worker, ...options }) => {
      const { value, error } = await window.settled(async () => {
        const engine = await window.SmolLM.load(model, {
          logLevel: "silent", threads: 1, stallMs, ...options, onProgress: (p) => { window.progress = p; },
          ...(worker && { workerFactory: () => new Worker(`/blank/${worker}`, { type: "module" }) }),
        });
        try {
          const stream = await engine.chat.completions.create({
            messages: [{ role: "user", content: "Tell me" }], temperature: 0, max_tokens: 12, logprobs: true, stream: true,
          });
          const ids = [];
          for await (const { choices: [choice] } of stream) ids.push(...(choice.logprobs?.content ?? []).map((t) => t.token_id));
          return { ids, stored: engine.info.stored, why: engine.info.why.at(-1) };
        } finally {
          await engine.unload();
        }
      });
      return value ?? error;
    };
  }, STALL_MS);
  return opened;
}

/** @param {string} model @param {object} [options] */
function visit(model, options = {}, on = page) {
  return on.evaluate(([what, how]) => window.visit(what, how), [model, options]);
}

/** Begins a visit, and leaves it alone. */
async function begin(model, on, options = {}) {
  await on.evaluate(([what, how]) => { window.visiting = window.visit(what, how); }, [model, options]);
}

/** @type {{ fault: string, outcome: string, again: string, twice: string }[]} */
const table = [];
let visits = 0;

/** Answered as without faults, and kept. */
function assertClean(found, kind, label) {
  assert.deepEqual(found.ids, clean[kind].ids, `${label}, ${kind}: ${JSON.stringify(found)}`);
}

/** Bytes that were sent for nothing, as the model has no more than its bytes. */
function sentTwice(name, kind) {
  const files = new Map();
  for (const { file, sent, method } of models.asked(name)) {
    if (method === "GET" && (kind === "gguf" || file.startsWith("weights"))) files.set(file, (files.get(file) ?? 0) + sent);
  }
  return [...files.values()].reduce((sum, sent) => sum + sent, 0) - models.bytes(kind);
}

/** After a model was loaded well, nothing of it is asked for again. */
async function assertKept(name, kind, label) {
  models.behave();
  const before = models.asked(name).length;
  assertClean(await visit(models.url(name, kind)), kind, `${label}, from this device`);
  assert.deepEqual(models.asked(name).slice(before).filter(({ method }) => method === "GET").map(({ file }) => file), [], `${label}, ${kind}: not kept`);
}

/**
 * A fault: a visit under it, one after it.
 * @param {string} label
 * @param {{ code?: string, kinds?: string[], fault: (kind: string) => (asked: any) => any, options?: object, twice?: string, most?: number | null, kept?: boolean, stored?: RegExp }} how
 *   `code`: of the error; without it the visit succeeds. `twice`, `most`: what the table says of bytes that come twice, and
 *   how many may; null where the fault sends whole files for nothing
 */
function faultTest(label, {
  code, kinds = KINDS, fault, options, kept = true, stored,
  // A visit that fails ends its other connections, and what they had of a block is lost.
  twice = code ? A_BLOCK_EACH : "none", most = code ? 4 * BLOCK : 0,
}) {
  test(label, async () => {
    for (const kind of kinds) {
      const name = `v${++visits}`;
      models.behave(fault(kind));
      const found = await visit(models.url(name, kind), options);
      if (code) {
        assert.equal(found.code, code, `${kind}: ${JSON.stringify(found)}`);
        assert.ok(found.ours && found.message.length > 20, found.message);
        models.behave();
        assertClean(await visit(models.url(name, kind)), kind, label);
      } else {
        assertClean(found, kind, label);
        assert.equal(found.stored, kept, found.why);
        if (stored) assert.match(found.why, stored);
      }
      if (most !== null) assert.ok(sentTwice(name, kind) <= most, `${label}, ${kind}: ${sentTwice(name, kind)} bytes came twice`);
      await assertKept(name, kind, label).catch((error) => { if (kept) throw error; });
    }
    table.push({
      fault: label + (kinds.length < KINDS.length ? ` (${kinds.join()})` : ""), outcome: code ? `\`${code}\`` : "answers",
      again: code ? "answers" : "–", twice: most === null ? "–" : twice,
    });
  });
}

/** The largest file of a model. */
const large = (kind) => (kind === "gguf" ? "tiny.gguf" : "weights-00002.bin");
const last = (kind) => (kind === "gguf" ? "tiny.gguf" : "weights-00003.bin");
/** A fault of the first answer for the large file, or of the first few. */
const first = (answer, times = 1) => (kind) => ({ file, nth }) => (file === large(kind) && nth < times ? answer : undefined);
const always = (answer) => first(answer, Infinity);
const size = (kind) => models.files.get(kind === "gguf" ? "tiny.gguf" : `pack/${large(kind)}`).length;

test("cut at 40 random bytes: each goes on where it broke", async () => {
  const random = seeded(40);
  let most = 0;
  for (let i = 0; i < 40; i++) {
    const kind = KINDS[i % 2];
    const name = `v${++visits}`;
    const file = kind === "gguf" ? "tiny.gguf" : `weights-0000${1 + random(3)}.bin`;
    const cutAt = random(kind === "gguf" ? size(kind) : models.files.get(`pack/${file}`).length);
    let cut = false;
    models.behave((asked) => {
      if (cut || asked.file !== file || asked.from > cutAt || asked.to <= cutAt) return undefined;
      cut = true;
      return { cutAt };
    });
    assertClean(await visit(models.url(name, kind)), kind, `cut at ${cutAt} of ${file}`);
    assert.ok(cut, `nothing was cut at ${cutAt}`);
    most = Math.max(most, sentTwice(name, kind));
  }
  // What a browser has received and not passed on yet is lost with the connection: never more than was asked for at once.
  assert.ok(most <= BLOCK, `${most} bytes came twice`);
  table.push({ fault: "connection cut at 40 random bytes", outcome: "answers", again: "–", twice: "at most a range" });
});

test("a tab closed at 10 random bytes: the next goes on", async () => {
  const random = seeded(10);
  for (let i = 0; i < 10; i++) {
    const kind = i < 7 ? "gguf" : "pack";
    const name = `v${++visits}`;
    const file = kind === "gguf" ? "tiny.gguf" : `weights-0000${1 + random(3)}.bin`;
    const holdAt = random(models.files.get(kind === "gguf" ? file : `pack/${file}`).length);
    models.behave((asked) => (asked.file === file && asked.from <= holdAt && asked.to > holdAt ? { holdAt } : undefined));
    const tab = await open(context);
    await begin(models.url(name, kind), tab, { stallMs: 60_000 });
    // Until nothing is on its way any more but what is held.
    for (let quiet = 0, before = -1; quiet < 4; await new Promise((resolve) => setTimeout(resolve, 25))) {
      const asked = models.asked(name);
      const now = asked.reduce((sum, { sent }) => sum + sent, 0) + 1e9 * asked.filter((entry) => entry.open).length;
      quiet = asked.some((entry) => entry.file === file && entry.open) && now === before ? quiet + 1 : 0;
      before = now;
    }
    await tab.close();
    models.behave();
    assertClean(await visit(models.url(name, kind)), kind, `closed at ${holdAt} of ${file}`);
    assert.ok(sentTwice(name, kind) <= 4 * BLOCK, `closed at ${holdAt} of ${file}: ${sentTwice(name, kind)} bytes came twice`);
    await assertKept(name, kind, "a tab closed");
  }
  table.push({ fault: "tab closed at 10 random bytes", outcome: "–", again: "answers", twice: A_BLOCK_EACH });
});

faultTest("a stall in the middle", {
  fault: (kind) => ({ file, from, to, nth }) => (file === large(kind) && nth < 5 && from <= size(kind) >> 1 && to > size(kind) >> 1 ? { holdAt: size(kind) >> 1 } : undefined),
});
faultTest("stalls without end", { code: "network", fault: (kind) => ({ file }) => (file === large(kind) ? { holdAt: 0 } : undefined) });
faultTest("404", { code: "http_status", fault: always({ status: 404 }) });
faultTest("403", { code: "http_status", fault: always({ status: 403 }) });
faultTest("429 with Retry-After, once", { fault: first({ status: 429, headers: { "Retry-After": "1" } }) });
faultTest("429 with Retry-After of a day", { code: "http_status", fault: always({ status: 429, headers: { "Retry-After": "86400" } }) });
faultTest("500 twice", { fault: first({ status: 500 }, 2) });
faultTest("500 without end", { code: "http_status", fault: always({ status: 500 }) });
faultTest("an HTML page with status 200", {
  code: "not_a_model", most: null,
  fault: always({ body: Buffer.from(`<!doctype html><title>Welcome</title>${" ".repeat(5000)}`), ranges: false, headers: { "Content-Type": "text/html" } }),
});
faultTest("a length other than the promised one", {
  code: "integrity", kinds: ["pack"], fault: (kind) => always({ body: Buffer.alloc(size(kind) + 1, 7) })(kind), most: null,
});
faultTest("a file that ends before its length", {
  code: "integrity", kinds: ["gguf"], most: null,
  fault: (kind) => always({ body: models.files.get("tiny.gguf").subarray(0, 400_000), total: size(kind), headers: { ETag: '"short"' } })(kind),
});
faultTest("a changed ETag between two ranges", {
  code: "integrity", kinds: ["gguf"], most: null,
  fault: () => ({ file, nth }) => (file === "tiny.gguf" && nth > 0 ? { headers: { ETag: '"another"' } } : undefined),
});
faultTest("no ranges", { fault: () => () => ({ ranges: false }) });
faultTest("no ranges, and cut in the middle", {
  most: null, fault: (kind) => ({ file, nth }) => (file === large(kind) && nth === 0 ? { ranges: false, cutAt: size(kind) >> 1 } : { ranges: false }),
});
faultTest("no Content-Length", { fault: () => () => ({ ranges: false, headers: { "Content-Length": undefined, "Transfer-Encoding": "chunked" } }) });
faultTest("Content-Encoding: gzip", { most: null, fault: () => () => ({ gzip: true }) });
faultTest("a flipped byte", {
  code: "integrity", kinds: ["pack"], most: null,
  fault: (kind) => {
    const bad = Buffer.from(models.files.get(`pack/${large(kind)}`));
    bad[bad.length >> 1] ^= 1;
    return always({ body: bad })(kind);
  },
});
faultTest("a truncated last shard", {
  code: "integrity", kinds: ["pack"], most: null,
  fault: (kind) => ({ file }) => (file === last(kind) ? { body: models.files.get(`pack/${file}`).subarray(0, -1000) } : undefined),
});
faultTest("storage denied", { fault: () => () => undefined, options: { worker: "denied.js" }, kept: false, stored: /^not stored: this browser or window has no storage/ });
faultTest("storage full in the middle", { fault: () => () => undefined, options: { worker: "full.js" }, kept: false, stored: /^not stored: its storage is full/ });

test("two tabs at once: one downloads, both answer", async () => {
  const tabs = await Promise.all([open(context), open(context)]);
  for (const kind of KINDS) {
    const name = `v${++visits}`;
    models.behave(() => ({ pause: 1 }));
    const found = await Promise.all(tabs.map((tab) => visit(models.url(name, kind), { stallMs: 60_000 }, tab)));
    for (const each of found) {
      assertClean(each, kind, "two tabs");
      assert.equal(each.stored, true, each.why);
    }
    assert.equal(sentTwice(name, kind), 0);
  }
  // The one who downloads is closed: the other goes on with what is there.
  const name = `v${++visits}`;
  const holdAt = 300_000;
  models.behave(({ nth }) => (nth < 4 ? { holdAt } : undefined));
  await begin(models.url(name, "gguf"), tabs[0], { stallMs: 60_000 });
  while (!models.asked(name).some(({ from, sent }) => from + sent === holdAt)) await new Promise((resolve) => setTimeout(resolve, 10));
  await begin(models.url(name, "gguf"), tabs[1], { stallMs: 60_000 });
  await tabs[1].waitForFunction(() => navigator.locks.query().then(({ pending }) => pending.some(({ name: lock }) => lock.startsWith("smollm-web http"))));
  models.behave();
  await tabs[0].close();
  assertClean(await tabs[1].evaluate(() => window.visiting), "gguf", "a waiting tab");
  assert.ok(sentTwice(name, "gguf") <= 4 * BLOCK);
  await tabs[1].close();
  table.push({ fault: "two tabs at once", outcome: "both answer", again: "–", twice: "none" });
  table.push({ fault: "two tabs, the downloading one closed (gguf)", outcome: "the other answers", again: "–", twice: A_BLOCK_EACH });
});

test("a full device: memory, an error, or other models' place", async () => {
  const fresh = await browser.newContext();
  try {
    const tab = await open(fresh);
    const session = await fresh.newCDPSession(tab);
    const origin = new URL(site.url).origin;
    const quota = (bytes) => session.send("Storage.overrideQuotaForOrigin", { origin, ...(bytes && { quotaSize: bytes }) });
    const told = (bytes, whenFull) => ({ worker: `told.js?quota=${bytes}`, whenFull });
    const held = () => tab.evaluate(async () => (await window.SmolLM.models.usage()).models.map(({ url, whole }) => [new URL(url).pathname, whole]));
    models.behave();
    for (const kind of KINDS) {
      const name = `v${++visits}`;
      // The device's word, before a byte is fetched; then its deed, since it said that there was room.
      const before = models.asked(name).length;
      const refused = await visit(models.url(name, kind), told(20_000, "error"), tab);
      assert.equal(refused.code, "storage_full", JSON.stringify(refused));
      assert.match(refused.message, /no room for \d/);
      if (kind === "pack") assert.equal(models.asked(name).slice(before).reduce((sum, { sent }) => sum + sent, 0), 0);
      const without = await visit(models.url(name, kind), told(20_000), tab);
      assertClean(without, kind, "a full device");
      assert.match(without.why, /^not stored: its storage has no room/);
      await quota(20_000);
      const failed = await visit(models.url(name, kind), { whenFull: "error" }, tab);
      assert.equal(failed.code, "storage_full", JSON.stringify(failed));
      assert.match(failed.message, /its storage is full/);
      const memory = await visit(models.url(name, kind), {}, tab);
      assertClean(memory, kind, "a device that fills up");
      assert.equal(memory.stored, false);
      assert.match(memory.why, /^not stored: its storage is full/);
      await quota();
      assert.equal((await visit(models.url(name, kind), {}, tab)).stored, true);
    }
    const [old, newer] = (await held()).map(([path]) => path);
    assert.ok(old.includes("tiny.gguf") && newer.endsWith("/pack/"));
    const { usage } = await tab.evaluate(() => window.SmolLM.models.usage());
    const name = `v${++visits}`;
    const evicting = await visit(models.url(name, "gguf"), told(usage + 100_000, "evict"), tab);
    assertClean(evicting, "gguf", "other models' place");
    assert.equal(evicting.stored, true, evicting.why);
    assert.deepEqual(await held(), [[newer, true], [models.url(name, "gguf"), true]]);
    assert.equal(await tab.evaluate((m) => window.SmolLM.models.delete(m), newer), true);
    assert.deepEqual(await held(), [[models.url(name, "gguf"), true]]);
  } finally {
    await fresh.close();
  }
  table.push(
    { fault: "quota too small", outcome: "answers, not kept", again: "–", twice: "none" },
    { fault: 'quota too small, `whenFull: "error"`', outcome: "`storage_full`", again: "answers", twice: "none" },
    { fault: 'quota too small, `whenFull: "evict"`', outcome: "answers", again: "–", twice: "none" },
  );
});

test("another origin: read with its leave, named without it, followed through redirects", async () => {
  // A page that asks no isolation of others and lets itself ask anybody.
  const open2 = await serveSite({ policy: null, isolation: false });
  const elsewhere = await serveSite({ policy: null, isolation: false, intercept: (request, response, headers) => {
    if (request.url.startsWith("/moved/")) return Boolean(response.writeHead(302, { ...cors, Location: `/m/${request.url.slice(7)}` }).end());
    return models.intercept(request, response, { ...headers, ...cors });
  } });
  let cors = { "Access-Control-Allow-Origin": "*" };
  try {
    const tab = await open(context, open2.blank);
    const at = (path) => new URL(path, elsewhere.url).href;
    models.behave();
    for (const kind of KINDS) {
      assertClean(await visit(at(models.url(`v${++visits}`, kind)), {}, tab), kind, "another origin");
      assertClean(await visit(at(models.url(`v${++visits}`, kind).replace("/m/", "/moved/")), {}, tab), kind, "redirected");
      const name = `v${++visits}`;
      const { "Access-Control-Allow-Origin": allowed } = cors;
      cors = {};
      const refused = await visit(at(models.url(name, kind)), {}, tab);
      assert.equal(refused.code, "network", JSON.stringify(refused));
      assert.match(refused.message, /answers, but lets no other site read it: it has to send Access-Control-Allow-Origin/);
      cors = { "Access-Control-Allow-Origin": allowed };
      assertClean(await visit(at(models.url(name, kind)), {}, tab), kind, "with leave");
    }
    await tab.close();
  } finally {
    await elsewhere.close();
    await open2.close();
  }
  table.push(
    { fault: "another origin, which hides Content-Range and ETag", outcome: "answers", again: "–", twice: "none" },
    { fault: "a redirect", outcome: "answers", again: "–", twice: "none" },
    { fault: "another origin without CORS", outcome: "`network`", again: "answers", twice: "none" },
  );
});

test("a worker ended in mid-answer", async () => {
  models.behave();
  for (const kind of KINDS) {
    const name = `v${++visits}`;
    const lost = await page.evaluate(async (model) => {
      let worker;
      const engine = await window.SmolLM.load(model, {
        logLevel: "silent", threads: 1, workerFactory: (url) => (worker = new Worker(url, { type: "module" })),
      });
      // As a browser does it, without a word to the page.
      return (await window.settled(() => engine.chat.completions.create({
        messages: [{ role: "user", content: "Tell me" }], temperature: 0, max_tokens: 12, onPrefill: () => worker.terminate(),
      }))).error?.code;
    }, models.url(name, kind));
    assert.equal(lost, "engine_lost");
    await assertKept(name, kind, "a lost worker");
  }
  table.push({ fault: "worker ended in mid-answer", outcome: "`engine_lost`", again: "answers", twice: "none" });
});

test("the table", async () => {
  const lines = [
    "| fault | the visit | the next, without it | bytes that came twice |", "| --- | --- | --- | --- |",
    ...table.map(({ fault, outcome, again, twice }) => `| ${fault} | ${outcome} | ${again} | ${twice} |`),
  ];
  console.log(lines.join("\n"));
  const page = await readFile(DOC, "utf8");
  const place = /(<!-- faults -->\n)[^]*?(<!-- \/faults -->)/;
  assert.match(page, place);
  const wanted = page.replace(place, (_, before, after) => `${before}${lines.join("\n")}\n${after}`);
  if (process.env.UPDATE_DOCS) return writeFile(DOC, wanted);
  assert.equal(page, wanted, "docs/reliability.md has another table: run this with UPDATE_DOCS=1");
});
